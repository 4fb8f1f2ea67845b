"""An emulator of Google Cloud Storage, which runs here, with a connection that is cut."""

from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from mtlue_cli.errors import StorageError
from mtlue_cli.storage import parts
from mtlue_cli.storage.objects import Objects
from mtlue_cli.storage.writer import Writer
from tests.small_set import write_checkpoint, write_images
from tests.storage.stores import content, cut_after, faults, local_content, protect

gcsfs = pytest.importorskip("gcsfs")
emulator = pytest.importorskip("gcp_storage_emulator.server")

IMAGES, OUT = "gs://bucket/data/photos", "gs://bucket/data/release"


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Photos in a folder, and the same in a bucket."""
    server = emulator.create_server("127.0.0.1", 0, in_memory=True, default_bucket="bucket")
    server.start()
    port = server._api._httpd.socket.getsockname()[1]
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{port}")
    monkeypatch.setitem(fsspec.config.conf, "gs", {"token": "anon"})
    gcsfs.GCSFileSystem.clear_instance_cache()
    try:
        write_images(tmp_path / "photos")
        filesystem = gcsfs.GCSFileSystem(token="anon", use_listings_cache=False)
        filesystem.put(str(tmp_path / "photos"), "bucket/data/photos", recursive=True)
        yield tmp_path / "photos"
    finally:
        gcsfs.GCSFileSystem.clear_instance_cache()
        server.stop()


def test_a_cut_run_that_is_resumed_ends_with_the_bytes_of_a_local_release(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"weights": str(write_checkpoint(tmp_path / "generator.safetensors")), "workers": 1}
    protect(photos, tmp_path / "local", **options)
    monkeypatch.setattr(parts, "PART_RECORDS", 2)
    monkeypatch.setattr(Writer, "is_dead", True)
    with cut_after(14), pytest.raises(StorageError, match="cut"):
        protect(IMAGES, OUT, **options)
    result = protect(IMAGES, OUT, **options)
    assert result.kept > 0
    assert content(OUT) == local_content(tmp_path / "local")
    assert faults(OUT, against=IMAGES) == ()


def test_a_bucket_that_is_not_there_is_named(photos: Path) -> None:  # noqa: ARG001 - the server runs
    with pytest.raises(StorageError, match="nowhere"):
        Objects("gs://nowhere/release").put("release/a", b"")
