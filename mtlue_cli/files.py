"""Files on disk: read only where they are ordinary files, written whole or not at all."""

import contextlib
import errno
import hashlib
import io
import os
import platform
import re
import stat
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path, PurePosixPath
from typing import IO, Protocol

_TEMPORARY = re.compile(r"^\..+\.\d+\.tmp$")

RECORDS = ".mtlue"
"""Name of the folder of a release's records."""

MOST_RECORD = 64 << 20
"""Bytes of a record, a config file or a preset: more than any that the program writes."""

HAS_HANDLES = os.open in os.supports_dir_fd and hasattr(os, "O_NOFOLLOW")
"""Whether files can be opened from a handle of their folder; Windows has none."""

_FOLDER = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_CLOEXEC", 0)
_KINDS = ((stat.S_ISDIR, "a folder"), (stat.S_ISFIFO, "a FIFO"), (stat.S_ISSOCK, "a socket"))
_STEPS = {
    errno.ENOSPC: "make space",
    errno.EDQUOT: "free space within the quota",
    errno.EFBIG: "raise the limit on the size of a file",
    errno.EROFS: "make the file system writable",
    errno.EACCES: "make the folder writable",
    errno.EPERM: "make the folder writable",
}


class Remote(Protocol):
    """What a folder stands for whose files lie in an object store (:mod:`mtlue_cli.storage`).

    Files are called by their paths relative to the folder in which :func:`stands_for` put it.
    """

    def held(self, name: str) -> AbstractContextManager[None]:
        """Within it the file is here as a whole."""

    def stream(self, name: str) -> IO[bytes] | None:
        """The file, to be read in parts from where it lies; None if it is here."""

    def digest(self, name: str) -> str | None:
        """SHA-256 of the file if that is known without reading it."""

    def expect(self, names: Iterable[str]) -> None:
        """Files that are about to be opened, in order."""

    def put(self, files: Mapping[str, bytes]) -> Mapping[str, OSError]:
        """Write whole files; why one could not have its name, for each of those."""

    def put_file(self, name: str, content: Path) -> None:
        """Write one whole file."""

    def discard(self, name: str) -> None:
        """Remove the file if it is there."""


_remotes: dict[Path, tuple[Remote, Path, str]] = {}
"""Local folder to what it stands for, the folder that its names lead from, and its URL."""


@contextmanager
def stands_for(folder: Path, remote: Remote, root: Path, url: str) -> Iterator[None]:
    """Within it ``folder``, which need not exist, stands for files of ``remote``; their names lead from ``root``."""
    _remotes[folder] = remote, root, url
    try:
        yield
    finally:
        del _remotes[folder]


def remote_of(path: Path) -> tuple[Remote, str] | None:
    """Where a file lies, and what it is called there; None for one of this machine."""
    for folder, (remote, root, _) in _remotes.items():
        if path.is_relative_to(folder):
            return remote, path.relative_to(root).as_posix()
    return None


def shown(text: str) -> str:
    """``text`` with URLs in place of the folders that stand for them."""
    for folder, (_, _, url) in _remotes.items():
        text = text.replace(str(folder), url)
    return text


def are_elsewhere() -> bool:
    """Whether files of this process lie elsewhere, where other processes do not find them."""
    return bool(_remotes)


def held(path: Path) -> AbstractContextManager[None]:
    """Within it a file that lies elsewhere is here, for what opens it by its path."""
    found = remote_of(path)
    return nullcontext() if found is None else found[0].held(found[1])


def expect(folder: Path, names: Iterable[str]) -> None:
    """Say which files of a folder are about to be opened, in order; if they lie elsewhere they are fetched ahead."""
    found = remote_of(folder)
    if found is not None:
        found[0].expect(f"{found[1]}/{name}" for name in names)


def known_digest(path: Path) -> str | None:
    """SHA-256 of a file that lies elsewhere, if it is known without reading it; None for any other."""
    found = remote_of(path)
    return None if found is None else found[0].digest(found[1])


def stream_of(path: Path) -> IO[bytes] | None:
    """A large file that lies elsewhere, for a library that reads it in parts; None for one to open by its path."""
    found = remote_of(path)
    return None if found is None else found[0].stream(found[1])


def kind_of(mode: int) -> str | None:
    """What stands where a file was expected, in words, from its ``st_mode``; None for an ordinary file."""
    if stat.S_ISREG(mode):
        return None
    return next((words for is_kind, words in _KINDS if is_kind(mode)), "a device")


def open_regular(path: Path, most: int | None = None, opener: Callable[[int], int] | None = None) -> io.FileIO:
    """Open an ordinary file for reading; a FIFO that nobody writes to is refused, not waited for.

    ``most`` is the number of bytes that it may have; None: any. ``opener`` opens it with the flags that it is given;
    None: by its path.

    Raises:
        OSError: It cannot be opened, is no ordinary file, or is larger.
    """
    opener = opener or (lambda flags: os.open(path, flags))
    with held(path):
        stream = io.FileIO(path, opener=lambda _, flags: opener(flags | getattr(os, "O_NONBLOCK", 0)))
    status = os.fstat(stream.fileno())
    kind = kind_of(status.st_mode)
    fault = None if kind is None else f"is {kind}, expected a file"
    if fault is None and most is not None and status.st_size > most:
        fault = f"has {status.st_size:,} bytes, expected at most {most:,}"
    if fault is not None:
        stream.close()
        raise OSError(errno.EINVAL, fault, str(path))
    return stream


def open_below(folder: Path, name: str, most: int | None = None) -> io.FileIO:
    """Open an ordinary file of a folder, which no link may lead out of, whatever stood there when it was looked at.

    Every folder on the way is opened from the one before, so that none can be swapped for a link in between. A link
    that stays inside is followed. ``most`` is the number of bytes that it may have.

    Raises:
        OSError: As :func:`open_regular`, or a link leads out of the folder.
    """
    try:
        return open_regular(folder / name, most, lambda flags: _open_step_by_step(folder, name, flags))
    except OSError as error:
        if error.errno not in (errno.ELOOP, errno.EMLINK, errno.ENOTDIR):
            raise
    root, real = Path(os.path.realpath(folder)), Path(os.path.realpath(folder / name, strict=True))
    if root not in real.parents:
        raise OSError(errno.ELOOP, "leaves its folder by a symbolic link", str(folder / name))
    inside = real.relative_to(root).as_posix()
    return open_regular(folder / name, most, lambda flags: _open_step_by_step(root, inside, flags))


def _open_step_by_step(folder: Path, name: str, flags: int) -> int:
    """Open a file below a folder; a link on the way is an error, where the system can tell."""
    if not HAS_HANDLES:
        if Path(os.path.realpath(folder)) not in Path(os.path.realpath(folder / name)).parents:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
        return os.open(folder / name, flags)
    *parents, last = PurePosixPath(name).parts
    if ".." in parents:
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
    at = os.open(folder, _FOLDER)
    try:
        for parent in parents:
            inner = os.open(parent, _FOLDER | os.O_NOFOLLOW, dir_fd=at)
            os.close(at)
            at = inner
        return os.open(last, flags | os.O_NOFOLLOW, dir_fd=at)
    finally:
        os.close(at)


class OpenFolder:
    """A folder that is opened once, and written to through what was opened: nothing leads outside it.

    Whoever puts a link in its place, or in that of a folder in it, gains nothing. Where the system has no handles of
    folders, paths are looked at before they are written to.

    Raises:
        OSError: It cannot be opened.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._real = Path(os.path.realpath(folder))
        self._handle = os.open(folder, _FOLDER) if HAS_HANDLES else None

    def close(self) -> None:
        """Let go of it."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None

    def is_in_place(self) -> bool:
        """Whether its path still leads to it."""
        if self._handle is None:
            return Path(os.path.realpath(self.folder)) == self._real
        try:
            return os.path.samestat(os.stat(self.folder), os.fstat(self._handle))
        except OSError:
            return False

    def parent_of(self, path: Path, *, make: bool) -> int | None:
        """A handle of the folder of ``path``, which the caller closes; None where the system has none.

        Raises:
            OSError: It is not there and not to be made, or a link or a file stands in its place.
        """
        if self._handle is None:
            inside = Path(os.path.realpath(path.parent))
            if inside != self._real and self._real not in inside.parents:
                raise OSError(errno.ELOOP, f"leaves {self.folder} by a symbolic link", str(path))
            if make:
                _make_folder(path.parent)
            return None
        parts = path.parent.relative_to(self.folder).parts
        if ".." in parts:
            raise OSError(errno.ELOOP, f"leaves {self.folder}", str(path))
        at = os.dup(self._handle)
        try:
            for part in parts:
                try:
                    inner = os.open(part, _FOLDER | os.O_NOFOLLOW, dir_fd=at)
                except FileNotFoundError:
                    if not make:
                        raise
                    with contextlib.suppress(FileExistsError):
                        os.mkdir(part, dir_fd=at)
                        os.fsync(at)
                    inner = os.open(part, _FOLDER | os.O_NOFOLLOW, dir_fd=at)
                os.close(at)
                at = inner
        except BaseException:
            os.close(at)
            raise
        return at


def read_regular(path: Path, most: int = MOST_RECORD) -> bytes:
    """All bytes of an ordinary file that has at most ``most`` of them.

    Raises:
        OSError: As :func:`open_regular`.
    """
    with open_regular(path, most) as stream:
        return stream.readall()


def file_digest(path: Path, most: int | None = None) -> str:
    """SHA-256 of an ordinary file that has at most ``most`` bytes, hexadecimal; None: of any size.

    Raises:
        OSError: As :func:`open_regular`.
    """
    known = known_digest(path)
    if known is not None:
        return known
    with open_regular(path, most) as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def has_digest(path: Path, digest: str, most: int | None = None) -> bool:
    """Whether there is an ordinary file that can be read and has this SHA-256 and at most ``most`` bytes."""
    try:
        return file_digest(path, most) == digest
    except OSError:
        return False


def write_atomically(
    path: Path, content: bytes, *, keep_name: bool = True, private: bool = False, within: OpenFolder | None = None
) -> None:
    """Write a file so that it is at any time either absent, old or whole; folders are made if need be.

    A temporary file beside it is written, synchronised with the disk and renamed; at last the folder is synchronised,
    so that the new name survives a power cut too. ``keep_name=False`` leaves that to the caller, for many files at
    once; ``private`` files are readable by their owner alone, from the first byte on. ``within`` is the folder that
    no link may lead out of.

    Raises:
        OSError: It cannot be written; its ``filename`` is ``path``, and nothing is left behind.
    """
    try:
        for fault in write_together({path: content}, 0o600 if private else 0o666, within).values():
            raise fault
        if keep_name:
            synchronise(path.parent)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


def write_together(
    files: Mapping[Path, bytes], mode: int = 0o666, within: OpenFolder | None = None
) -> dict[Path, OSError]:
    """Write several files, each as :func:`write_atomically` does with ``keep_name=False``; folders are made if need be.

    No file gets its name before all are synchronised with the disk: a name that changes between two of them would be
    one more change for the file system's journal to bring to the disk first.

    Returns:
        Why a file could not be written, for each that was not: nothing is left of those. All others are written.

    Raises:
        StorageError: The files lie elsewhere, and one could not be written there.
    """
    elsewhere = {path: found for path in files if (found := remote_of(path)) is not None}
    if elsewhere:
        (remote,) = {remote for remote, _ in elsewhere.values()}
        refused = remote.put({name: files[path] for path, (_, name) in elsewhere.items()})
        return {path: refused[name] for path, (_, name) in elsewhere.items() if name in refused}
    faults: dict[Path, OSError] = {}
    opened: dict[Path, int] = {}
    named: set[Path] = set()
    folders: dict[Path, int] = {}

    def each(step: Callable[[Path], object]) -> None:
        for path in files:
            if path not in faults:
                try:
                    step(path)
                except OSError as error:
                    faults[path] = OSError(error.errno, error.strerror, str(path))

    def write(path: Path) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
        at = None if within is None else within.parent_of(path, make=True)
        if at is None:
            _make_folder(path.parent)
            opened[path] = os.open(temporary_beside(path), flags, mode)
        else:
            folders[path] = at
            opened[path] = os.open(temporary_beside(path).name, flags | os.O_NOFOLLOW, mode, dir_fd=at)
        rest = memoryview(files[path])
        while rest:
            rest = rest[os.write(opened[path], rest) :]

    def name(path: Path) -> None:
        at = folders.get(path)
        if at is None:
            os.replace(temporary_beside(path), path)
        else:
            os.replace(temporary_beside(path).name, path.name, src_dir_fd=at, dst_dir_fd=at)
        named.add(path)

    try:
        each(write)
        each(lambda path: os.fsync(opened[path]))
        each(name)
    finally:
        for path, handle in opened.items():
            with contextlib.suppress(OSError):
                os.close(handle)
            if path not in named:
                # A disk that refuses to write may refuse to delete too; the first refusal is the one to tell.
                with contextlib.suppress(OSError):
                    if path in folders:
                        os.unlink(temporary_beside(path).name, dir_fd=folders[path])
                    else:
                        temporary_beside(path).unlink(missing_ok=True)
        for at in folders.values():
            os.close(at)
    return faults


def write_lines(path: Path, lines: Iterable[str]) -> None:
    """Write a file of text as :func:`write_atomically` does, without holding all of it in memory if it stays here.

    Raises:
        OSError: It cannot be written; its ``filename`` is ``path``, and nothing is left behind.
        StorageError: It lies elsewhere, and could not be written there.
    """
    if remote_of(path) is not None:
        write_atomically(path, "".join(lines).encode())
        return
    temporary = temporary_beside(path)
    try:
        _make_folder(path.parent)
        with temporary.open("w", encoding="utf-8", newline="\n") as stream:
            stream.writelines(lines)
        put_in_place(temporary, path)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def put_in_place(temporary: Path, path: Path) -> None:
    """Bring a file that is written to the disk, and give it its name; one that lies elsewhere is put there as a whole.

    Raises:
        OSError: The disk refuses.
        StorageError: It could not be written elsewhere.
    """
    found = remote_of(path)
    if found is not None:
        found[0].put_file(found[1], temporary)
        return
    with temporary.open("rb+") as stream:
        os.fsync(stream.fileno())
    temporary.replace(path)
    synchronise(path.parent)


def discard(path: Path, within: OpenFolder | None = None) -> None:
    """Remove a file if it is there; one whose name is too long for the file system is not.

    ``within`` is the folder that no link may lead out of.

    Raises:
        OSError: It cannot be removed.
    """
    found = remote_of(path)
    if found is not None:
        found[0].discard(found[1])
        return
    try:
        at = None if within is None else within.parent_of(path, make=False)
        if at is None:
            path.unlink(missing_ok=True)
            return
        try:
            os.unlink(path.name, dir_fd=at)
        finally:
            os.close(at)
    except FileNotFoundError:
        return
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise


def synchronise(folder: Path) -> None:
    """Bring the names in ``folder`` to the disk, where the system can open folders.

    Raises:
        OSError: The disk refuses.
    """
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(handle)


def is_temporary(name: str) -> bool:
    """Whether a path, in POSIX form, is that of a file that a killed process may have left half written."""
    return _TEMPORARY.match(name.rpartition("/")[2]) is not None


def temporary_beside(path: Path) -> Path:
    """The temporary file for ``path``, of this process of this computer.

    Its name is short, whatever the other is, so that it fits the file system.
    """
    short = hashlib.sha256(os.fsencode(path.name)).hexdigest()[:16]
    return path.with_name(f".{short}.{zlib.crc32(platform.node().encode())}{os.getpid()}.tmp")


def unwritable(path: Path, error: OSError) -> str:
    """The message for a file that could not be written in a run that can be resumed."""
    step = _STEPS.get(error.errno or 0, "fix that")
    return f"{path} cannot be written: {error.strerror or error}; {step} and run the same command again to continue"


def _make_folder(folder: Path) -> None:
    if folder.is_dir():
        return
    _make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    synchronise(folder.parent)
