"""Text that a released file may repeat: short, of visible characters, in words."""

import re
import unicodedata

_GAP = re.compile(r"[\s\0]+")
_NO_WORD = re.compile(r"(?!https?://)(?<!\S)[!-~]{61,}")
"""Longer than any word, as lines of binary data written as text are; addresses of web pages may be."""

_MOST_READ = 1 << 13
"""Characters, many of which may be blanks."""


def kept_text(text: str, most: int) -> str | None:
    """``text`` on one line without invisible characters; None: nothing is left, or it does not look like text.

    Args:
        text: What a file says.
        most: Bytes of UTF-8 that it may have. A preview of a photo does not fit into few hundred.
    """
    if len(text) > _MOST_READ:
        return None
    words = _GAP.sub(" ", text).strip()
    shown = "".join(char for char in words if unicodedata.category(char) not in ("Cf", "Zs") or char == " ")
    if not shown.isprintable() or len(shown.encode()) > most or _NO_WORD.search(shown):
        return None
    return shown or None
