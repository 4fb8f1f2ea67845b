from pathlib import Path

import pytest
import torch

from mtlue_cli.verification.result_cache import (
    ResultCache,
    default_cache_folder,
    document_digest,
    labels_digest,
    tensor_digest,
)


def test_a_stored_document_comes_back_and_nothing_else_stays(tmp_path: Path) -> None:
    cache = ResultCache(tmp_path / "deep" / "folder")
    assert cache.load("k") is None
    cache.store("k", {"a": 1})
    assert cache.load("k") == {"a": 1}
    assert [path.name for path in (tmp_path / "deep" / "folder").iterdir()] == ["k.json"]


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"key": "other", "result": {}}', '{"key": "k", "result": 3}'])
def test_a_damaged_entry_counts_as_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "k.json").write_text(text)
    assert ResultCache(tmp_path).load("k") is None


def test_a_folder_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    cache = ResultCache(tmp_path / "file" / "below")
    cache.store("k", {})
    assert cache.load("k") is None


def test_without_a_folder_nothing_is_kept() -> None:
    cache = ResultCache(None)
    cache.store("k", {"a": 1})
    assert cache.load("k") is None


def test_default_folder_follows_xdg(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_cache_folder() == tmp_path / "mtlue" / "verify"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative/is/invalid")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert default_cache_folder() == tmp_path / "home" / ".cache" / "mtlue" / "verify"


def test_digests_follow_values_shape_and_type() -> None:
    values = torch.arange(12, dtype=torch.uint8)
    same = tensor_digest(values.view(3, 4))
    assert same == tensor_digest(values.view(4, 3).reshape(3, 4))
    assert (
        len({same, tensor_digest(values), tensor_digest(values.view(3, 4).int()), tensor_digest(values.view(4, 3))})
        == 4
    )
    changed = values.clone()
    changed[7] += 1
    assert tensor_digest(changed) != tensor_digest(values)
    assert tensor_digest(values.view(3, 4).T) == tensor_digest(values.view(3, 4).T.contiguous())


def test_digest_of_labels_ignores_the_order_of_columns() -> None:
    a, b = torch.tensor([0, 1]), torch.tensor([1, -1])
    assert labels_digest({"a": a, "b": b}) == labels_digest({"b": b, "a": a})
    assert labels_digest({"a": a, "b": b}) != labels_digest({"a": b, "b": a})
    assert document_digest({"x": 1, "y": 2}) == document_digest({"y": 2, "x": 1})
