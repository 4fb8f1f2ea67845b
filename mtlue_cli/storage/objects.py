"""Objects below a URL: listed, read and put as a whole, with fsspec."""

import hashlib
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any
from urllib.parse import quote, unquote

from mtlue_cli.errors import InputError, StorageError
from mtlue_cli.storage.urls import READ_ONLY, without_secrets
from mtlue_cli.tasks.paths import path_fault
from mtlue_cli.tasks.wording import quoted

_MARKS = ("ETag", "etag", "md5Hash", "blob_id", "generation", "created", "mtime", "LastModified", "updated")
"""What listings of the stores call what changes with the content of an object, the best first."""

_EXTRAS = {"s3": "mtlue[s3]", "gs": "mtlue[gs]", "hf": "mtlue[hf]", "https": "mtlue[storage]", "http": "mtlue[storage]"}

_CREDENTIALS = {
    "s3": "if it is no public bucket (FSSPEC_S3_ANON=true), set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or "
    "AWS_PROFILE, and AWS_ENDPOINT_URL for a store that is not Amazon's",
    "gs": "set GOOGLE_APPLICATION_CREDENTIALS",
    "hf": "set HF_TOKEN",
}
"""What to do about a store that refuses."""


@dataclass(frozen=True)
class Listed:
    """What a listing says of an object.

    Attributes:
        size: Bytes; None if the store does not say.
        token: Changes with its content; None if the store has nothing of the kind.
    """

    size: int | None
    token: str | None


class Objects:
    """The objects of a URL that is checked (:func:`~mtlue_cli.storage.urls.checked_url`).

    They are called by their path, relative POSIX, from the folder above the last part of the URL: what lies in
    ``s3://bucket/data/photos`` is called ``photos/...``.

    Raises:
        InputError: A library is missing.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        scheme = url.partition("://")[0]
        extra = _EXTRAS.get(scheme, "mtlue[storage]")
        try:
            import fsspec

            # Listings change while a run writes.
            self._fs: Any = fsspec.filesystem(scheme, use_listings_cache=False)
        except ImportError as error:
            raise InputError(
                f"{url} cannot be read: a library for {scheme}:// is missing", hint=f"pip install '{extra}'"
            ) from error
        self._quoted = scheme in READ_ONLY
        self._credentials = _CREDENTIALS.get(scheme, "credentials come from the environment")
        path = str(self._fs._strip_protocol(url)).rstrip("/")
        self.name = path.rpartition("/")[2]
        self._base = path[: len(path) - len(self.name)]
        self._beside = url[: len(url) - len(self.name)]

    def url_of(self, name: str) -> str:
        """The URL of an object, or of a folder of them."""
        return self._beside + name

    def list(self, name: str) -> dict[str, Listed]:
        """The objects below a folder; empty if there is none. The object itself if ``name`` is one.

        Raises:
            InputError: A key is none that a folder could hold, or the folder cannot be listed.
        """
        try:
            with self._faults(name, "listed"):
                found: dict[str, dict[str, Any]] = self._fs.find(self._key(name), detail=True)
        except FileNotFoundError:
            return {}
        except StorageError as error:
            raise InputError(str(error), hint=f"{self._credentials}, see docs/storage.md") from None
        listed: dict[str, Listed] = {}
        faults: list[str] = []
        for key, info in found.items():
            below = key.removeprefix(self._base) if key.startswith(self._base) else key
            below = unquote(below) if self._quoted else below
            if info.get("type") == "directory" or below.endswith("/") or (self._quoted and "?" in below):
                continue  # the mark of an empty folder; the order of a listing
            odd = _key_fault(below, name, str(info.get("type")))
            faults += [] if odd is None else [odd]
            listed[below] = Listed(info.get("size"), _token(info))
        folders = {str(parent) for below in listed for parent in PurePosixPath(below).parents}
        faults += [f"{quoted(below)} is an object and a folder" for below in sorted(folders & listed.keys())]
        if faults:
            raise InputError(
                f"{self.url_of(name)} has keys that no folder can hold", faults, "rename or remove these objects"
            )
        return listed

    def listed(self, name: str) -> Listed | None:
        """What the store says of one object now; None if it is not there.

        Raises:
            StorageError: It cannot be asked.
        """
        try:
            with self._faults(name, "read"):
                info = self._fs.info(self._key(name))
        except FileNotFoundError:
            return None
        return None if info.get("type") == "directory" else Listed(info.get("size"), _token(info))

    def get(self, name: str) -> bytes:
        """The content of a small object.

        Raises:
            FileNotFoundError: It is not there.
            StorageError: It cannot be read.
        """
        with self._faults(name, "read"):
            return bytes(self._fs.cat_file(self._key(name)))

    def get_file(self, name: str, to: Path) -> None:
        """Copy an object to a file.

        Raises:
            FileNotFoundError: It is not there.
            StorageError: It cannot be read.
        """
        with self._faults(name, "read"):
            self._fs.get_file(self._key(name), str(to))

    def stream(self, name: str) -> IO[bytes]:
        """An object, to be read in parts.

        Raises:
            FileNotFoundError: It is not there.
            StorageError: It cannot be read.
        """
        with self._faults(name, "read"):
            opened: IO[bytes] = self._fs.open(self._key(name), "rb")
            return opened

    def put(self, name: str, content: bytes, *, new: bool = False) -> Listed:
        """Write an object as a whole, and check what the store then holds.

        Args:
            name: Of the object.
            content: All bytes.
            new: Whether it must not be there yet, in one step where the store can tell (``If-None-Match``).

        Raises:
            FileExistsError: It is there, and should be ``new``.
            StorageError: It cannot be written, or the store holds other bytes.
        """
        with self._faults(name, "written"):
            try:
                self._fs.pipe_file(self._key(name), content, **({"mode": "create"} if new else {}))
            except Exception:
                if new and self._fs.exists(self._key(name)):
                    raise FileExistsError(name) from None
                raise
        md5 = hashlib.md5(content, usedforsecurity=False).digest()
        return self._checked(name, len(content), md5, hashlib.sha256(content).hexdigest())

    def put_file(self, name: str, content: Path) -> tuple[Listed, str]:
        """Write a file as an object, as :meth:`put` does; gives its SHA-256 too.

        Raises:
            StorageError: As :meth:`put`.
        """
        with content.open("rb") as stream:
            sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
            stream.seek(0)
            md5 = hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False)).digest()
        size, there = content.stat().st_size, self.listed(name)
        if there is not None and there.size == size and md5.hex() in (there.token or ""):
            return there, sha256  # put by a run that was interrupted
        with self._faults(name, "written"):
            self._fs.put_file(str(content), self._key(name))
        return self._checked(name, size, md5, sha256), sha256

    def discard(self, name: str) -> None:
        """Remove an object if it is there.

        Raises:
            StorageError: It cannot be removed.
        """
        try:
            with self._faults(name, "removed"):
                self._fs.rm_file(self._key(name))
        except FileNotFoundError:
            return

    def _checked(self, name: str, size: int, md5: bytes, sha256: str) -> Listed:
        """Hold what the store says of an object against what was put; without its MD5, read it back."""
        with self._faults(name, "read back"):
            info = self._fs.info(self._key(name))
        marks = {str(info.get(mark, "")).strip('"') for mark in ("ETag", "etag", "md5Hash", "md5")}
        same = info.get("size") == size
        if same and not marks & {md5.hex(), b64encode(md5).decode()}:
            with self._faults(name, "read back"), self._fs.open(self._key(name), "rb") as stream:
                same = hashlib.file_digest(stream, "sha256").hexdigest() == sha256
        if not same:
            raise StorageError(
                f"{self.url_of(name)} does not hold what was written there; run the same command again to write it anew"
            )
        return Listed(size, _token(info))

    def _key(self, name: str) -> str:
        return self._base + (quote(name) if self._quoted else name)

    @contextmanager
    def _faults(self, name: str, done: str) -> Iterator[None]:
        """Within it whatever fails at the store says where, and what to do, and shows no secret."""
        try:
            yield
        except (FileNotFoundError, FileExistsError, StorageError) as error:
            if isinstance(error, FileNotFoundError) and done in ("written", "read back"):
                raise StorageError(f"{self.url_of(name)} cannot be {done}: there is no such bucket") from None
            raise
        except Exception as error:  # each store has its own
            reason = without_secrets(next(iter(str(error).splitlines()), "")) or type(error).__name__
            # Not chained: a traceback would show what the reason does not.
            raise StorageError(
                f"{self.url_of(name)} cannot be {done}: {reason}; run the same command again to continue"
            ) from None


def _token(info: dict[str, Any]) -> str | None:
    mark = next((info[name] for name in _MARKS if info.get(name)), None)
    return None if mark is None else f"{info.get('size')}:{mark.timestamp() if hasattr(mark, 'timestamp') else mark}"


def _key_fault(below: str, name: str, kind: str) -> str | None:
    """Why a key is none of a file of the folder ``name``; None if it is one."""
    if below != name and not below.startswith(f"{name}/"):
        return f"{quoted(below)} leaves the folder"
    if (fault := path_fault(below, "folder")) is not None:
        return fault
    if str(PurePosixPath(below)) != below:
        return f"{quoted(below)} has an empty part, or a dot for one"
    return None if kind == "file" else f"{quoted(below)} is a {kind}, expected a file"
