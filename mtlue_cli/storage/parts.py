"""The manifest of a run that writes to a URL: parts while it is under way, since no object can be appended to.

A part holds the records of some hundred images. It is put after their files, so a run that is killed leaves whole parts
alone; the next one merges them. A part also holds what the store called the content of each file then, so that a run
that is resumed reads none of them again. When the run ends, one manifest takes the place of all parts.
"""

import hashlib
import hmac
import json
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from mtlue_cli.errors import InputError
from mtlue_cli.files import read_regular

if TYPE_CHECKING:
    from mtlue_cli.storage.mount import RemoteFolder

PARTS = "parts"
"""Name of the folder of parts, among the records of a release."""
PART_RECORDS = 500
PART_SECONDS = 60.0
"""Records, and time, after which a part is put."""


class Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A part of the manifest.

    Attributes:
        manifest: Its lines.
        journal: Lines of the journal that vouch for these.
        released, originals: Token of the store for each file, by its name in the folder.
        mac: HMAC of the tokens and of the lines; None without a key.
    """

    manifest: str
    journal: str
    released: Mapping[str, str]
    originals: Mapping[str, str]
    mac: str | None = None

    @property
    def message(self) -> bytes:
        """What the HMAC is of."""
        lines = hashlib.sha256(self.manifest.encode("utf-8", "surrogatepass")).hexdigest()
        tokens = [dict(self.released), dict(self.originals)]
        return b"storage part v1\n" + json.dumps([lines, *tokens], sort_keys=True).encode()


class _Digests(msgspec.Struct):
    """What is read of a record."""

    source: str
    file_name: str = ""
    sha256: str = ""
    source_sha256: str = ""
    maps: Mapping[str, str] = {}


def read_part(path: Path, url: str) -> Part:
    """A part.

    Raises:
        InputError: It is damaged.
    """
    try:
        return msgspec.json.decode(read_regular(path), type=Part)
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{url} is damaged: {error}", hint="remove it: its images are protected again") from error


class Parts:
    """The parts of one run.

    Args:
        remote: The release.
        name: The folder of its records, as ``remote`` calls it.
        mac: HMAC of a message under the user's key; gives None without one.
        originals: The originals; None if they lie on this machine.
        before: Called before a part is put.
    """

    def __init__(
        self,
        remote: "RemoteFolder",
        name: str,
        mac: Callable[[bytes], str | None],
        originals: "RemoteFolder | None",
        before: Callable[[], None],
    ) -> None:
        self._remote, self._folder, self._mac = remote, f"{name}/{PARTS}", mac
        self._originals, self._before = originals, before
        self._number = 1 + max((int(Path(part).stem) for part in remote.parts), default=0)
        self._lines: list[str] = []
        self._macs: list[str] = []
        self._released: list[str] = []
        self._sources: list[str] = []
        self._put = time.monotonic()

    def take_up(self) -> None:
        """Vouch for the files of earlier parts that the store still has as they were."""
        for part in self._remote.parts.values():
            expected = self._mac(part.message)
            if expected is not None and not hmac.compare_digest(expected.encode(), (part.mac or "").encode()):
                continue
            for line in part.manifest.split("\n")[:-1]:
                found = msgspec.json.decode(line, type=_Digests)
                released = {found.file_name: found.sha256, **found.maps}
                _vouch(self._remote, part.released, released)
                if self._originals is not None:
                    _vouch(self._originals, part.originals, {found.source: found.source_sha256})

    def add(self, line: str, mac: str | None, released: Iterable[str], source: str) -> None:
        """Take a line of the manifest with that of the journal; puts a part if there are enough.

        Raises:
            StorageError: The part cannot be put.
        """
        self._lines.append(line)
        self._macs += [] if mac is None else [f"{mac}\n"]
        self._released += released
        self._sources.append(source)
        if len(self._lines) >= PART_RECORDS or time.monotonic() - self._put > PART_SECONDS:
            self.put()

    def put(self) -> None:
        """Put what was taken since the last part, if there is any.

        Raises:
            StorageError: It cannot be put.
        """
        self._put = time.monotonic()
        self._before()
        if not self._lines:
            return
        released = _tokens(self._remote, self._released)
        originals = {} if self._originals is None else _tokens(self._originals, self._sources)
        part = Part("".join(self._lines), "".join(self._macs), released, originals)
        part = msgspec.structs.replace(part, mac=self._mac(part.message))
        self._remote.put({f"{self._folder}/{self._number:06}.json": msgspec.json.encode(part)})
        self._number += 1
        for taken in (self._lines, self._macs, self._released, self._sources):
            taken.clear()

    def discard(self) -> None:
        """Remove all parts: the manifest has taken their place, or their records are of no use.

        Raises:
            StorageError: One cannot be removed.
        """
        for name in {*self._remote.objects.list(self._folder), *self._remote.parts}:
            if self._remote.token(name) is None:  # another run has put it since
                self._remote.objects.discard(name)
            else:
                self._remote.discard(name)
        self._remote.parts.clear()


def _tokens(remote: "RemoteFolder", names: Iterable[str]) -> dict[str, str]:
    tokens = ((name, remote.token(f"{remote.objects.name}/{name}")) for name in names)
    return {name: token for name, token in tokens if token is not None}


def _vouch(remote: "RemoteFolder", tokens: Mapping[str, str], digests: Mapping[str, str]) -> None:
    for name, digest in digests.items():
        if name in tokens:
            remote.vouch(f"{remote.objects.name}/{name}", tokens[name], digest)
