"""Rows of cells between delimiters, as CSV and TSV have them."""

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass

from mtlue_cli.errors import InputError
from mtlue_cli.tasks.formula import unescaped
from mtlue_cli.tasks.readers.base import LabelSource, RawTable
from mtlue_cli.tasks.readers.text import read_text

_STATED = re.compile(r'(?:"sep=(.)"|sep=(.))(?:\r\n|\r|\n)', re.IGNORECASE)
"""The row that some spreadsheets put on top of all to say how cells are parted."""


@dataclass(frozen=True)
class Parted:
    """The text of a table, its delimiter known.

    Attributes:
        rows: The text without a row that states the delimiter.
        delimiter: What parts the cells.
        above: Number of rows above ``rows``.
    """

    rows: str
    delimiter: str
    above: int = 0


def part(text: str, delimiters: Sequence[str], file_columns: Sequence[str]) -> Parted:
    """Find the delimiter of a table; arguments as those of :func:`read_delimited`."""
    stated = _STATED.match(text)
    if stated is not None and len(delimiters) > 1:
        return Parted(text[stated.end() :], stated[1] or stated[2], 1)
    return Parted(text, _delimiter(text, delimiters, file_columns))


def read_delimited(source: LabelSource, delimiters: Sequence[str]) -> RawTable:
    """Read a table with a header; quoted cells may hold delimiters and line ends, blank rows are left out.

    Args:
        source: A file in an encoding that :func:`~mtlue_cli.tasks.readers.text.read_text` knows.
        delimiters: What may part the cells. The first with which the header holds a file column is taken, else the
            first that parts the header at all.

    Raises:
        InputError: The file is no text, or empty.
    """
    parted = part(read_text(source.path), delimiters, source.file_columns)
    rows, places, faults = _parse(parted.rows, parted.delimiter, parted.above)
    if not rows:
        raise InputError(f"{source.path}: no header can be read", faults, "expected a header and one row per image")
    return RawTable(rows[0], tuple(rows[1:]), tuple(places[1:]), tuple(faults))


def header_of(start: str, delimiter: str) -> tuple[str, ...]:
    """First row that is not blank, parted by ``delimiter``; empty if there is none."""
    rows, _, _ = _parse(start, delimiter, most=1)
    return rows[0] if rows else ()


def _delimiter(text: str, delimiters: Sequence[str], file_columns: Sequence[str]) -> str:
    headers = {delimiter: header_of(text, delimiter) for delimiter in delimiters}
    parting = [delimiter for delimiter in delimiters if len(headers[delimiter]) > 1]
    named = [delimiter for delimiter in parting if set(headers[delimiter]) & set(file_columns)]
    return (named or parting or delimiters)[0]


def _parse(
    text: str, delimiter: str, above: int = 0, most: int | None = None
) -> tuple[list[tuple[str, ...]], list[str], list[str]]:
    """Rows, their places, and faults; reading ends at the first row whose quotation marks make no sense."""
    rows: list[tuple[str, ...]] = []
    places: list[str] = []
    faults: list[str] = []
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    while most is None or len(rows) < most:
        place = f"row {reader.line_num + 1 + above}"
        try:
            cells = next(reader)
        except StopIteration:
            break
        except csv.Error as error:
            faults.append(f"{place}: {_described(error)}; the rows after it were not read")
            break
        if any(cell.strip() for cell in cells):
            rows.append(tuple(unescaped(cell.strip()) for cell in cells))
            places.append(place)
    return rows, places, faults


def _described(error: csv.Error) -> str:
    message = str(error)
    if "unexpected end" in message:
        return "a quotation mark is opened in this row and never closed"
    if "expected after" in message:
        return 'text follows a closing quotation mark; within quotes, write " twice'
    if "field limit" in message:
        return f"a cell has more than {csv.field_size_limit()} characters (a quotation mark that is not closed?)"
    return message
