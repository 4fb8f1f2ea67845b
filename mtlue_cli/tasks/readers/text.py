"""Text of a label file in whatever encoding it states."""

import codecs
from collections.abc import Iterator
from pathlib import Path

from mtlue_cli.budget import budget
from mtlue_cli.errors import InputError
from mtlue_cli.files import open_regular, read_regular

START = 65536
"""Bytes that are looked at to tell a format."""

MOST_ENTRY = 4 << 20
"""Characters at most of a part of a JSON file that is read at once: its objects may take thirty times as many bytes."""

MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
SAVE_AS = "save the label file as UTF-8 (in a spreadsheet: CSV UTF-8)"


def read_text(path: Path) -> str:
    """The whole file: UTF-8, or what its byte-order mark says (UTF-8, UTF-16, UTF-32); line ends stay as they are.

    Raises:
        InputError: The file cannot be read, is empty, or is no such text; says where.
    """
    try:
        content = read_regular(path, budget().max_label_bytes)
    except OSError as error:
        hint = "set another limit with --max-label-bytes" if "at most" in str(error) else None
        raise InputError(f"{path} cannot be read: {error.strerror or error}", hint=hint) from error
    encoding = _encoding(content)
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        row = content[: error.start].count(b"\n") + 1
        found = content[error.start : error.start + 4].hex(" ")
        name = encoding.upper().removesuffix("-SIG")
        raise InputError(f"{path}, row {row}: the bytes {found} are not {name}", hint=SAVE_AS) from error
    if encoding == "utf-8" and "\0" in text[:2]:
        raise InputError(f"{path} looks like UTF-16 without a byte-order mark", hint=SAVE_AS)
    if not text.strip():
        raise InputError(f"{path} is empty", hint="expected a header and one row per image")
    return text


def lines_of(text: str) -> Iterator[str]:
    """The lines of a text, one at a time, without their ends: a list of very many empty ones would take much memory."""
    at = 0
    while at <= len(text):
        end = text.find("\n", at)
        end = len(text) if end < 0 else end
        yield text[at:end]
        at = end + 1


def read_start(path: Path) -> str:
    """The first characters of a file, whatever they are, for telling its format; nothing if it cannot be read."""
    try:
        with open_regular(path) as stream:
            content = stream.read(START)
    except OSError:
        return ""
    return content.decode(_encoding(content), errors="replace")


def _encoding(content: bytes) -> str:
    return next((encoding for mark, encoding in MARKS if content.startswith(mark)), "utf-8")
