"""Rows of cells between delimiters: CSV and TSV, read and written.

A spreadsheet takes a cell that begins with one of ``= + - @`` for a formula, which can run commands or send the sheet
away. Such a cell is written with an apostrophe before it, which spreadsheets show as text; plain numbers such as ``-1``
are left alone. Reading takes the apostrophe off. File names get ``./`` instead, another spelling of the same
path for any program.

Source: OWASP, CSV Injection.
"""

import csv
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from mtlue_cli.budget import check_table
from mtlue_cli.choices import LabelFormat
from mtlue_cli.errors import InputError
from mtlue_cli.tasks.bins import NUMBER
from mtlue_cli.tasks.readers.base import LabelReader, LabelSource, RawTable
from mtlue_cli.tasks.readers.text import read_text
from mtlue_cli.tasks.wording import counted

DELIMITERS = (",", ";", "\t")
"""What may separate the cells of a CSV file; many European spreadsheets write ``;``. The header decides."""

_STATED = re.compile(r'(?:"sep=(.)"|sep=(.))(?:\r\n|\r|\n)', re.IGNORECASE)
"""The row that some spreadsheets put on top of all to say how cells are separated."""

_LONG_LINE = 1 << 20
"""Characters from which the cells of a line are counted before they are separated."""
_LOOKED_AT = 1024
"""Rows between two looks at how large a table is by now."""

_FORMULA = "[=+\\-@\uff1d\uff0b\uff0d\uff20]"  # the last four are the full-width signs
_SEPARATED = re.compile(f"\r|[,;\t|]\\s*{_FORMULA}")
_EXECUTED = re.compile(f"'*{_FORMULA}")
_ESCAPED = re.compile(f"'+{_FORMULA}")


@dataclass(frozen=True)
class Parted:
    """The text of a table, its delimiter, and how many rows above the text state the delimiter."""

    rows: str
    delimiter: str
    above: int = 0


def part(text: str, delimiters: Sequence[str], file_columns: Sequence[str]) -> Parted:
    """Find the delimiter of a table.

    The first of ``delimiters`` with which the header holds one of ``file_columns`` is taken, else the first that splits
    the header at all.
    """
    stated = _STATED.match(text)
    if stated is not None and len(delimiters) > 1:
        return Parted(text[stated.end() :], stated[1] or stated[2], 1)
    headers = {delimiter: header_of(text, delimiter) for delimiter in delimiters}
    parting = [delimiter for delimiter in delimiters if len(headers[delimiter]) > 1]
    named = [delimiter for delimiter in parting if set(headers[delimiter]) & set(file_columns)]
    return Parted(text, (named or parting or delimiters)[0])


def read_delimited(source: LabelSource, delimiters: Sequence[str] = DELIMITERS) -> RawTable:
    """Read a table with a header; quoted cells may hold delimiters and line ends, blank rows are left out.

    Raises:
        InputError: The file is no text, or empty.
    """
    parted = part(read_text(source.path), delimiters, source.file_columns)
    rows, places, faults = _parse(parted.rows, parted.delimiter, parted.above, path=source.path)
    if not rows:
        raise InputError(f"{source.path}: no header can be read", faults, "expected a header and one row per image")
    header, width = rows[0], len(rows[0])
    sound: dict[str, tuple[str, ...]] = {}
    odd: list[str] = []
    for place, row in zip(places[1:], rows[1:], strict=True):
        # A spreadsheet that once held more columns writes empty cells beyond the header, or fewer than empty names.
        cells = row if any(row[width:]) else row[:width]
        cells = cells if any(header[len(cells) :]) else (*cells, *("",) * (width - len(cells)))
        if len(cells) == width:
            sound[place] = cells
        else:
            odd.append(f"{place}: {counted(len(row), 'cell')}, expected {width}")
    return RawTable(header, tuple(sound.values()), tuple(sound), (*odd, *faults))


def header_of(start: str, delimiter: str) -> tuple[str, ...]:
    """First row that is not blank, separated by ``delimiter``; empty if there is none."""
    rows, _, _ = _parse(start, delimiter, most=1)
    return rows[0] if rows else ()


def _parse(
    text: str, delimiter: str, above: int = 0, most: int | None = None, path: Path | None = None
) -> tuple[list[tuple[str, ...]], list[str], list[str]]:
    """Rows, their places, and faults; reading ends at the first row whose quotation marks make no sense.

    Raises:
        InputError: The file ``path``, if it is given, has more rows, columns or cells than the budget.
    """
    rows: list[tuple[str, ...]] = []
    places: list[str] = []
    faults: list[str] = []
    widest = 0

    def lines() -> Iterator[str]:
        for line in io.StringIO(text, newline=""):
            if path is not None and len(line) > _LONG_LINE:
                check_table(path, 1, line.count(delimiter) - csv.field_size_limit())  # one cell may hold some
            yield line

    reader = csv.reader(lines(), delimiter=delimiter, strict=True)
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
            if path is not None and (len(cells) > widest or len(rows) % _LOOKED_AT == 0):
                widest = max(widest, len(cells))
                check_table(path, len(rows), widest)
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


def escaped(cell: str) -> str:
    """``cell`` as a spreadsheet may open it; :func:`unescaped` takes it back."""
    return f"'{cell}" if _EXECUTED.match(cell) and not NUMBER.fullmatch(cell) else cell


def unescaped(cell: str) -> str:
    """What :func:`escaped` was given; any other cell as it is."""
    return cell[1:] if _ESCAPED.match(cell) else cell


def escaped_name(name: str) -> str:
    """A relative file name as a spreadsheet may open it, as another spelling of the same path.

    Readers of tables strip blanks, so a name that begins with one is spelled so too.
    """
    return f"./{name}" if _EXECUTED.match(name) or name[:1].isspace() else name


def write_row(text: io.StringIO, cells: Sequence[str], delimiter: str = ",") -> None:
    """Append a row of a delimited table."""
    # A lone carriage return would end the row where the writer does not quote it, as Python's did not before 3.13. A
    # spreadsheet that separates cells elsewhere would find a formula in x;=1+1.
    quoted = any(map(_SEPARATED.search, cells))
    quoting: Literal[0, 1] = csv.QUOTE_ALL if quoted else csv.QUOTE_MINIMAL
    csv.writer(text, lineterminator="\n", delimiter=delimiter, quoting=quoting).writerow(cells)


CSV = LabelReader(LabelFormat.CSV, "comma- or semicolon-separated table", read_delimited, (".csv",))
TSV = LabelReader(LabelFormat.TSV, "tab-separated table", partial(read_delimited, delimiters=("\t",)), (".tsv", ".tab"))
