"""A real S3 server, which runs here, with a connection that is cut or a run that is killed."""

import contextlib
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mtlue_cli.errors import StorageError
from mtlue_cli.storage import parts
from mtlue_cli.storage.objects import Listed, Objects
from mtlue_cli.storage.writer import Writer
from tests.small_set import write_checkpoint, write_images
from tests.storage.stores import content, faults, local_content, protect

pytest.importorskip("s3fs")
server = pytest.importorskip("moto.server")

IMAGES, OUT = "s3://bucket/data/photos", "s3://bucket/data/release"
SECRET = "a-secret-of-this-test"


class Wire:
    """Passes what comes to a port on to another one, until it is cut."""

    def __init__(self, port: int) -> None:
        self._to = port
        self._open: list[socket.socket] = []
        self._changing, self._is_cut = threading.Lock(), False
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listening.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        with self._changing:
            self._is_cut = True
            for one in (self._listening, *self._open):
                with contextlib.suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)
                one.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listening.accept()
                with self._changing:
                    if self._is_cut:  # a client that tries again meanwhile
                        near.close()
                        return
                    near.settimeout(30)
                    far = socket.create_connection(("127.0.0.1", self._to))
                    self._open += near, far
                for ends in ((near, far), (far, near)):
                    threading.Thread(target=self._pass, args=ends, daemon=True).start()

    @staticmethod
    def _pass(source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while found := source.recv(65536):
                target.sendall(found)
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_WR)


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """Of the server, which holds an empty bucket."""
    import s3fs

    running = server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    port = running.get_host_and_port()[1]
    for name, value in (
        ("AWS_ACCESS_KEY_ID", "testing"),
        ("AWS_SECRET_ACCESS_KEY", SECRET),
        ("AWS_DEFAULT_REGION", "us-east-1"),
        ("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}"),
        ("AWS_MAX_ATTEMPTS", "1"),
    ):
        monkeypatch.setenv(name, value)
    s3fs.S3FileSystem.clear_instance_cache()
    reset = urllib.request.Request(f"http://127.0.0.1:{port}/moto-api/reset", method="POST")
    urllib.request.urlopen(reset).close()
    s3fs.S3FileSystem(use_listings_cache=False).mkdir("bucket")
    yield port
    s3fs.S3FileSystem.clear_instance_cache()
    running.stop()


@pytest.fixture
def photos(tmp_path: Path, port: int) -> Path:  # noqa: ARG001 - the server runs
    import s3fs

    write_images(tmp_path / "photos")
    s3fs.S3FileSystem(use_listings_cache=False).put(str(tmp_path / "photos"), "bucket/data/photos", recursive=True)
    # What a console of S3 puts for an empty folder.
    s3fs.S3FileSystem(use_listings_cache=False).call_s3("put_object", Bucket="bucket", Key="data/photos/", Body=b"")
    return tmp_path / "photos"


def test_a_cut_connection_and_a_resumed_run_end_with_the_bytes_of_a_local_release(
    photos: Path, port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import s3fs

    options = {"weights": str(write_checkpoint(tmp_path / "generator.safetensors")), "workers": 1}
    protect(photos, tmp_path / "local", **options)
    local = local_content(tmp_path / "local")
    monkeypatch.setattr(parts, "PART_RECORDS", 2)
    monkeypatch.setattr(Writer, "is_dead", True)
    put = Objects.put
    for puts in (9, 15):  # among the photos, and after a part
        with monkeypatch.context() as patch:
            wire, done = Wire(port), list[str]()

            def cut(self: Objects, name: str, *words: Any, **more: Any) -> Listed:  # noqa: ANN401 - whatever put takes
                done.append(name)  # noqa: B023 - called within the loop
                if len(done) == puts:  # noqa: B023
                    wire.cut()  # noqa: B023
                return put(self, name, *words, **more)

            patch.setattr(Objects, "put", cut)
            patch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{wire.port}")
            s3fs.S3FileSystem.clear_instance_cache()
            with pytest.raises(StorageError, match="run the same command again to continue") as raised:
                protect(IMAGES, OUT, **options)
            assert SECRET not in str(raised.value)
        s3fs.S3FileSystem.clear_instance_cache()
        assert len(content(OUT)) > 1
    result = protect(IMAGES, OUT, **options)
    assert result.kept > 0
    assert content(OUT) == local
    assert not any(SECRET.encode() in text or b"testing" in text for text in content(OUT).values())
    assert faults(OUT, against=IMAGES) == ()


def test_the_lock_is_taken_in_one_step(port: int) -> None:  # noqa: ARG001 - the server runs
    objects = Objects(OUT)
    objects.put("release/.mtlue/writer.json", b"first", new=True)
    with pytest.raises(FileExistsError):
        objects.put("release/.mtlue/writer.json", b"second", new=True)
    assert objects.get("release/.mtlue/writer.json") == b"first"
    with pytest.raises(StorageError, match="no such bucket"):
        Objects("s3://nowhere/release").put("release/a", b"")
    assert Objects("s3://nowhere/release").list("release") == {}


@pytest.mark.slow
def test_a_killed_run_is_resumed(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_images(photos, 300)
    import s3fs

    s3fs.S3FileSystem(use_listings_cache=False).put(f"{photos}/", "bucket/data/photos", recursive=True)
    weights = write_checkpoint(tmp_path / "generator.safetensors")
    options = {"weights": str(weights), "workers": 1}
    protect(photos, tmp_path / "local", **options)
    monkeypatch.setattr(parts, "PART_RECORDS", 20)
    code = f"""
import os, signal
import mtlue_cli as mtlue
from mtlue_cli.storage import parts

put, done = parts.Parts.put, []

def put_and_die(self):
    put(self)
    done.append(1)
    if len(done) == 3:
        os.kill(os.getpid(), signal.SIGKILL)

parts.PART_RECORDS, parts.Parts.put = 20, put_and_die
mtlue.protect({IMAGES!r}, out={OUT!r}, weights={str(weights)!r}, device='cpu', workers=1)
"""
    run = subprocess.Popen([sys.executable, "-c", code])
    assert run.wait() == -signal.SIGKILL
    result = protect(IMAGES, OUT, **options)
    assert result.kept >= 60
    assert content(OUT) == local_content(tmp_path / "local")
