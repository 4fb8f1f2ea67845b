"""Shards of strangers: what they announce is looked at before it is read."""

import io
import tarfile
from pathlib import Path

import pyarrow
import pytest
from pyarrow import parquet

from mtlue_cli.budget import Budget, limited_to
from mtlue_cli.errors import InputError
from mtlue_cli.layouts.parquet_images import PARQUET_IMAGES
from mtlue_cli.layouts.webdataset import WEBDATASET


def test_rows_and_columns_of_a_shard_are_limited(tmp_path: Path) -> None:
    table = pyarrow.table({"image": [{"bytes": b"x", "path": "a"}] * 3, "t": [0, 1, 0]})
    parquet.write_table(table, tmp_path / "a.parquet")
    assert len(list(PARQUET_IMAGES.read(tmp_path / "a.parquet"))) == 3
    with limited_to(Budget(max_rows=2)), pytest.raises(InputError, match="has 3 rows, the limit is 2"):
        list(PARQUET_IMAGES.read(tmp_path / "a.parquet"))


def test_a_member_of_a_tar_file_is_no_larger_than_a_photo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for mode in ("w", "w:gz"):
        with tarfile.open(tmp_path / "a.tar", mode) as archive:
            info = tarfile.TarInfo("a.jpg")
            info.size = 1000
            archive.addfile(info, io.BytesIO(bytes(1000)))
        with monkeypatch.context() as patched:
            patched.setattr(Budget, "photo_bytes", 999)
            patched.setattr(tarfile.TarFile, "extractfile", lambda *_: pytest.fail("it was read"))
            with pytest.raises(InputError, match=r"'a.jpg' has 1,000 bytes, more than a photo may have"):
                list(WEBDATASET.read(tmp_path / "a.tar"))
