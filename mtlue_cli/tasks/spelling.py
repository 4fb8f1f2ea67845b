"""Spellings of class names: which texts are likely to mean one class, and which are likely to mean no label."""

import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence

from mtlue_cli.tasks.bins import parse_number

LIKELY_MISSING = frozenset(
    {
        "?",
        "-",
        "--",
        "na",
        "n/a",
        "n.a.",
        "#n/a",
        "nan",
        "nat",
        "nil",
        "none",
        "null",
        "<na>",
        "missing",
        "not available",
    }
    | {"unk", "unknown", "undefined", "unspecified", "unlabelled", "unlabeled"}
)
"""Texts that often stand for a missing label, lower case; they are pointed out, never taken for one."""

SENTINELS = frozenset({-1.0, -9.0, -99.0, -999.0, -9999.0})
"""Numbers that often stand for a missing label among whole numbers from 0 up."""

_TRUTH = {"true": 1.0, "false": 0.0}


def meaning(value: str) -> float | str:
    """What a class name is likely to mean, so that two spellings of it can be found: ``1``, ``1.0`` and ``true``.

    Accents count alike however they are encoded, and so do blanks within; case does not, as ``a`` and ``A`` may be two
    letters to be told apart.
    """
    number = parse_number(value)
    if number is not None:
        return number
    return _TRUTH.get(value.lower(), " ".join(unicodedata.normalize("NFC", value).split()))


def folded(value: str) -> float | str:
    """:func:`meaning`, with upper and lower case alike."""
    found = meaning(value)
    return found.casefold() if isinstance(found, str) else found


def alike(values: Iterable[str]) -> list[list[str]]:
    """Values that are likely to mean one class, a list for each such class, in the order of ``values``."""
    spellings: dict[float | str, list[str]] = defaultdict(list)
    for value in values:
        spellings[meaning(value)].append(value)
    return [ways for ways in spellings.values() if len(ways) > 1]


def differing_in_case(values: Iterable[str]) -> list[list[str]]:
    """Values that differ in upper and lower case alone."""
    spellings: dict[float | str, list[str]] = defaultdict(list)
    for value in values:
        spellings[folded(value)].append(value)
    return [ways for ways in spellings.values() if len({meaning(way) for way in ways}) > 1]


def respelled(new: Iterable[str], known: Sequence[str]) -> dict[str, str]:
    """Names of ``new`` that are none of ``known`` but another spelling of one, to that one."""
    spelled = {folded(name): name for name in reversed(known)}
    return {name: spelled[folded(name)] for name in new if name not in known and folded(name) in spelled}


def likely_missing(values: Iterable[str]) -> list[str]:
    """The values of a column that may stand for a missing label: words, or a negative number beside 0 and 1."""
    values = tuple(values)
    numbers = {value: number for value in values if (number := parse_number(value)) is not None}
    others = set(numbers.values()) - SENTINELS
    counts = {0.0, 1.0} <= others and min(others) >= 0 and all(number.is_integer() for number in others)
    return [
        value for value in values if value.lower() in LIKELY_MISSING or (counts and numbers.get(value) in SENTINELS)
    ]
