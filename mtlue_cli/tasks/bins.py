"""Numbers as classes, by edges that the user states, or by quantiles of the column."""

import math
import re
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise

from mtlue_cli.tasks.names import parse_by_column
from mtlue_cli.tasks.wording import quoted

NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
"""A number in ASCII digits."""

_WHOLE = re.compile(r"\d{1,15}(\.0*)?", re.ASCII)
_COMMA = re.compile(r"[+-]?\d[\d.]*,\d+", re.ASCII)
_QUANTILES = re.compile(r"quantiles:(\d{1,3})", re.ASCII)
MOST_DIGITS = 400
"""Longest number that is read: beyond it a float says nothing."""

MOST_QUANTILES = 100


@dataclass(frozen=True)
class Bins:
    """Classes of one column; an edge is the last value of its class.

    Whole edges such as 2, 9, 19 make the classes ``0-2``, ``3-9``, ``10-19``, ``20+`` of whole numbers from 0 up. An
    edge that is negative or written with a decimal point makes classes of any numbers: ``<=0.5``, ``>0.5 to 1`` and
    ``>1``.

    Attributes:
        column: Header of the column.
        edges: Ascending, as written; none before the quantiles of a column are known.
        quantiles: How many classes of about equal size are asked for; 0: the edges are stated.
    """

    column: str
    edges: tuple[str, ...]
    quantiles: int = 0

    @cached_property
    def is_whole(self) -> bool:
        """Whether all edges are whole numbers from 0 up."""
        return all(edge.isdecimal() for edge in self.edges)

    def fitted(self, cells: Sequence[str | None]) -> "Bins":
        """These bins with the quantiles of a column as edges; bins with stated edges as they are.

        Raises:
            ValueError: The column holds too few different numbers.
        """
        if not self.quantiles:
            return self
        filled = [cell for cell in cells if cell is not None]
        read = {cell: number for cell in filled if (number := parse_number(cell)) is not None}
        numbers = sorted(read[cell] for cell in filled if cell in read)
        lasts = [-(-len(numbers) * part // self.quantiles) - 1 for part in range(1, self.quantiles)] if numbers else []
        edges = sorted({numbers[last] for last in lasts} - set(numbers[-1:]))
        if not edges:
            comma = next(filter(_COMMA.fullmatch, filled), None)
            hint = "" if comma is None else f"; {quoted(comma)} is none, write a decimal point"
            raise ValueError(f"{quoted(self.column)} holds too few different numbers for {self}{hint}")
        whole = all(map(_WHOLE.fullmatch, read))
        return replace(self, edges=tuple(str(int(edge)) if whole else repr(edge) for edge in edges), quantiles=0)

    def class_of(self, cell: str) -> str:
        """Name of the class that the number ``cell`` falls into.

        Raises:
            ValueError: It is no number, or no whole number from 0 up where the edges are whole.
        """
        number = parse_number(cell)
        if number is None:
            hint = "; write a decimal point" if _COMMA.fullmatch(cell) else ""
            raise ValueError(f"{quoted(cell)} is not a number, and --bins sorts numbers{hint}")
        if self.is_whole and not _WHOLE.fullmatch(cell):
            raise ValueError(
                f"{quoted(cell)} is not a whole number from 0 up, as the edges are; write an edge with a decimal point "
                f"({self.edges[0]}.0) for other numbers"
            )
        return self.classes[bisect_left(self._numbers, number)]

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes in order, one more than there are edges."""
        if self.is_whole:
            lasts = [-1, *map(int, self.edges)]
            ranges = (str(last) if last == above + 1 else f"{above + 1}-{last}" for above, last in pairwise(lasts))
            return (*ranges, f"{lasts[-1] + 1}+")
        between = (f">{above} to {last}" for above, last in pairwise(self.edges))
        return (f"<={self.edges[0]}", *between, f">{self.edges[-1]}")

    @cached_property
    def _numbers(self) -> list[float]:
        return [float(edge) for edge in self.edges]

    def __str__(self) -> str:
        edges = ",".join(self.edges) if self.edges else f"quantiles:{self.quantiles}"
        return f"{self.column}={edges}"


def edges_of(classes: Iterable[str]) -> tuple[str, ...]:
    """The edges that gave classes these names; empty if they are not the names of bins."""
    found: list[str] = []
    for name in classes:
        parts = re.fullmatch(r"(?:<=|>\S+ to )(\S+)|(?:\d+-)?(\d+)", name)
        if parts is not None:
            found.append(parts[1] or parts[2])
        elif not re.fullmatch(r">\S+|\d+\+", name):
            return ()
    return tuple(found)


def parse_number(text: str) -> float | None:
    """The finite number that ``text`` writes in ASCII digits, or None."""
    if len(text) > MOST_DIGITS or not NUMBER.fullmatch(text):
        return None
    number = float(text)
    return number if math.isfinite(number) else None


def parse_bins(texts: Sequence[str]) -> tuple[Bins, ...]:
    """The values of ``--bins``, such as ``age=2,9,19`` or ``age=quantiles:5``.

    Raises:
        InputError: Lists everything that is wrong with them.
    """
    form = "COLUMN=EDGE,EDGE,..., such as age=2,9,19, or age=quantiles:5"
    return parse_by_column(texts, _parse, "--bins", form, "has edges already")


def _parse(text: str) -> Bins:
    column, _, stated = (part.strip() for part in text.rpartition("="))
    if not column:
        return Bins(column, ())  # refused with every other value that names no column
    if stated.startswith("quantiles"):
        count = _QUANTILES.fullmatch(stated)
        if count is None or not 2 <= int(count[1]) <= MOST_QUANTILES:
            raise ValueError(f"expected quantiles:N with N from 2 to {MOST_QUANTILES}")
        return Bins(column, (), int(count[1]))
    edges = tuple(edge.strip() for edge in stated.split(","))
    numbers: list[float] = []
    for edge in edges:
        number = parse_number(edge)
        if number is None:
            raise ValueError(f"{quoted(edge)} is not a number")
        numbers.append(number)
    if any(first >= second for first, second in pairwise(numbers)):
        raise ValueError("the edges must ascend")
    return Bins(column, edges)
