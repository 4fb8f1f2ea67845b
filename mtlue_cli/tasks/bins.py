"""Numbers as classes, by edges that the user states, or by quantiles of the column."""

import math
import re
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from mtlue_cli.errors import InputError
from mtlue_cli.tasks.wording import quoted

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
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

    @property
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
        written = {number: cell for cell in cells if cell is not None and (number := parse_number(cell)) is not None}
        numbers = sorted(number for cell in cells if cell is not None and (number := parse_number(cell)) is not None)
        found = (
            {numbers[-(-len(numbers) * part // self.quantiles) - 1] for part in range(1, self.quantiles)}
            if numbers
            else set()
        )
        edges = sorted(found - {numbers[-1]}) if numbers else []
        if not edges:
            comma = next((cell for cell in map(str, filter(None, cells)) if _COMMA.fullmatch(cell)), None)
            hint = "" if comma is None else f"; {quoted(comma)} is none, write a decimal point"
            raise ValueError(f"{quoted(self.column)} holds too few different numbers for {self}{hint}")
        whole = all(_WHOLE.fullmatch(cell) for cell in written.values())
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
        position = bisect_left([float(edge) for edge in self.edges], number)
        if not self.is_whole:
            return self._real_name(position)
        if not _WHOLE.fullmatch(cell):
            raise ValueError(
                f"{quoted(cell)} is not a whole number from 0 up, as the edges are; write an edge with a decimal point "
                f"({self.edges[0]}.0) for other numbers"
            )
        return self._whole_name(position)

    def _whole_name(self, position: int) -> str:
        first = int(self.edges[position - 1]) + 1 if position else 0
        if position == len(self.edges):
            return f"{first}+"
        last = int(self.edges[position])
        return str(last) if first == last else f"{first}-{last}"

    def _real_name(self, position: int) -> str:
        if position == 0:
            return f"<={self.edges[0]}"
        above = f">{self.edges[position - 1]}"
        return above if position == len(self.edges) else f"{above} to {self.edges[position]}"

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
    if len(text) > MOST_DIGITS or not _NUMBER.fullmatch(text):
        return None
    number = float(text)
    return number if math.isfinite(number) else None


def parse_bins(texts: Sequence[str]) -> tuple[Bins, ...]:
    """The values of ``--bins``, such as ``age=2,9,19`` or ``age=quantiles:5``.

    Raises:
        InputError: Lists everything that is wrong with them.
    """
    found: list[Bins] = []
    faults: list[str] = []
    for text in texts:
        column, sign, listed = text.rpartition("=")
        edges = tuple(edge.strip() for edge in listed.split(","))
        numbers = [parse_number(edge) for edge in edges]
        known = [number for number in numbers if number is not None]
        if not sign or not column.strip():
            faults.append(f"{quoted(text)} names no column")
        elif listed.strip().startswith("quantiles"):
            count = _QUANTILES.fullmatch(listed.strip())
            if count is None or not 2 <= int(count[1]) <= MOST_QUANTILES:
                faults.append(f"{quoted(text)}: expected quantiles:N with N from 2 to {MOST_QUANTILES}")
            elif column.strip() in {bins.column for bins in found}:
                faults.append(f"{quoted(text)}: column {quoted(column.strip())} has edges already")
            else:
                found.append(Bins(column.strip(), (), int(count[1])))
        elif len(known) < len(edges):
            odd = edges[numbers.index(None)]
            faults.append(f"{quoted(text)}: {quoted(odd)} is not a number")
        elif any(first >= second for first, second in pairwise(known)):
            faults.append(f"{quoted(text)}: the edges must ascend")
        elif column.strip() in {bins.column for bins in found}:
            faults.append(f"{quoted(text)}: column {quoted(column.strip())} has edges already")
        else:
            found.append(Bins(column.strip(), edges))
    if faults:
        raise InputError(
            "--bins is not valid", faults, "write COLUMN=EDGE,EDGE,..., such as age=2,9,19, or age=quantiles:5"
        )
    return tuple(found)
