"""The one run that writes to a URL: an object says which, since no lock of the system reaches other machines."""

import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from secrets import token_hex

import msgspec

from mtlue_cli.errors import InputError, StorageError
from mtlue_cli.storage.mount import RemoteFolder, remote_folder
from mtlue_cli.storage.parts import PARTS

WRITER = "writer.json"
"""Name of the object, among the records of a release."""
STALE = 900.0
"""Seconds after which a run that has not said that it is under way is taken for dead."""


class Writer(msgspec.Struct, frozen=True):
    """What the object holds.

    Attributes:
        host, process: Where the run is under way.
        run: A random name of it.
        seconds: Since 1970, when it last said that it is under way, by its own clock.
    """

    host: str
    process: int
    run: str
    seconds: float

    @property
    def is_dead(self) -> bool:
        """Whether its process has ended, or has not been heard of for long."""
        if self.host == _host():
            if self.process == os.getpid():
                return self.run not in _OWN
            try:
                os.kill(self.process, 0)
            except ProcessLookupError:
                return True
            except OSError:
                pass
        return abs(time.time() - self.seconds) > STALE


_OWN: set[str] = set()
"""Runs of this process that are under way."""


@contextmanager
def sole_remote_writer(release: Path, records: Path) -> Iterator[Callable[[], None]]:
    """Hold a release by a URL for one run; nothing is done for a folder of this machine.

    Yields:
        A check to be made before each step; it raises StorageError if another run has taken the release.

    Raises:
        InputError: Another run holds it, or has written to it since it was listed.
        StorageError: The store cannot be used.
    """
    remote = remote_folder(release)
    if remote is None:
        yield lambda: None
        return
    folder = records.relative_to(remote.root).as_posix()
    name, own = f"{folder}/{WRITER}", token_hex(16)
    _take(remote, name, own)
    _OWN.add(own)
    ended = threading.Event()

    def is_under_way() -> None:
        if not _is_of(remote, name, own):
            raise StorageError(f"another run has taken {remote.objects.url}; this one has ended")

    def say() -> None:
        while not ended.wait(STALE / 10):
            with suppress(StorageError):
                is_under_way()
                remote.objects.put(name, _content(own))

    saying = threading.Thread(target=say, daemon=True)
    saying.start()
    try:
        run, parts = f"{folder}/run.json", f"{folder}/{PARTS}/"
        there = remote.objects.list(folder)
        now = {other: there[other].token for other in there if other == run or other.startswith(parts)}
        if any(remote.token(other) != now.get(other) for other in (run, *now)):
            raise InputError(
                f"another run has written to {remote.objects.url} meanwhile",
                hint="run the same command again to continue from there",
            )
        yield is_under_way
    finally:
        ended.set()
        saying.join()
        _OWN.discard(own)
        with suppress(StorageError):
            if _is_of(remote, name, own):
                remote.objects.discard(name)


def _host() -> str:
    """This machine since it was started: names of machines are not unique."""
    try:
        started = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        started = f"{uuid.getnode():x}"
    with suppress(OSError):
        started += f" {os.readlink('/proc/self/ns/pid')}"  # containers of one machine have processes of their own
    return f"{socket.gethostname()} {started}"


def _take(remote: RemoteFolder, name: str, own: str) -> None:
    for _ in range(2):
        try:
            remote.objects.put(name, _content(own), new=True)
        except FileExistsError:
            holder = _holder(remote, name)
            if holder is not None and holder.run == own:
                return  # the store had taken it before the connection was lost
            if holder is not None and not holder.is_dead:
                host = holder.host.partition(" ")[0]
                raise InputError(
                    f"another run is writing to {remote.objects.url}: process {holder.process} on {host}",
                    hint=f"wait until it has ended; if it was killed, wait {STALE / 60:g} minutes, or remove "
                    f"{remote.objects.url_of(name)}",
                ) from None
            remote.objects.discard(name)
            continue
        if _is_of(remote, name, own):
            return
    raise InputError(f"another run is writing to {remote.objects.url}", hint="wait until it has ended")


def _holder(remote: RemoteFolder, name: str) -> Writer | None:
    try:
        return msgspec.json.decode(remote.objects.get(name), type=Writer)
    except FileNotFoundError:
        return None
    except (ValueError, RecursionError):
        return Writer("", 0, "", 0.0)  # whatever it is, no run that is under way wrote it


def _is_of(remote: RemoteFolder, name: str, own: str) -> bool:
    holder = _holder(remote, name)
    return holder is not None and holder.run == own


def _content(own: str) -> bytes:
    return msgspec.json.encode(Writer(_host(), os.getpid(), own, time.time()))
