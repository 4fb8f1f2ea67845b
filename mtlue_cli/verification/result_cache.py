"""Finished victims by content: the same images, labels and settings are never trained on twice."""

import contextlib
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
from msgspec import structs

from mtlue_cli.documents import Document
from mtlue_cli.files import read_regular, write_atomically
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


class ResultCache:
    """Small JSON files in one folder, named by the digest of what they are the result of.

    Args:
        folder: Where they lie; made when first written to. None: nothing is kept.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder

    def load(self, key: str) -> VictimResult | None:
        """The result stored under ``key``; None if there is none or it cannot be read."""
        if self._folder is None:
            return None
        try:
            entry = msgspec.json.decode(read_regular(self._folder / f"{key}.json"), type=_Entry)
        except (OSError, ValueError, RecursionError):
            return None
        return structs.replace(entry.result, cached=True) if entry.key == key else None

    def store(self, key: str, result: VictimResult) -> None:
        """Keep ``result`` under ``key``, atomically; a folder that cannot be written to is no error."""
        if self._folder is None:
            return
        text = json.dumps(_Entry(key, result).to_json(), indent=1)
        with contextlib.suppress(OSError):
            write_atomically(self._folder / f"{key}.json", text.encode())
