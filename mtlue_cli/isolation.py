"""Files of others in a process of its own: libraries that hang, fill memory or abort at a damaged one end only that.

``python -m mtlue_cli.isolation MODULE`` answers requests with the function ``answer`` of a module. A process that is
done waits a few seconds for the next request, so that many files cost one start.
"""

import atexit
import io
import os
import select
import signal
import struct
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from importlib import import_module
from typing import IO, Any, Literal

import msgspec

from mtlue_cli.budget import Budget, budget, deadline, limited_to
from mtlue_cli.errors import first_line

BASE_BYTES = 1 << 30
"""Of address space that a process has for each request, beside what loading its libraries takes."""
_SMALL = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "ARROW_DEFAULT_MEMORY_POOL": "system"}
"""Environment in which libraries reserve little memory ahead."""

_REQUEST = struct.Struct("<QQ")
"""Bytes of a request, and of the memory that it may take."""
_FRAME = struct.Struct("<cQ")
"""Kind of a part of an answer, and its bytes."""
_DATA, _FAULT, _END = b"d", b"f", b"e"
_ENDED = "the library that reads it crashed or took too much memory"
_LOOK_MS = 200
_IDLE_MS = 5000
_MOST_FAULT = 1000
"""Characters of the reason for which a file is refused."""


class IsolationError(Exception):
    """Why the file is refused, in the words of the process."""


class ProcessEndedError(IsolationError):
    """The process ended over the file."""


class Answer(io.RawIOBase):
    """An answer, which can be read once; no part of it may take longer than a file may.

    Raises:
        IsolationError: While it is read: the file is refused, or the process ended.
        ImageError: While it is read: the time is over.
    """

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        super().__init__()
        self._process = process
        self._left = 0
        self.is_complete = False

    def begin(self) -> None:
        """Wait for the first part."""
        if self.is_complete or self._left:
            return
        kind, self._left = _FRAME.unpack(self._exactly(_FRAME.size))
        fault = self._exactly(self._left) if kind == _FAULT else b""
        self.is_complete = kind != _DATA
        if fault:
            self._left = 0
            raise IsolationError(fault.decode(errors="replace"))

    def readable(self) -> Literal[True]:
        """As any file that is read."""
        return True

    def readinto(self, buffer: Any, /) -> int:  # noqa: ANN401 - of any kind of memory
        """The next bytes; 0 at the end."""
        self.begin()
        if self.is_complete:
            return 0
        with memoryview(buffer).cast("B") as view:
            count = self._some(view[: min(len(view), self._left)])
        self._left -= count
        return count

    def _exactly(self, count: int) -> bytes:
        found = bytearray(count)
        with memoryview(found) as view:
            at = 0
            while at < count:
                at += self._some(view[at:])
        return bytes(found)

    def _some(self, view: memoryview) -> int:
        assert self._process.stdout is not None
        if hasattr(select, "poll"):
            poll, check = select.poll(), deadline()
            poll.register(self._process.stdout, select.POLLIN)
            while not poll.poll(_LOOK_MS):
                check()
        count: int = self._process.stdout.readinto(view)  # type: ignore[attr-defined]  # it is not buffered
        if not count:
            raise ProcessEndedError(_ENDED)
        return count


@contextmanager
def asked(module: str, request: Mapping[str, Any], memory: int) -> Iterator[Answer]:
    """Ask the function ``answer`` of a module, in a process that may take so many bytes besides :data:`BASE_BYTES`.

    The limits of the running call hold there too. Memory is limited on Linux alone.

    Raises:
        IsolationError: The file is refused, or the process ended; also while the answer is read.
        ImageError: As :class:`Answer`.
        OSError: No process can be started.
    """
    content = msgspec.msgpack.encode({"request": request, "limits": asdict(budget())})
    head = _REQUEST.pack(len(content), BASE_BYTES + memory)
    process, answer = _begun(module, (head, content), _waiting(module))
    try:
        yield answer
    finally:
        _keep_or_end(module, process, answer)


def _begun(
    module: str, parts: tuple[bytes, bytes], waiting: "subprocess.Popen[bytes] | None"
) -> tuple["subprocess.Popen[bytes]", Answer]:
    """The process that answers, and its answer, whose first part is there."""
    process = waiting or _started(module)
    answer = Answer(process)
    try:
        assert process.stdin is not None
        for part in parts:
            _write(process.stdin, part)
        answer.begin()
        return process, answer
    except (IsolationError, BrokenPipeError) as error:
        _keep_or_end(module, process, answer)
        if answer.is_complete:
            raise
        if waiting is None:
            raise ProcessEndedError(_ENDED) from error
    except BaseException:
        _end(process)
        raise
    return _begun(module, parts, None)  # it may have ended because nobody asked for so long


def _keep_or_end(module: str, process: "subprocess.Popen[bytes]", answer: Answer) -> None:
    if answer.is_complete:
        _idle.setdefault((os.getpid(), module), []).append(process)
    else:
        _end(process)


_idle: dict[tuple[int, str], list["subprocess.Popen[bytes]"]] = {}
"""Process that started them, for a fork has its parent's, and module, to processes that wait."""


def _waiting(module: str) -> "subprocess.Popen[bytes] | None":
    try:
        return _idle[os.getpid(), module].pop()
    except (KeyError, IndexError):
        return None


def _started(module: str) -> "subprocess.Popen[bytes]":
    words = [sys.executable, "-P", "-m", "mtlue_cli.isolation", module]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MTLUE_")}
    environment |= _SMALL
    environment["PYTHONPATH"] = os.pathsep.join(os.path.abspath(part) for part in sys.path)
    pipe, none = subprocess.PIPE, subprocess.DEVNULL
    return subprocess.Popen(words, bufsize=0, stdin=pipe, stdout=pipe, stderr=none, env=environment)


def _write(stream: IO[bytes] | io.FileIO, content: bytes | memoryview) -> None:
    """Write all to a pipe that is not buffered, which takes a part at a time."""
    rest = memoryview(content)
    while rest:
        rest = rest[stream.write(rest) :]


def _end(process: "subprocess.Popen[bytes]") -> None:
    with process:
        process.kill()


@atexit.register
def end_idle() -> None:
    """End the processes that wait."""
    for key in [key for key in _idle if key[0] == os.getpid()]:
        for process in _idle.pop(key):
            _end(process)


class _Frames(io.RawIOBase):
    """Writes parts of an answer."""

    def __init__(self, stream: io.FileIO) -> None:
        super().__init__()
        self._stream = stream

    def writable(self) -> Literal[True]:
        return True

    def write(self, content: Any, /) -> int:  # noqa: ANN401 - of any kind of memory
        with memoryview(content).cast("B") as view:
            self.frame(_DATA, view)
            return len(view)

    def frame(self, kind: bytes, content: bytes | memoryview) -> None:
        """Write a part of a kind; an empty one of data is none."""
        if len(content) or kind != _DATA:
            for part in (_FRAME.pack(kind, len(content)), content):
                _write(self._stream, part)


def serve(module: str) -> None:
    """Answer requests on standard input until there are no more; libraries that print do so to nowhere."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever asks ends it
    requests, out = os.fdopen(os.dup(0), "rb"), _Frames(io.FileIO(os.dup(1), "wb"))
    nowhere = os.open(os.devnull, os.O_RDWR)
    for handle in (0, 1, 2):
        os.dup2(nowhere, handle)
    work = import_module(module).answer
    loaded = _address_space()
    while _is_asked(requests) and len(head := requests.read(_REQUEST.size)) == _REQUEST.size:
        size, memory = _REQUEST.unpack(head)
        given = msgspec.msgpack.decode(requests.read(size))
        _limit_memory(loaded + memory)
        try:
            with limited_to(Budget(**given["limits"])):
                work(out, **given["request"])
            out.frame(_END, b"")
        except BrokenPipeError:
            return
        except Exception as error:
            out.frame(_FAULT, first_line(error)[:_MOST_FAULT].encode(errors="replace"))


def _is_asked(requests: io.BufferedReader) -> bool:
    if not hasattr(select, "poll"):
        return True
    poll = select.poll()
    poll.register(requests, select.POLLIN)
    return bool(poll.poll(_IDLE_MS))


def _address_space() -> int:
    """Bytes of this process; 0 where that is not known."""
    try:
        with open("/proc/self/statm", encoding="ascii") as stream:
            return int(stream.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 0


def _limit_memory(most: int) -> None:
    if sys.platform == "linux":
        import resource

        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        limit = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(resource.RLIMIT_AS, (limit, hard))


if __name__ == "__main__":
    serve(sys.argv[1])
