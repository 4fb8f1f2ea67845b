"""Images that stand in cells of text or numbers: a copy of these would release them unprotected."""

import re
from pathlib import Path
from typing import Any

from mtlue_cli.errors import InputError

_IMAGE = re.compile(
    rb"data:image\\?/[\w.+-]+;base64,"
    rb"|(?:\\?/9j\\?/|iVBORw0KGgo|UklGR|R0lGOD|SUkqA|TU0AK|AAAADGpQ)[A-Za-z0-9+/\\=\r\n]{60}"
    rb"|(?:[Ff][Ff][Dd]8[Ff][Ff]|89504[Ee]47)[0-9A-Fa-f]{120}"
    rb"|\\+x(?:ff\\+xd8\\+xff|89PNG)"
)
"""How JPEG, PNG, WebP, GIF, TIFF and JPEG 2000 begin in base64, where JSON may write ``\\/`` for a slash; and JPEG and
PNG in hexadecimal, and as Python shows bytes."""


_NUMBERS = re.compile(
    r"[\s\[\](),;|]*(?:(?:1?\d?\d|2[0-4]\d|25[0-5])(?:\.0*)?[\s\[\](),;|]+){255,}\d{1,3}(?:\.0*)?[\s\[\](),;|]*"
)
"""A picture of 16 x 16 and more pixels as text: numbers from 0 to 255."""

_BEGINNINGS = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"RIFF", b"GIF8", b"II*\0", b"MM\0*", b"BM")
_LEAST_VALUES = 64
"""Different values of a picture in a text."""

LEAST_TEXT = 60
"""Characters of the shortest text that may be an image."""

_LEAST_FILE = 32
"""Bytes of the smallest image files."""

_LEAST = 8
"""Sides of a picture in lists of numbers; boxes and outlines have shorter rows."""


def holds_image(text: bytes) -> bool:
    """Whether an image in base64 is somewhere in a text."""
    return _IMAGE.search(text) is not None


def has_image(value: Any) -> bool:  # noqa: ANN401 - any cell
    """Whether a cell holds an image, however deep: as text in base64, or as rows of pixels."""
    if isinstance(value, str):
        return holds_image(value.encode(errors="replace")) or _is_picture_in_text(value)
    if isinstance(value, dict):
        return any(map(has_image, value.values()))
    if not isinstance(value, list):
        return False
    if all(isinstance(part, int | float) for part in value):
        return _is_file(value) or _is_picture_in_text(" ".join(map(str, value)))
    return _is_picture(value) or any(map(has_image, value))


def _is_picture_in_text(text: str) -> bool:
    """Whether a text is the pixels of a picture; attributes and landmarks are fewer, or fewer different, numbers."""
    return _NUMBERS.fullmatch(text) is not None and len(set(re.findall(r"\d+", text))) > _LEAST_VALUES


def _is_picture(rows: list[Any]) -> bool:
    """Whether lists are the rows of a picture: numbers from 0 to 255, or three of them, for each pixel."""
    if len(rows) < _LEAST or not all(isinstance(row, list) and len(row) == len(rows[0]) >= _LEAST for row in rows):
        return False
    pixels = (pixel if isinstance(pixel, list) else [pixel] for row in rows for pixel in row)
    return all(isinstance(number, int) and 0 <= number < 256 for pixel in pixels for number in pixel)


def _is_file(numbers: list[Any]) -> bool:
    """Whether a list is the bytes of an image file, as numbers with or without a sign."""
    if len(numbers) < _LEAST_FILE or not all(isinstance(one, int) and -128 <= one < 256 for one in numbers):
        return False
    return bytes(one % 256 for one in numbers[:12]).startswith(_BEGINNINGS)


def image_text_error(path: Path, what: str, hint: str = "write a data set without it, and protect that") -> InputError:
    """That a copy of some text would release an image."""
    return InputError(f"{path}: {what} holds images, which would be released unprotected", hint=hint)
