"""Text from a user's files in messages: visible, short, and harmless to a terminal."""

LONGEST = 80
"""Characters of a cell that a message shows at most."""


def quoted(text: str) -> str:
    """``text`` in quotation marks, control characters escaped, cut after :data:`LONGEST` characters."""
    if len(text) <= LONGEST:
        return repr(text)
    return f"{text[:LONGEST]!r}... ({len(text)} characters)"


def listed(texts: list[str], most: int = 12) -> str:
    """``texts`` quoted and separated by commas, the first ``most`` of them."""
    return ", ".join(quoted(text) for text in texts[:most]) + (", ..." if len(texts) > most else "")


def counted(number: int, noun: str) -> str:
    """A number with its noun: ``1 row``, ``2 rows``, ``1,200 rows``."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
