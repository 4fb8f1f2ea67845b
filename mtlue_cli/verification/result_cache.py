"""Finished victims by content: the same images, labels and settings are never trained on twice."""

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor


def default_cache_folder() -> Path:
    """``$XDG_CACHE_HOME/mtlue/verify``, or the same below ``~/.cache``."""
    root = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(root) if os.path.isabs(root) else Path.home() / ".cache") / "mtlue" / "verify"


def tensor_digest(tensor: Tensor) -> str:
    """SHA-256 of a tensor's type, shape and values."""
    digest = hashlib.sha256(f"{tensor.dtype} {tuple(tensor.shape)}".encode())
    digest.update(np.ascontiguousarray(tensor.detach().cpu().numpy()).data)
    return digest.hexdigest()


def labels_digest(labels: Mapping[str, Tensor]) -> str:
    """SHA-256 of the label columns, whatever their order in the mapping."""
    return document_digest({name: tensor_digest(column.to(torch.int64)) for name, column in labels.items()})


def document_digest(document: Mapping[str, Any]) -> str:
    """SHA-256 of a JSON-ready document, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()


class ResultCache:
    """Small JSON files in one folder, named by the digest of what they are the result of.

    Args:
        folder: Where they lie; made when first written to. None: nothing is kept.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder

    def load(self, key: str) -> dict[str, Any] | None:
        """The document stored under ``key``; None if there is none or it cannot be read."""
        if self._folder is None:
            return None
        try:
            entry = json.loads((self._folder / f"{key}.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        if not isinstance(entry, dict) or entry.get("key") != key:
            return None
        result = entry.get("result")
        return result if isinstance(result, dict) else None

    def store(self, key: str, document: Mapping[str, Any]) -> None:
        """Keep ``document`` under ``key``, atomically; a folder that cannot be written to is no error."""
        if self._folder is None:
            return
        text = json.dumps({"key": key, "result": document}, indent=1)
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            handle, temporary = tempfile.mkstemp(dir=self._folder, suffix=".part")
            try:
                with os.fdopen(handle, "w", encoding="utf-8") as file:
                    file.write(text)
                os.replace(temporary, self._folder / f"{key}.json")
            except OSError:
                os.unlink(temporary)
                raise
        except OSError:
            return
