"""Ordinary files only, and written whole or not at all."""

import errno
import os
import socket
import stat
from pathlib import Path

import pytest

from mtlue_cli import files
from mtlue_cli.files import (
    OpenFolder,
    discard,
    file_digest,
    open_below,
    open_regular,
    temporary_beside,
    unwritable,
    write_atomically,
    write_together,
)


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
    contents = {tmp_path / "a.bin": b"one", tmp_path / "new" / "b.bin": b""}
    assert write_together(contents) == {}
    assert steps == ["content", "content", "a.bin", "b.bin"]
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.*")} == contents


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


def read_below(folder: Path, name: str) -> bytes:
    with open_below(folder, name) as stream:
        return stream.readall()


@pytest.fixture(params=[True, False], ids=["handles", "paths"])
def with_handles(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether the system can open files from a handle of their folder; Windows cannot."""
    found: bool = request.param and files.HAS_HANDLES
    monkeypatch.setattr(files, "HAS_HANDLES", found)
    return found


@pytest.mark.usefixtures("with_handles")
def test_a_link_that_leaves_the_folder_is_not_followed(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    (folder / "sub").mkdir(parents=True)
    (tmp_path / "secret").write_bytes(b"secret")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "a").write_bytes(b"secret")
    (folder / "sub" / "a").write_bytes(b"mine")
    (folder / "near").symlink_to("sub/a")
    (folder / "inside").symlink_to(folder / "sub")
    (folder / "far").symlink_to("../secret")
    (folder / "outside").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "link").symlink_to(folder)
    for start in (folder, tmp_path / "link"):
        for name in ("sub/a", "near", "inside/a"):
            assert read_below(start, name) == b"mine"
        for name in ("far", "outside/a", "sub/../../secret"):
            with pytest.raises(OSError, match="symbolic link"):
                read_below(start, name)
    for name in ("nothing", "sub/nothing", "sub/a/b"):
        with pytest.raises(OSError, match=r"No such file|Not a directory"):
            read_below(folder, name)
    os.mkfifo(folder / "pipe")
    with pytest.raises(OSError, match="is a FIFO"):
        read_below(folder, "pipe")


def test_nothing_is_written_through_a_link_that_took_a_folder_s_place(tmp_path: Path, with_handles: bool) -> None:
    release, elsewhere = tmp_path / "release", tmp_path / "elsewhere"
    (release / "sub").mkdir(parents=True)
    elsewhere.mkdir()
    opened = OpenFolder(release)
    try:
        assert opened.is_in_place()
        assert write_together({release / "a": b"1", release / "new" / "er" / "b": b"2"}, within=opened) == {}
        assert (release / "new" / "er" / "b").read_bytes() == b"2"
        (release / "sub").rmdir()
        (release / "sub").symlink_to(elsewhere)
        path = release / "sub" / "c"
        (fault,) = write_together({path: b"3"}, within=opened).values()
        assert fault.filename == str(path)
        with pytest.raises(OSError, match=r"link|directory"):
            discard(path, opened)
        release.rename(tmp_path / "moved")
        release.symlink_to(elsewhere)
        assert not opened.is_in_place()
        faults = write_together({release / "d": b"4"}, within=opened)
        assert bool(faults) is not with_handles  # what was opened is written to, wherever it is now
        assert list(elsewhere.iterdir()) == []
        assert [path.name for path in tmp_path.rglob("*.tmp")] == []
    finally:
        opened.close()


@pytest.mark.usefixtures("with_handles")
def test_a_file_of_an_open_folder_is_removed_if_it_is_there(tmp_path: Path) -> None:
    opened = OpenFolder(tmp_path)
    (tmp_path / "a").touch()
    for _ in range(2):
        discard(tmp_path / "a", opened)
        discard(tmp_path / "absent" / "a", opened)
    assert list(tmp_path.iterdir()) == []
    opened.close()


def test_what_stood_under_the_temporary_name_is_not_written_through(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_bytes(b"mine")
    (tmp_path / "release").mkdir()
    temporary_beside(tmp_path / "release" / "a").symlink_to(target)
    opened = OpenFolder(tmp_path / "release")
    write_together({tmp_path / "release" / "a": b"1"}, within=opened)
    assert target.read_bytes() == b"mine"
    opened.close()
