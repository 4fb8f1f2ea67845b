import json
import os
from pathlib import Path

import pytest
from msgspec import structs

from mtlue_cli.choices import MetricName
from mtlue_cli.keys import Key
from mtlue_cli.verification.result_cache import (
    ResultCache,
    default_cache_folder,
    document_digest,
)
from mtlue_cli.verification.victim_result import CurvePoint, VictimResult

pytestmark = pytest.mark.usefixtures("tiny_small")

KEY, OTHER = Key(bytes(range(32))), Key(bytes(range(1, 33)))
POINT = CurvePoint(1, 0.5, {"a": None}, {"a": 0.75})
SCORES = {metric: {"a": 0.75} for metric in MetricName}
RESULT = VictimResult("small", 0, SCORES, {}, {"a": 0.75}, (1, 1), (POINT,), 1.5, "k", cached=False)


def test_a_stored_document_comes_back_and_nothing_else_stays(tmp_path: Path) -> None:
    cache = ResultCache(tmp_path / "deep" / "folder", KEY)
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
    assert ResultCache(tmp_path, KEY).load("k") is None


def test_an_entry_of_another_key_counts_as_none(tmp_path: Path) -> None:
    ResultCache(tmp_path, KEY).store("k", RESULT)
    (tmp_path / "k.json").rename(tmp_path / "other.json")
    assert ResultCache(tmp_path, KEY).load("other") is None


@pytest.mark.parametrize(
    "change",
    [{"seconds": "1"}, {"scores": {"accuracy": {"a": 1.5}}}, {"dense": {"d": {"x": -1}}}, {"best_epochs": [1]}],
)
def test_an_entry_of_other_types_counts_as_none(tmp_path: Path, change: dict[str, object]) -> None:
    ResultCache(tmp_path, KEY).store("k", RESULT)
    entry = json.loads((tmp_path / "k.json").read_text())
    entry["result"].update(change)
    (tmp_path / "k.json").write_text(json.dumps(entry))
    assert ResultCache(tmp_path, KEY).load("k") is None


def test_an_entry_that_another_key_made_is_not_used_which_is_said_once(tmp_path: Path) -> None:
    for name in ("k", "l"):
        ResultCache(tmp_path, OTHER).store(name, RESULT)
    said: list[str] = []
    cache = ResultCache(tmp_path, KEY, said.append)
    assert cache.load("k") is cache.load("l") is cache.load("none") is None
    assert len(said) == 1
    assert f"entries of the cache {tmp_path} that this key did not make are not used" in said[0]
    cache.store("k", RESULT)
    assert cache.load("k") is not None


def test_edited_scores_are_not_used(tmp_path: Path) -> None:
    ResultCache(tmp_path, KEY).store("k", RESULT)
    path = tmp_path / "k.json"
    path.write_text(path.read_text().replace("0.75", "0.25"))
    assert ResultCache(tmp_path, KEY).load("k") is None
    del (entry := json.loads(path.read_text()))["mac"]  # as an older version wrote it
    path.write_text(json.dumps(entry))
    assert ResultCache(tmp_path, KEY).load("k") is None


def test_without_a_key_nothing_is_kept(tmp_path: Path) -> None:
    cache = ResultCache(tmp_path, None)
    cache.store("k", RESULT)
    assert list(tmp_path.iterdir()) == []
    assert (cache.load("k"), cache.file("start")) == (None, None)


def test_a_file_of_the_cache_is_vouched_for_by_its_key_and_bytes(tmp_path: Path) -> None:
    said: list[str] = []
    cache = ResultCache(tmp_path, KEY, said.append)
    file = cache.file("start")
    assert file is not None
    assert not cache.is_vouched(file)
    assert said == []
    file.write_bytes(b"weights")
    assert not cache.is_vouched(file)
    cache.vouch(file)
    assert cache.is_vouched(file)
    assert not ResultCache(tmp_path, OTHER).is_vouched(file)
    file.write_bytes(b"others")
    assert not cache.is_vouched(file)
    assert len(said) == 1


def test_a_folder_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    cache = ResultCache(tmp_path / "file" / "below", KEY)
    cache.store("k", RESULT)
    assert cache.load("k") is None


def test_without_a_folder_nothing_is_kept() -> None:
    cache = ResultCache(None, KEY)
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


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no FIFOs")
def test_a_fifo_in_place_of_an_hmac_is_not_waited_for(tmp_path: Path) -> None:
    cache = ResultCache(tmp_path, Key(bytes(range(32))))
    (tmp_path / "backbone").write_bytes(b"content")
    os.mkfifo(tmp_path / "backbone.mac")
    assert not cache.is_vouched(tmp_path / "backbone")
