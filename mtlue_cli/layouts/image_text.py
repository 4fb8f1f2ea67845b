"""Images that stand in text, as base64: a copy of that text would release them unprotected."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mtlue_cli.errors import InputError

_IMAGE = re.compile(
    rb"data:image\\?/[\w.+-]+;base64,|(?:\\?/9j\\?/|iVBORw0KGgo|UklGR|R0lGOD|SUkqA|TU0AK)[A-Za-z0-9+/\\=\r\n]{60}"
)
"""How JPEG, PNG, WebP, GIF and TIFF begin in base64; JSON may write ``\\/`` for a slash."""


def holds_image(text: bytes) -> bool:
    """Whether an image in base64 is somewhere in a text."""
    return _IMAGE.search(text) is not None


def has_image(value: Any) -> bool:  # noqa: ANN401 - any cell
    """Whether a text in a cell, however deep, holds an image in base64."""
    if isinstance(value, str):
        return holds_image(value.encode(errors="replace"))
    parts: Iterable[Any] = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return any(map(has_image, parts))


def image_text_error(path: Path, what: str, hint: str = "write a data set without it, and protect that") -> InputError:
    """That a copy of some text would release an image."""
    return InputError(f"{path}: {what} holds images, which would be released unprotected", hint=hint)
