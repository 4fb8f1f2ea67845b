"""File names in label files and manifests: which of them may be opened."""

import json
import os
import posixpath
import re
import unicodedata
from collections.abc import Iterable
from pathlib import Path

from mtlue_cli.tasks.wording import quoted

LONGEST_PART = 255
"""Bytes of one part of a path, the most that common file systems hold."""
LONGEST_PATH = 4000
"""Bytes of a whole relative path; what the systems allow is a little more, for the folder it leads from."""

_DRIVE = re.compile(r"^[A-Za-z]:")
_IGNORED = re.compile(
    "[\\u00ad\\u034f\\u061c\\u115f\\u1160\\u17b4\\u17b5\\u180b-\\u180f\\u200b-\\u200f\\u202a-\\u202e\\u2060-\\u206f\\u3164"
    "\\ufe00-\\ufe0f\\ufeff\\uffa0\\ufff0-\\ufff8\\U0001bca0-\\U0001bca3\\U0001d173-\\U0001d17a\\U000e0000-\\U000e0fff]"
)


def path_fault(name: str, folder: str = "image folder") -> str | None:
    """Why ``name`` cannot be a file of the folder, which messages call ``folder``; None if it can.

    Only relative POSIX paths that stay inside the folder are accepted, so that no label file can make the program read
    or write elsewhere.
    """
    if not name:
        return "file name is empty"
    if len(name) > LONGEST_PATH:  # before each of its characters is looked at
        return f"file name {quoted(name)} is longer than a file system allows"
    if "\0" in name:
        return "file name contains a NUL character"
    if not is_unicode(name):
        return f"file name {quoted(name)} is not Unicode"
    if "\\" in name:
        return f"file name {quoted(name)} holds a backslash, use / between folders"
    if name.startswith("/") or _DRIVE.match(name):
        return f"file name {quoted(name)} is absolute, expected one relative to the {folder}"
    parts = name.split("/")
    if ".." in parts:
        return f"file name {quoted(name)} leaves the {folder}"
    if not shortest(name):
        return f"file name {quoted(name)} names no file"
    if max(len(part.encode()) for part in parts) > LONGEST_PART or len(name.encode()) > LONGEST_PATH:
        return f"file name {quoted(name)} is longer than a file system allows ({LONGEST_PART} bytes per part)"
    return None


def shortest(name: str) -> str:
    """The shortest spelling of a relative path, as :class:`~pathlib.PurePosixPath` writes it; empty for ``.``."""
    return "/".join(part for part in name.split("/") if part not in ("", "."))


def folded(name: str) -> str:
    """Equal for names that some file system takes for one.

    Cases and Unicode forms are folded, characters that are ignored (Unicode's ``Default_Ignorable_Code_Point``) left
    out, and so are dots and spaces at the end of a part, which Windows drops.
    """
    bare = _IGNORED.sub("", unicodedata.normalize("NFC", name))
    whole = unicodedata.normalize("NFC", unicodedata.normalize("NFC", bare).casefold())
    return "/".join(part.rstrip(". ") or part for part in whole.split("/"))


def names_below(folder: Path, names: Iterable[str], base: Path) -> set[str]:
    """Files that lead from ``base``, as names that lead from ``folder``."""
    start = Path(os.path.relpath(base.resolve(), folder.resolve())).as_posix()
    return {posixpath.normpath(posixpath.join(start, name)) for name in names}


def json_text(value: object) -> str:
    """``value`` as JSON that can be written as UTF-8: a half of a surrogate pair stays escaped."""
    text = json.dumps(value, ensure_ascii=False)
    return text if is_unicode(text) else json.dumps(value)


def is_unicode(text: str) -> bool:
    """Whether ``text`` can be written as UTF-8: it holds no half of a surrogate pair."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
