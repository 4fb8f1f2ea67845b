"""Spellings of class names: which texts are likely to mean one class, and which are likely to mean no label."""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence

from mtlue_cli.tasks.bins import parse_number
from mtlue_cli.tasks.wording import words

LIKELY_MISSING = words(
    "? - -- na n/a n.a. #n/a nan nat nil none null <na> missing inf -inf infinity -infinity n.d. unbekannt unk unknown "
    "undefined unspecified unlabelled unlabeled"
) | {"not available", "not applicable"}
"""Texts that often stand for a missing label, lower case; they are pointed out, never taken for one."""

SENTINELS = frozenset({-1.0, -9.0, -99.0, -999.0, -9999.0})
"""Numbers that often stand for a missing label among whole numbers from 0 up."""

EXACT = 2.0**53
"""Numbers from here on differ in their texts where they are the same floating-point number."""

TRUTH = dict.fromkeys(words("yes y true t 1 1.0"), True) | dict.fromkeys(words("no n false f 0 0.0"), False)
"""Texts that say yes or no, lower case."""

_SHORT = (("y", "yes"), ("n", "no"), ("m", "male"), ("f", "female"), ("t", "true"), ("f", "false"))
_MONTH = "(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)"
_AS_DATE = re.compile(rf"\d{{1,2}}-{_MONTH}|{_MONTH}-\d{{2}}", re.IGNORECASE)
_RANGE = re.compile(r"\d+\s*-\s*\d+")


def meaning(value: str) -> float | str:
    """What a class name is likely to mean, so that two spellings of it can be found: ``1``, ``1.0`` and ``true``.

    Accents count alike however they are encoded, and so do blanks within; case does not, as ``a`` and ``A`` may be two
    letters to be told apart.
    """
    number = parse_number(value)
    if number is not None and abs(number) < EXACT:
        return number
    if value.lower() in ("true", "false"):
        return float(TRUTH[value.lower()])
    return " ".join(unicodedata.normalize("NFC", value).split())


def folded(value: str) -> float | str:
    """:func:`meaning`, with upper and lower case alike."""
    found = meaning(value)
    return found.casefold() if isinstance(found, str) else found


def alike(values: Iterable[str]) -> list[list[str]]:
    """Values that are likely to mean one class, a list for each such class, in the order of ``values``."""
    return [ways for ways in _grouped(values, meaning) if len(ways) > 1]


def differing_in_case(values: Iterable[str]) -> list[list[str]]:
    """Values that differ in upper and lower case alone."""
    return [ways for ways in _grouped(values, folded) if len(set(map(meaning, ways))) > 1]


def _grouped(values: Iterable[str], key: Callable[[str], float | str]) -> Iterable[list[str]]:
    groups: dict[float | str, list[str]] = defaultdict(list)
    for value in values:
        groups[key(value)].append(value)
    return groups.values()


def abbreviated(values: Iterable[str]) -> list[list[str]]:
    """Values that may be one class though their texts differ: ``M`` and ``male``, or ``yes`` and ``1`` among such."""
    spelled = {value.lower(): value for value in values}
    found = [[spelled[short], spelled[long]] for short, long in _SHORT if short in spelled and long in spelled]
    if not found and spelled.keys() <= TRUTH.keys() and len(spelled) > 2:
        sides = ([spelled[way] for way in spelled if TRUTH[way] is side] for side in (True, False))
        found = [ways for ways in sides if len(ways) > 1]
    return found


def turned_to_dates(values: Iterable[str]) -> list[str]:
    """Values such as ``Oct-19`` beside ranges such as ``20-29``: spreadsheets make dates of ``10-19`` so."""
    values = tuple(values)
    return list(filter(_AS_DATE.fullmatch, values)) if any(map(_RANGE.fullmatch, values)) else []


def respelled(new: Iterable[str], known: Sequence[str]) -> dict[str, str]:
    """Names of ``new`` that are none of ``known`` but another spelling of one, to that one."""
    spelled = {folded(name): name for name in reversed(known)}
    found: dict[str, str] = {}
    for name in new:
        if name in known:
            continue
        others = [way for ways in abbreviated((*known, name)) if name in ways for way in ways if way != name]
        way = spelled.get(folded(name), next(iter(others), None))
        if way is not None:
            found[name] = way
    return found


def likely_missing(values: Iterable[str]) -> list[str]:
    """The values of a column that may stand for a missing label: words, or a negative number beside 0 and 1."""
    values = tuple(values)
    numbers = {value: number for value in values if (number := parse_number(value)) is not None}
    others = set(numbers.values()) - SENTINELS
    counts = {0.0, 1.0} <= others and min(others) >= 0 and all(number.is_integer() for number in others)
    return [
        value for value in values if value.lower() in LIKELY_MISSING or (counts and numbers.get(value) in SENTINELS)
    ]
