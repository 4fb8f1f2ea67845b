"""Shards in an object store: the release is the local one, and each shard is there as a whole or not at all."""

import io
import tarfile
from pathlib import Path

import fsspec
import numpy as np
import pyarrow
import pytest
from PIL import Image
from pyarrow import parquet

from mtlue_cli.errors import StorageError
from mtlue_cli.storage.writer import Writer
from tests.small_set import write_checkpoint
from tests.storage.stores import content, cut_after, faults, local_content, protect

SHARDS, OUT = "memory://data/shards", "memory://data/release"


def photo(seed: int) -> bytes:
    made = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (24, 24, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(made, "png")
    return made.getvalue()


def write_parquet(folder: Path) -> None:
    for shard in range(3):
        rows = [
            {"image": {"bytes": photo(10 * shard + at), "path": f"{at}.png"}, "round": str(at % 2)} for at in range(4)
        ]
        parquet.write_table(pyarrow.Table.from_pylist(rows), folder / f"train-{shard}.parquet")
    (folder / "README.md").write_text("A data set.\n")


def write_tars(folder: Path) -> None:
    for shard in range(3):
        with tarfile.open(folder / f"train-{shard}.tar", "w") as archive:
            for at in range(4):
                for ending, text in (("png", photo(10 * shard + at)), ("json", b'{"round": "%d"}' % (at % 2))):
                    header = tarfile.TarInfo(f"{at:03}.{ending}")
                    header.size = len(text)
                    archive.addfile(header, io.BytesIO(text))


@pytest.fixture(params=[write_parquet, write_tars])
def shards(request: pytest.FixtureRequest, tmp_path: Path, store: fsspec.AbstractFileSystem) -> Path:
    (tmp_path / "shards").mkdir()
    request.param(tmp_path / "shards")
    store.put(str(tmp_path / "shards"), "/data/shards", recursive=True)
    return tmp_path / "shards"


def test_shards_by_url_are_those_of_a_local_release_also_after_a_cut(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Writer, "is_dead", True)
    weights = write_checkpoint(tmp_path / "generator.safetensors", None)
    options = {"weights": str(weights)}
    protect(shards, tmp_path / "release", **options)
    local = local_content(tmp_path / "release")
    for puts in (1, 6):
        with cut_after(puts), pytest.raises(StorageError, match="cut"):
            protect(SHARDS, OUT, **options)
        there = content(OUT)
        assert all(there[name] == local[name] for name in there if name.startswith("train-"))
    result = protect(SHARDS, OUT, **options)
    assert content(OUT) == local
    assert str(result.release) == OUT
    assert faults(OUT, against=SHARDS) == ()
