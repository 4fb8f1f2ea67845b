"""Columns whose cells list several labels: a binary task for each label."""

import re
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from mtlue_cli.errors import InputError
from mtlue_cli.tasks.wording import quoted

SEPARATORS = ("|", ";", ",")
"""What separates labels, in the order in which it is looked for; blanks come last."""

LONGEST_LABEL = 40
"""Characters of one label in a list, at most."""

_NAMED = {"space": " ", "blank": " ", "tab": "\t", "comma": ",", "semicolon": ";", "pipe": "|"}
_BRACKETS = "[](){} \t\r\n"
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
    found: dict[str, MultiLabel] = {}
    faults: list[str] = []
    for text in texts:
        column, sign, separator = text.rpartition(":")
        separator = _NAMED.get(separator.lower(), separator)
        if not sign or len(separator) != 1 or separator.isalnum():
            column, separator = text, ""
        if not column.strip():
            faults.append(f"{quoted(text)} names no column")
        elif column.strip() in found:
            faults.append(f"{quoted(text)}: column {quoted(column.strip())} is named already")
        else:
            found[column.strip()] = MultiLabel(column.strip(), separator or None)
    if faults:
        raise InputError("--multi-label is not valid", faults, "write COLUMN or COLUMN:SEPARATOR, such as tags:|")
    return tuple(found.values())


def separator_of(cells: Collection[str]) -> str:
    """The separator that the cells of a column show; a blank if they show none other."""
    return next((sign for sign in SEPARATORS if any(sign in cell for cell in cells)), " ")


def labels_of(cell: str, separator: str) -> list[str]:
    """The labels that a cell lists, in order, each once: brackets around all and quotation marks around each go."""
    inner = cell.strip(_BRACKETS)
    parts = inner.split() if separator == " " else inner.split(separator)
    return list(dict.fromkeys(label for part in parts if (label := part.strip(_QUOTES))))


def looks_like_lists(values: Collection[str]) -> str | None:
    """The separator of values that look like lists: several hold more than one label, and labels come back.

    Args:
        values: The distinct values of a column.
    """
    for separator in (*SEPARATORS, " "):
        lists = [labels_of(value, separator) for value in values]
        several = [labels for labels in lists if len(labels) > 1]
        counts = Counter(label for labels in lists for label in labels)
        again = {label for labels in several for label in labels if counts[label] > 1}
        short = all(len(label) <= LONGEST_LABEL and re.search(r"\w", label) for label in counts)
        if len(several) >= 2 and short and len(counts) <= len(lists) and 2 * len(again) >= len(counts):
            return separator
        if several and separator != " ":
            return None
    return None
