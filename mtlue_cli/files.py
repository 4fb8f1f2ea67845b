"""Files on disk: read only where they are ordinary files, written whole or not at all."""

import contextlib
import errno
import hashlib
import io
import os
import re
import stat
from collections.abc import Callable, Mapping
from pathlib import Path

TEMPORARY = re.compile(r"^\..+\.\d+\.tmp$")
"""Names of files that a killed process may leave half written."""

MOST_RECORD = 64 << 20
"""Bytes of a record, a config file or a preset: more than any that the program writes."""

_KINDS = ((stat.S_ISDIR, "a folder"), (stat.S_ISFIFO, "a FIFO"), (stat.S_ISSOCK, "a socket"))
_STEPS = {
    errno.ENOSPC: "make space",
    errno.EDQUOT: "free space within the quota",
    errno.EFBIG: "raise the limit on the size of a file",
    errno.EROFS: "make the file system writable",
    errno.EACCES: "make the folder writable",
    errno.EPERM: "make the folder writable",
}


def kind_of(mode: int) -> str | None:
    """What stands where a file was expected, in words, from its ``st_mode``; None for an ordinary file."""
    if stat.S_ISREG(mode):
        return None
    return next((words for is_kind, words in _KINDS if is_kind(mode)), "a device")


def open_regular(path: Path, most: int | None = None) -> io.FileIO:
    """Open an ordinary file for reading; a FIFO that nobody writes to is refused, not waited for.

    ``most`` is the number of bytes that it may have; None: any.

    Raises:
        OSError: It cannot be opened, is no ordinary file, or is larger.
    """
    stream = io.FileIO(path, opener=lambda name, flags: os.open(name, flags | getattr(os, "O_NONBLOCK", 0)))
    status = os.fstat(stream.fileno())
    kind = kind_of(status.st_mode)
    fault = None if kind is None else f"is {kind}, expected a file"
    if fault is None and most is not None and status.st_size > most:
        fault = f"has {status.st_size:,} bytes, expected at most {most:,}"
    if fault is not None:
        stream.close()
        raise OSError(errno.EINVAL, fault, str(path))
    return stream


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
    with open_regular(path, most) as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def write_atomically(path: Path, content: bytes, *, keep_name: bool = True, private: bool = False) -> None:
    """Write a file so that it is at any time either absent, old or whole; folders are made if need be.

    A temporary file beside it is written, synchronised with the disk and renamed; at last the folder is synchronised,
    so that the new name survives a power cut too. ``keep_name=False`` leaves that to the caller, for many files at
    once; ``private`` files are readable by their owner alone, from the first byte on.

    Raises:
        OSError: It cannot be written; its ``filename`` is ``path``, and nothing is left behind.
    """
    try:
        for fault in write_together({path: content}, mode=0o600 if private else 0o666).values():
            raise fault
        if keep_name:
            synchronise(path.parent)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


def write_together(files: Mapping[Path, bytes], mode: int = 0o666) -> dict[Path, OSError]:
    """Write several files, each as :func:`write_atomically` does with ``keep_name=False``; folders are made if need be.

    No file gets its name before all are synchronised with the disk: a name that changes between two of them would be
    one more change for the file system's journal to bring to the disk first.

    Returns:
        Why a file could not be written, for each that was not: nothing is left of those. All others are written.
    """
    faults: dict[Path, OSError] = {}
    opened: dict[Path, int] = {}
    named: set[Path] = set()

    def each(step: Callable[[Path], object]) -> None:
        for path in files:
            if path not in faults:
                try:
                    step(path)
                except OSError as error:
                    faults[path] = OSError(error.errno, error.strerror, str(path))

    def write(path: Path) -> None:
        _make_folder(path.parent)
        opened[path] = os.open(temporary_beside(path), os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
        rest = memoryview(files[path])
        while rest:
            rest = rest[os.write(opened[path], rest) :]

    def name(path: Path) -> None:
        os.replace(temporary_beside(path), path)
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
                    temporary_beside(path).unlink(missing_ok=True)
    return faults


def discard(path: Path) -> None:
    """Remove a file if it is there; one whose name is too long for the file system is not.

    Raises:
        OSError: It cannot be removed.
    """
    try:
        path.unlink(missing_ok=True)
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


def temporary_beside(path: Path) -> Path:
    """The temporary file for ``path``: its name is short, whatever the other is, so that it fits the file system."""
    short = hashlib.sha256(os.fsencode(path.name)).hexdigest()[:16]
    return path.with_name(f".{short}.{os.getpid()}.tmp")


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
