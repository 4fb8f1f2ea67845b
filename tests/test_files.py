"""Ordinary files only, and written whole or not at all."""

import errno
import os
import socket
import stat
from pathlib import Path

import pytest

from mtlue_cli.files import file_digest, open_regular, unwritable, write_atomically, write_together


def test_a_fifo_nobody_writes_to_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for read in (open_regular, file_digest):
        with pytest.raises(OSError, match="is a FIFO"):
            read(tmp_path / "pipe")
    with pytest.raises(OSError, match="is a device"):
        open_regular(Path(os.devnull))
    with pytest.raises(OSError, match="directory"):
        open_regular(tmp_path)


def test_a_socket_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as door:
        door.bind("door")
        with pytest.raises(OSError, match="No such device"):
            open_regular(Path("door"))


def test_content_name_and_folder_reach_the_disk_in_this_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[str] = []
    fsync, replace = os.fsync, os.replace

    def told_fsync(handle: int) -> None:
        steps.append("folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else "content")
        fsync(handle)

    def told_replace(old: Path, new: Path) -> None:
        assert old.parent == new.parent
        assert old.read_bytes() == b"one"
        steps.append("name")
        replace(old, new)

    monkeypatch.setattr(os, "fsync", told_fsync)
    monkeypatch.setattr(os, "replace", told_replace)
    write_atomically(tmp_path / "a.bin", b"one")
    assert steps == ["content", "name", "folder"]
    steps.clear()
    write_atomically(tmp_path / "new" / "newer" / "a.bin", b"one")
    assert steps == ["folder", "folder", "content", "name", "folder"]
    steps.clear()
    write_atomically(tmp_path / "b.bin", b"one", keep_name=False)
    assert steps == ["content", "name"]


def test_of_files_written_together_none_has_its_name_before_all_are_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    fsync, replace = os.fsync, os.replace

    def told_fsync(handle: int) -> None:
        if stat.S_ISREG(os.fstat(handle).st_mode):
            steps.append("content")
        fsync(handle)

    def told_replace(old: Path, new: Path) -> None:
        steps.append(new.name)
        replace(old, new)

    monkeypatch.setattr(os, "fsync", told_fsync)
    monkeypatch.setattr(os, "replace", told_replace)
    files = {tmp_path / "a.bin": b"one", tmp_path / "new" / "b.bin": b""}
    assert write_together(files) == {}
    assert steps == ["content", "content", "a.bin", "b.bin"]
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.*")} == files


@pytest.mark.parametrize("step", ["open", "fsync", "replace"])
def test_one_of_several_files_that_cannot_be_written_leaves_nothing_and_the_others_are_in_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    original = getattr(os, step)
    calls: list[int] = []

    def broken(*arguments: object) -> object:
        calls.append(1)
        if len(calls) == 2:
            raise OSError(errno.EIO, os.strerror(errno.EIO), ".tmp")
        return original(*arguments)

    paths = [tmp_path / name for name in ("a.bin", "b.bin", "c.bin")]
    with monkeypatch.context() as patch:
        patch.setattr(os, step, broken)
        faults = write_together(dict.fromkeys(paths, b"one"))
    assert {path: (fault.errno, fault.filename) for path, fault in faults.items()} == {
        paths[1]: (errno.EIO, str(paths[1]))
    }
    assert sorted(tmp_path.iterdir()) == [paths[0], paths[2]]


def test_atomic_write_leaves_nothing_behind_when_it_fails(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    write_atomically(path, b"one")
    with pytest.raises(TypeError):
        write_atomically(path, "text")  # type: ignore[arg-type]  # on purpose
    assert path.read_bytes() == b"one"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.bin"]


def test_the_longest_name_that_fits_can_be_written(tmp_path: Path) -> None:
    path = tmp_path / ("ä" * 125 + "a.png")
    assert len(os.fsencode(path.name)) == 255
    write_atomically(path, b"one")
    assert path.read_bytes() == b"one"


def test_a_failure_names_the_file_that_was_meant(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    with pytest.raises(OSError, match="exists") as caught:
        write_atomically(tmp_path / "a" / "b.png", b"one")
    assert caught.value.filename == str(tmp_path / "a" / "b.png")


@pytest.mark.parametrize(
    ("number", "step"),
    [(errno.ENOSPC, "make space and"), (errno.EROFS, "make the file system writable"), (errno.EIO, "fix that")],
)
def test_a_failed_write_says_what_to_do(number: int, step: str) -> None:
    said = unwritable(Path("out/a.png"), OSError(number, os.strerror(number)))
    assert said.startswith(f"out/a.png cannot be written: {os.strerror(number)}; {step}")
    assert said.endswith("run the same command again to continue")
