"""Columns whose cells list several labels: a binary task for each label."""

import re
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from mtlue_cli.tasks.names import parse_by_column
from mtlue_cli.tasks.readers.base import LIST_SEPARATOR, ListText
from mtlue_cli.tasks.spelling import meaning

SEPARATORS = ("|", ";", ",")
"""What separates labels, in the order in which it is looked for; blanks come last."""

RARE_SEPARATORS = ("/", "+", "&")
"""What separates labels too, but is part of one more often: to be named with the column."""

LONGEST_LABEL = 40
"""Characters of one label in a list, at most."""

_NAMED = {"space": " ", "blank": " ", "tab": "\t", "comma": ",", "semicolon": ";", "pipe": "|"}
_BRACKETS = (("[", "]"), ("{", "}"), ("(", ")"))
_QUOTES = "'\" \t\r\n"


@dataclass(frozen=True)
class MultiLabel:
    """One column of lists.

    Attributes:
        column: Its header.
        separator: What separates its labels; a blank stands for any run of blanks. None: its cells decide.
    """

    column: str
    separator: str | None = None

    def __str__(self) -> str:
        return self.column if self.separator is None else f"{self.column}:{self.separator}"


def parse_multi_labels(texts: Sequence[str]) -> tuple[MultiLabel, ...]:
    """The values of ``--multi-label``, such as ``tags`` or ``tags:;``.

    Raises:
        InputError: Lists everything that is wrong with them.
    """
    form = "COLUMN or COLUMN:SEPARATOR, such as tags:|"
    return parse_by_column(texts, _parse, "--multi-label", form, "is named already")


def _parse(text: str) -> MultiLabel:
    column, sign, separator = text.rpartition(":")
    separator = _NAMED.get(separator.lower(), separator)
    if not sign or len(separator) != 1 or separator.isalnum():
        return MultiLabel(text.strip())
    return MultiLabel(column.strip(), separator)


def separator_of(cells: Collection[str]) -> str:
    """The separator that the cells of a column show; a blank if they show none other."""
    if any(isinstance(cell, ListText) for cell in cells):
        return LIST_SEPARATOR
    return next((sign for sign in SEPARATORS if any(sign in cell for cell in cells)), " ")


def parts_of(cell: str, separator: str) -> list[str]:
    """What a cell lists, in order: brackets around all and quotation marks around each go."""
    inner = cell.strip()
    for opening, closing in _BRACKETS:
        within = inner[1:-1]
        if inner.startswith(opening) and inner.endswith(closing) and not {opening, closing} & set(within):
            inner = within.strip()
    parts = inner.split() if separator == " " else inner.split(separator)
    return [label for part in parts if (label := part.strip(_QUOTES))]


def labels_of(cell: str, separator: str) -> list[str]:
    """The labels that a cell lists, in order, each once."""
    return list(dict.fromkeys(parts_of(cell, separator)))


def vector_length(values: Collection[str], separator: str) -> int | None:
    """How many numbers each value lists, if all list equally many and all of them are 0 or 1; None otherwise.

    Such lists say by its position which label there is: ``[0, 1, 0]``.
    """
    vectors = {tuple(parts_of(value, separator)) for value in values}
    lengths = {len(vector) for vector in vectors}
    if len(lengths) != 1 or min(lengths) < 2:
        return None
    return min(lengths) if all(meaning(part) in (0, 1) for vector in vectors for part in vector) else None


def vector_cells(cell: str | None, separator: str, length: int) -> list[str | None]:
    """``0`` or ``1`` for each position of a cell of :func:`vector_length` numbers."""
    return [None] * length if cell is None else [str(int(meaning(part))) for part in parts_of(cell, separator)]


def looks_like_lists(values: Collection[str]) -> str | None:
    """The separator of the distinct values of a column that look like lists; None if they do not.

    Several of them hold more than one label, and labels come back.
    """
    for separator in (*SEPARATORS, " ", *RARE_SEPARATORS):
        is_rare = separator in RARE_SEPARATORS
        if not is_rare and len(values) > 1 and vector_length(values, separator) is not None:
            return separator
        lists = [labels_of(value, separator) for value in values]
        several = [labels for labels in lists if len(labels) > 1]
        counts = Counter(label for labels in lists for label in labels)
        again = {label for labels in several for label in labels if counts[label] > 1}
        alone = {labels[0] for labels in lists if len(labels) == 1}
        is_each_alone = bool(several) and all(alone.issuperset(labels) for labels in several)
        short = all(len(label) <= LONGEST_LABEL and re.search(r"\w", label) for label in counts)
        if is_rare:
            is_list = is_each_alone
        else:
            come_back = len(several) >= 2 and len(counts) <= len(lists) and 2 * len(again) >= len(counts)
            is_list = short and (come_back or (separator != " " and is_each_alone))
        if is_list:
            return separator
        if several and separator in SEPARATORS:
            return None
    return None
