"""Text from a user's files in messages: visible, short, and harmless to a terminal."""

from collections.abc import Callable, Sequence

LONGEST = 80
"""Characters of a cell that a message shows at most."""

EXAMPLES = 5
"""Lines of one kind that are shown; the others are counted."""


def quoted(text: str) -> str:
    """``text`` in quotation marks, control characters escaped, cut after :data:`LONGEST` characters."""
    if len(text) <= LONGEST:
        return repr(text)
    return f"{text[:LONGEST]!r}... ({len(text)} characters)"


def first_of(lines: Sequence[str], rest: Callable[[int], str]) -> list[str]:
    """The first :data:`EXAMPLES` of ``lines``, and what ``rest`` says of the number of the others."""
    more = len(lines) - EXAMPLES
    return [*lines[:EXAMPLES], rest(more)] if more > 0 else list(lines)


def words(text: str) -> frozenset[str]:
    """The words of a list that blanks separate."""
    return frozenset(text.split())


def listed(texts: Sequence[str], most: int = 12) -> str:
    """``texts`` quoted and separated by commas, the first ``most`` of them."""
    return ", ".join(quoted(text) for text in texts[:most]) + (", ..." if len(texts) > most else "")


def counted(number: int, noun: str) -> str:
    """A number with its noun: ``1 row``, ``2 rows``, ``1,200 rows``."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
