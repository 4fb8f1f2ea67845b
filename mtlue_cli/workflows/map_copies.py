"""Masks and maps on their way into a release: copied byte for byte, each once however many images name it."""

import hashlib
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path

from mtlue_cli.errors import ImageError, MtlueError
from mtlue_cli.files import file_digest, unwritable, write_atomically
from mtlue_cli.images.decode import read_content
from mtlue_cli.tasks.wording import quoted


class MapCopies:
    """Copies of maps; safe to call from several threads.

    Args:
        folder: Where the names lead from among the originals.
        release: Where they lead from in the release.
    """

    def __init__(self, folder: Path, release: Path) -> None:
        self._folder = folder
        self._release = release
        self._locks: dict[str, threading.Lock] = {}

    def digests(self, names: Iterable[str]) -> dict[str, str]:
        """SHA-256 of each original map, by its name.

        Raises:
            ImageError: One cannot be read.
        """
        return {name: hashlib.sha256(self._content(name)).hexdigest() for name in names}

    def copy(self, digests: Mapping[str, str]) -> None:
        """See to it that the release holds these maps.

        Raises:
            ImageError: An original cannot be read any more, or has changed since its digest was taken.
            MtlueError: A copy cannot be written.
        """
        for name, digest in digests.items():
            with self._locks.setdefault(name, threading.Lock()):
                if self.is_copied(name, digest):
                    continue
                content = self._content(name)
                if hashlib.sha256(content).hexdigest() != digest:
                    raise ImageError(f"its map {quoted(name)} changed while the image was protected")
                try:
                    write_atomically(self._release / name, content, keep_name=False)
                except OSError as error:
                    raise MtlueError(unwritable(self._release / name, error)) from error

    def is_copied(self, name: str, digest: str) -> bool:
        """Whether the release holds a map of this digest under this name."""
        try:
            return file_digest(self._release / name) == digest
        except OSError:
            return False

    def _content(self, name: str) -> bytes:
        try:
            return read_content(self._folder / name)
        except ImageError as error:
            raise ImageError(f"its map {quoted(name)} {error}") from error
