import json
from pathlib import Path

import pytest
from msgspec import structs

from mtlue_cli.choices import MetricName
from mtlue_cli.verification.result_cache import (
    ResultCache,
    default_cache_folder,
    document_digest,
)
from mtlue_cli.verification.victim_result import CurvePoint, VictimResult

POINT = CurvePoint(1, 0.5, {"a": None}, {"a": 0.75})
SCORES = {metric: {"a": 0.75} for metric in MetricName}
RESULT = VictimResult("small", 0, SCORES, {}, {"a": 0.75}, (1, 1), (POINT,), 1.5, "k", cached=False)


def test_a_stored_document_comes_back_and_nothing_else_stays(tmp_path: Path) -> None:
    cache = ResultCache(tmp_path / "deep" / "folder")
    assert cache.load("k") is None
    cache.store("k", RESULT)
    assert cache.load("k") == structs.replace(RESULT, cached=True)
    assert [path.name for path in (tmp_path / "deep" / "folder").iterdir()] == ["k.json"]


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", '{"key": "k", "result": {}}', '{"key": "k", "result": 3}', '{"key": ' + "[" * 100_000],
)
def test_a_damaged_entry_counts_as_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "k.json").write_text(text)
    assert ResultCache(tmp_path).load("k") is None


def test_an_entry_of_another_key_counts_as_none(tmp_path: Path) -> None:
    ResultCache(tmp_path).store("k", RESULT)
    (tmp_path / "k.json").rename(tmp_path / "other.json")
    assert ResultCache(tmp_path).load("other") is None


@pytest.mark.parametrize(
    "change",
    [{"seconds": "1"}, {"scores": {"accuracy": {"a": 1.5}}}, {"dense": {"d": {"x": -1}}}, {"best_epochs": [1]}],
)
def test_an_entry_of_other_types_counts_as_none(tmp_path: Path, change: dict[str, object]) -> None:
    ResultCache(tmp_path).store("k", RESULT)
    entry = json.loads((tmp_path / "k.json").read_text())
    entry["result"].update(change)
    (tmp_path / "k.json").write_text(json.dumps(entry))
    assert ResultCache(tmp_path).load("k") is None


def test_a_folder_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    cache = ResultCache(tmp_path / "file" / "below")
    cache.store("k", RESULT)
    assert cache.load("k") is None


def test_without_a_folder_nothing_is_kept() -> None:
    cache = ResultCache(None)
    cache.store("k", RESULT)
    assert cache.load("k") is None


def test_default_folder_follows_xdg(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_cache_folder() == tmp_path / "mtlue" / "verify"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative/is/invalid")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert default_cache_folder() == tmp_path / "home" / ".cache" / "mtlue" / "verify"


def test_digest_of_a_document_ignores_the_order_of_keys() -> None:
    assert document_digest({"x": 1, "y": 2}) == document_digest({"y": 2, "x": 1})
