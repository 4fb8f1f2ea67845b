"""Folders of this machine that stand for URLs.

Every object has a file without content in a private folder. It is fetched when it is opened, and dropped again when
others need its room; what is written is put at once. So whatever reads and writes files by :mod:`mtlue_cli.files`
works on objects too.
"""

import errno
import hashlib
import os
import tempfile
import threading
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from mtlue_cli.errors import InputError
from mtlue_cli.files import RECORDS, remote_of, stands_for
from mtlue_cli.options import OptionField
from mtlue_cli.storage.objects import Listed, Objects
from mtlue_cli.storage.parts import PARTS, Part, read_part
from mtlue_cli.storage.urls import checked_url, url_of
from mtlue_cli.tasks.paths import LONGEST_PART

CONNECTIONS = 16
"""Objects that are fetched or put at once."""
ROOM = 1 << 30
"""Bytes of fetched files that may lie on the disk."""
AHEAD = 64
AHEAD_BYTES = 256 << 20
"""Files, and their bytes, that are fetched before they are opened."""
WORK = "fetched"


class RemoteFolder:
    """A folder that stands for a URL; safe to use from several threads.

    Args:
        objects: Those of the URL.
        root: An empty folder of this machine, for the files.

    Attributes:
        objects: Those of the URL.
        root: The folder of this machine that names lead from.
        folder: Stands for the URL.
        parts: Parts of the manifest that an unfinished run has left, by name, in order.
        room: Bytes of fetched files that may lie on the disk.

    Raises:
        InputError: The URL cannot be listed, has keys that no folder can hold, or records that are damaged.
    """

    def __init__(self, objects: Objects, root: Path, *, is_file: bool = False) -> None:
        self.objects = objects
        self.folder = root / objects.name
        self.parts: dict[str, Part] = {}
        self.room = ROOM
        self.root = root
        self._pool = ThreadPoolExecutor(CONNECTIONS, thread_name_prefix="storage")
        self._lock = threading.RLock()
        self._away: dict[str, Listed] = {}
        self._here: dict[str, int] = {}
        self._here_bytes = 0
        self._fetching: dict[str, Future[None]] = {}
        self._held: Counter[str] = Counter()
        self._queue: deque[str] = deque()
        self._ahead: dict[str, int] = {}
        self._tokens: dict[str, str | None] = {}
        self._digests: dict[str, str] = {}
        (root / WORK).mkdir()
        if is_file:
            listed = objects.listed(objects.name)
            if listed is not None:
                self._place(objects.name, listed)
            return
        self.refresh()
        try:
            self._read_records()
        except FileNotFoundError as error:
            raise InputError(
                f"another run has written to {objects.url} meanwhile", hint="run the same command again"
            ) from error

    def _read_records(self) -> None:
        for name in sorted(self._away):
            if self._is_record(name):
                with self.held(name):
                    pass
        root, objects = self.root, self.objects
        for name in [name for name in sorted(self._tokens) if f"/{PARTS}/" in name and self._is_record(name)]:
            self.parts[name] = read_part(root / name, objects.url_of(name))
            for log, lines in (("manifest.jsonl", self.parts[name].manifest), ("journal", self.parts[name].journal)):
                if lines:
                    with (root / name).parents[1].joinpath(log).open("a", encoding="utf-8") as stream:
                        stream.write(lines)

    def close(self) -> None:
        """Stop fetching."""
        self._pool.shutdown(cancel_futures=True)

    def refresh(self) -> None:
        """List the store again, and place a file for each object that is new.

        Raises:
            InputError: As the class.
        """
        for folder in (self.objects.name, self.objects.name + RECORDS):
            try:
                found = self.objects.list(folder)
            except InputError:  # whoever may read the folder alone may not list the records beside it
                if folder == self.objects.name or self.objects.listed(f"{self.objects.name}/{RECORDS}") is not None:
                    raise
                continue
            for name, listed in found.items():
                with self._lock:
                    if name not in self._tokens:
                        self._place(name, listed)

    @contextmanager
    def held(self, name: str) -> Iterator[None]:
        """Within it the file is here as a whole.

        Raises:
            FileNotFoundError: It is not in the store any more.
            StorageError: It cannot be read.
        """
        with self._lock:
            self._held[name] += 1
            fetching = self._fetch(name)
            self._ahead.pop(name, None)
            self._fetch_ahead()
        try:
            if fetching is not None:
                fetching.result()
            yield
        finally:
            with self._lock:
                self._held[name] -= 1
                if not self._held[name]:
                    del self._held[name]
                self._make_room()

    def stream(self, name: str) -> IO[bytes] | None:
        """The file, to be read in parts from where it lies; None if it is here."""
        return self.objects.stream(name) if name in self._away else None

    def digest(self, name: str) -> str | None:
        """SHA-256 of the file, if this run has written it or :meth:`vouch` knows it."""
        return self._digests.get(name)

    def token(self, name: str) -> str | None:
        """What changes with the content of the file; None if the store has nothing of the kind."""
        return self._tokens.get(name)

    def vouch(self, name: str, token: str, digest: str) -> None:
        """Say that the file has this SHA-256 if its token is still ``token``."""
        with self._lock:
            if self._tokens.get(name) == token:
                self._digests[name] = digest

    def expect(self, names: Iterable[str]) -> None:
        """Files that are about to be opened, in order."""
        with self._lock:
            self._queue = deque(names)
            self._ahead.clear()
            self._fetch_ahead()

    def put(self, files: Mapping[str, bytes]) -> dict[str, OSError]:
        """Write whole files.

        Returns:
            Why a file was not written, for each whose name no folder of this machine could hold.

        Raises:
            StorageError: One could not be written; others may be.
        """
        refused = {
            name: OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG), name)
            for name in files
            if max(len(part.encode()) for part in name.split("/")) > LONGEST_PART
        }

        def put(name: str) -> None:
            content = files[name]
            with self._lock:
                self._digests.pop(name, None)
            listed = self.objects.put(name, content)
            with self._lock:
                self._place(name, listed)
                self._digests[name] = hashlib.sha256(content).hexdigest()
                if self._is_record(name):  # it may be appended to
                    self._put_here(name, content)

        for _ in self._pool.map(put, [name for name in files if name not in refused]):
            pass
        return refused

    def put_file(self, name: str, content: Path) -> None:
        """Write one whole file.

        Raises:
            StorageError: It could not be written.
        """
        with self._lock:
            self._digests.pop(name, None)
        listed, digest = self.objects.put_file(name, content)
        with self._lock:
            self._place(name, listed)
            self._digests[name] = digest

    def discard(self, name: str) -> None:
        """Remove the file if it is there.

        Raises:
            StorageError: It cannot be removed.
        """
        with self._lock:
            known = name in self._tokens
        if known:
            self.objects.discard(name)
        with self._lock:
            self._here_bytes -= self._here.pop(name, 0)
            for state in (self._away, self._tokens, self._digests):
                state.pop(name, None)
            with suppress(OSError):  # such as a name that is too long for a file
                (self.root / name).unlink(missing_ok=True)

    def _is_record(self, name: str) -> bool:
        return name.startswith((f"{self.objects.name}/{RECORDS}/", f"{self.objects.name}{RECORDS}/"))

    def _place(self, name: str, listed: Listed) -> None:
        """Put a file without content in place, of the size of the object where that costs no room."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        empty = self.root / WORK / f"{threading.get_ident()}"
        with empty.open("wb") as stream:
            if os.name == "posix":
                stream.truncate(listed.size or 0)
        empty.replace(path)
        self._away[name] = listed
        self._tokens[name] = listed.token
        self._here_bytes -= self._here.pop(name, 0)

    def _put_here(self, name: str, content: bytes) -> None:
        fetched = self.root / WORK / f"{threading.get_ident()}"
        fetched.write_bytes(content)
        fetched.replace(self.root / name)
        self._away.pop(name, None)

    def _fetch(self, name: str) -> "Future[None] | None":
        """Begin to fetch a file; None if it is here."""
        if name in self._away and name not in self._fetching:
            self._fetching[name] = self._pool.submit(self._get, name)
        return self._fetching.get(name)

    def _get(self, name: str) -> None:
        fetched = self.root / WORK / f"{threading.get_ident()}"
        try:
            self.objects.get_file(name, fetched)
            size = fetched.stat().st_size
            with self._lock:
                if self._away.pop(name, None) is not None:
                    fetched.replace(self.root / name)
                    if not self._is_record(name):
                        self._here[name] = size
                        self._here_bytes += size
        finally:
            fetched.unlink(missing_ok=True)
            with self._lock:
                self._fetching.pop(name, None)

    def _fetch_ahead(self) -> None:
        while self._queue and len(self._ahead) < AHEAD and sum(self._ahead.values()) < AHEAD_BYTES:
            name = self._queue.popleft()
            if name in self._away and not self._held[name]:
                self._ahead[name] = self._away[name].size or 0
                self._fetch(name)

    def _make_room(self) -> None:
        """Drop fetched files, the oldest first, as long as there are too many bytes of them."""
        for name in list(self._here) if self._here_bytes > self.room else ():
            if self._here_bytes > self.room and not self._held[name] and name not in self._ahead:
                self._place(name, Listed(self._here[name], self._tokens[name]))


def remote_folder(path: Path) -> RemoteFolder | None:
    """The folder by a URL that a path leads into; None for a path of this machine."""
    found = remote_of(path)
    return found[0] if found is not None and isinstance(found[0], RemoteFolder) else None


def work_folder(path: Path) -> Path | None:
    """Where what is unpacked for a folder by a URL lies until the run is complete; None for a folder of this machine.

    It is in the user's cache folder (``XDG_CACHE_HOME``), so that a run that is killed is resumed.
    """
    remote = remote_folder(path)
    if remote is None:
        return None
    from platformdirs import user_cache_path

    identity = hashlib.sha256(remote.objects.url.encode()).hexdigest()[:16]
    return user_cache_path("mtlue", appauthor=False) / "storage" / f"{remote.objects.name}-{identity}"


@contextmanager
def mounted(path: Path, *, written: bool = False, is_file: bool = False, exists: bool = False) -> Iterator[Path]:
    """A path of this machine that stands for a URL within the context; a path that is none as it is.

    Args:
        path: As it was given.
        written: Whether a release is to be written there.
        is_file: Whether it is one file, not a folder.
        exists: Whether something must be there.

    Raises:
        InputError: The URL is not taken (:func:`~mtlue_cli.storage.urls.checked_url`), cannot be listed, or holds
            nothing.
    """
    url = checked_url(path, written=written)
    if url is None:
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="mtlue-") as folder, ExitStack() as leaving:
        root, objects = Path(folder).resolve(), Objects(url)
        remote = RemoteFolder(objects, root, is_file=is_file)
        leaving.callback(remote.close)
        if exists and not remote.folder.exists():
            raise InputError(f"{url} does not exist, or holds nothing")
        # The records of some layouts stand beside the release.
        for name in (objects.name + RECORDS, objects.name):
            leaving.enter_context(stands_for(root / name, remote, root, objects.url_of(name)))
        yield remote.folder


@contextmanager
def located(options: Iterable[OptionField], values: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """``values`` of options with paths of this machine in place of URLs, which stand for them within the context.

    Raises:
        InputError: As :func:`mounted`, or a release would lie in its originals, or they in it.
    """
    found = dict(values)
    urls: dict[str, tuple[str, bool]] = {}
    with ExitStack() as mounts:
        for option in options:
            value, url = values.get(option.name), option.option.url
            if url is None or not isinstance(value, Path) or url_of(value) is None:
                continue
            is_file = option.option.takes == "file" or value.suffix == ".safetensors"
            named = option.option.flag if option.option.flags else str(option.option.metavar)
            given = checked_url(value, written=url == "written") or ""
            for other, (theirs, written) in urls.items():
                inner, outer = sorted((f"{given}/", f"{theirs}/"), key=len, reverse=True)
                if (written or url == "written") and inner.startswith(outer):
                    raise InputError(
                        f"{named} {given} and {other} {theirs} overlap", hint="give the release a folder of its own"
                    )
            urls[named] = given, url == "written"
            found[option.name] = mounts.enter_context(
                mounted(value, written=url == "written", is_file=is_file, exists=url == "read")
            )
        yield found
