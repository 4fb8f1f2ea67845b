"""Finished victims by content: the same images, labels and settings are never trained on twice.

Each entry carries an HMAC under a key of the user's: an entry that someone else wrote, and that a pull request or a
shared folder brought, is never believed.
"""

import contextlib
import hashlib
import hmac
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
from msgspec import structs

from mtlue_cli.documents import Document
from mtlue_cli.files import file_digest, read_regular, write_atomically
from mtlue_cli.keys import Key
from mtlue_cli.verification.victim_result import VictimResult


def default_cache_folder() -> Path:
    """``$XDG_CACHE_HOME/mtlue/verify``, or the same below ``~/.cache``."""
    root = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(root) if os.path.isabs(root) else Path.home() / ".cache") / "mtlue" / "verify"


def document_digest(document: Mapping[str, Any]) -> str:
    """SHA-256 of a JSON-ready document, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()


class _Entry(Document, frozen=True):
    """What a file of the cache holds."""

    key: str
    result: VictimResult
    mac: str


_CACHE_KEY = b"mtlue verify cache v1"
_LONGEST_MAC = 4096


class ResultCache:
    """Small JSON files in one folder, named by the digest of what they are the result of.

    Args:
        folder: Where they lie; made when first written to. None: nothing is kept.
        secret: Key of the user's, from which that of the entries is derived. None: nothing is kept.
        on_foreign: Called once, with a sentence, if there are entries that another key or no key made.
    """

    def __init__(
        self, folder: Path | None, secret: Key | None, on_foreign: Callable[[str], None] = lambda _: None
    ) -> None:
        self._folder = None if secret is None else folder
        self._secret = None if secret is None else Key(secret.derive(_CACHE_KEY))
        self._on_foreign = on_foreign
        self._has_told = False

    def load(self, key: str) -> VictimResult | None:
        """The result stored under ``key``; None if there is none, it cannot be read, or someone else stored it."""
        if self._folder is None:
            return None
        try:
            content = read_regular(self._folder / f"{key}.json")
        except OSError:
            return None
        try:
            entry = msgspec.json.decode(content, type=_Entry)
            if entry.key == key and self._is_own(entry.mac, _message(key, entry.result)):
                return structs.replace(entry.result, cached=True)
        except (ValueError, RecursionError):
            pass
        self._tell_foreign()
        return None

    def store(self, key: str, result: VictimResult) -> None:
        """Keep ``result`` under ``key``, atomically; a folder that cannot be written to is no error."""
        if self._folder is None:
            return
        text = json.dumps(_Entry(key, result, self._mac(_message(key, result))).to_json(), indent=1)
        with contextlib.suppress(OSError):
            write_atomically(self._folder / f"{key}.json", text.encode())

    def file(self, name: str) -> Path | None:
        """Where a file of the cache lies, or is to lie; None if nothing is kept."""
        return None if self._folder is None else self._folder / name

    def vouch(self, file: Path) -> None:
        """Write beside a file of the cache that this user made it."""
        with contextlib.suppress(OSError):
            write_atomically(_beside(file), self._mac(f"{file.name} {file_digest(file)}").encode())

    def is_vouched(self, file: Path) -> bool:
        """Whether this user made a file of the cache; False if there is none."""
        try:
            digest = file_digest(file)
        except OSError:
            return False
        try:
            mac = read_regular(_beside(file), _LONGEST_MAC).decode("ascii")
        except (OSError, ValueError):
            mac = ""
        found = self._is_own(mac, f"{file.name} {digest}")
        if not found:
            self._tell_foreign()
        return found

    def _mac(self, message: str) -> str:
        assert self._secret is not None, "nothing is kept without a key"
        return self._secret.derive(message.encode()).hex()

    def _is_own(self, mac: str, message: str) -> bool:
        return hmac.compare_digest(self._mac(message).encode(), mac.encode("utf-8", "replace"))

    def _tell_foreign(self) -> None:
        if not self._has_told:
            self._has_told = True
            self._on_foreign(
                f"entries of the cache {self._folder} that this key did not make are not used: an older version or "
                "someone else made them"
            )


def _message(key: str, result: VictimResult) -> str:
    return json.dumps([key, structs.replace(result, cached=False).to_json()], sort_keys=True)


def _beside(file: Path) -> Path:
    return file.with_name(f"{file.name}.mac")
