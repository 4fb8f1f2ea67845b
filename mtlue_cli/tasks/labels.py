"""Readers of label files: a table of files and task columns, every fault found before any work starts."""

import csv
import re
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from mtlue_cli.choices import TaskKind
from mtlue_cli.errors import InputError
from mtlue_cli.tasks.spec import UNLABELLED, LabelTable, Task, TaskSet

FILE_COLUMNS = ("file_name", "filename", "image", "image_id", "path")
"""Headers that name the file column, first match wins."""

MAX_CLASSES = 1000
"""A column with more distinct values looks like an identifier, not like a task."""

_DRIVE = re.compile(r"^[A-Za-z]:")


@dataclass(frozen=True)
class RawTable:
    """Cells as a reader found them.

    Attributes:
        header: Column names.
        rows: Cells, a row each.
        places: Where each row stands, such as ``"row 3"``, for messages.
    """

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    places: tuple[str, ...]


@dataclass(frozen=True)
class LabelFile:
    """A label file, understood: the class indices beside the cells they came from.

    Attributes:
        table: File names and class indices.
        header: Column names as written.
        rows: Cells as written, in the order of ``table``.
        file_index: Position of the file column in ``header``.
    """

    table: LabelTable
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    file_index: int


def read_csv(path: Path) -> RawTable:
    """Read a comma-separated file with a header; a byte-order mark and blank lines are accepted.

    Raises:
        InputError: The file is not UTF-8 text, not CSV, or empty.
    """
    rows: list[tuple[str, ...]] = []
    places: list[str] = []
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.reader(stream, strict=True)
            for cells in reader:
                if any(cell.strip() for cell in cells):
                    rows.append(tuple(cell.strip() for cell in cells))
                    places.append(f"row {reader.line_num}")
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text", hint="save the label file as UTF-8") from error
    except csv.Error as error:
        raise InputError(f"{path} is not CSV: {error}") from error
    if not rows:
        raise InputError(f"{path} is empty", hint="expected a header and one row an image")
    return RawTable(rows[0], tuple(rows[1:]), tuple(places[1:]))


READERS: Mapping[str, Callable[[Path], RawTable]] = {".csv": read_csv}
"""Reader of each label file suffix; a new format is one function and one line here."""


def read_labels(path: Path, *, file_column: str | None = None) -> LabelTable:
    """Labels to learn from: every column must offer at least two classes.

    Args:
        path: Label file; its suffix picks the reader.
        file_column: Header of the file column; None tries :data:`FILE_COLUMNS`.

    Raises:
        InputError: Lists every fault with its row.
    """
    return read_label_file(path, file_column=file_column).table


def read_label_file(
    path: Path,
    *,
    file_column: str | None = None,
    for_learning: bool = True,
    learned: Collection[str] | None = None,
) -> LabelFile:
    """Labels together with the cells they came from.

    Args:
        path: Label file; its suffix picks the reader.
        file_column: Header of the file column; None tries :data:`FILE_COLUMNS`.
        for_learning: Whether a column with fewer than two classes, or with so many that it looks like an identifier,
            is a fault. A folder that is only to be protected may be small, and may carry columns that are no tasks.
        learned: The columns that ``for_learning`` looks at; None: all.

    Raises:
        InputError: Lists every fault with its row.
    """
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise InputError(f"{path}: label files of this kind are not read", hint=f"expected {', '.join(READERS)}")
    raw = reader(path)
    file_index = _find_file_column(path, raw.header, file_column)
    faults = _header_faults(raw.header)
    kept, row_faults = _check_rows(raw, file_index)
    faults += row_faults
    if not kept and not row_faults:
        faults.append("no row below the header")
    columns, tasks = {}, []
    for position, name in enumerate(raw.header):
        if position == file_index:
            continue
        cells = [raw.rows[row][position] for row in kept]
        classes = ordered_classes(cells)
        if for_learning and kept and (learned is None or name in learned):
            faults += class_faults(name, classes)
        tasks.append(Task(name, TaskKind.BINARY if len(classes) <= 2 else TaskKind.CATEGORICAL, classes))
        index_of = {value: index for index, value in enumerate(classes)}
        columns[name] = np.array([index_of.get(cell, UNLABELLED) for cell in cells], dtype=np.int64)
    if not tasks:
        faults.append("no column beside the file column: there is nothing to learn or to protect")
    if faults:
        raise InputError(f"{path} has {len(faults)} fault{'s' if len(faults) > 1 else ''}", faults)
    names = tuple(str(PurePosixPath(raw.rows[row][file_index])) for row in kept)
    table = LabelTable(names, columns, TaskSet(tuple(tasks)))
    return LabelFile(table, raw.header, tuple(raw.rows[row] for row in kept), file_index)


def ordered_classes(cells: Sequence[str]) -> tuple[str, ...]:
    """Distinct values of a column, empty cells left out, in an order that does not depend on the rows.

    Numbers sort by value; other text sorts naturally, runs of digits by value: ``0-2, 3-9, 10-19, 70+``.
    """
    values = {cell for cell in cells if cell}
    try:
        return tuple(sorted(values, key=lambda value: (int(value), value)))
    except ValueError:
        return tuple(sorted(values, key=_natural_key))


def path_fault(name: str) -> str | None:
    """Why ``name`` cannot be a file of the folder; None if it can.

    Only relative POSIX paths that stay inside the folder are accepted, so that no label file can make the program read
    or write elsewhere.
    """
    if not name:
        return "file name is empty"
    if "\0" in name:
        return "file name holds a NUL"
    if "\\" in name:
        return f"file name {name!r} holds a backslash, use / between folders"
    if name.startswith("/") or _DRIVE.match(name):
        return f"file name {name!r} is absolute, expected one relative to the image folder"
    if ".." in name.split("/"):
        return f"file name {name!r} leaves the image folder"
    if not PurePosixPath(name).name:
        return f"file name {name!r} names no file"
    return None


def _natural_key(value: str) -> tuple[tuple[int, int, str], ...]:
    parts = re.findall(r"\d+|\D+", value)
    return (*((0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts), (2, 0, value))


def _find_file_column(path: Path, header: Sequence[str], wanted: str | None) -> int:
    candidates = (wanted,) if wanted is not None else FILE_COLUMNS
    for candidate in candidates:
        if candidate in header:
            return header.index(candidate)
    looked_for = " or ".join(repr(name) for name in candidates)
    raise InputError(
        f"{path}: no file column, looked for {looked_for}",
        [f"row 1 has the columns {', '.join(repr(name) for name in header)}"],
        "name the column that holds the file names with --file-column",
    )


def _header_faults(header: Sequence[str]) -> list[str]:
    faults = [f"row 1: column {position} has no name" for position, name in enumerate(header, 1) if not name]
    repeated = [name for name, count in Counter(header).items() if name and count > 1]
    return faults + [f"row 1: column {name!r} stands more than once" for name in repeated]


def _check_rows(raw: RawTable, file_index: int) -> tuple[list[int], list[str]]:
    """Positions of the sound rows, and a line a fault."""
    kept: list[int] = []
    faults: list[str] = []
    first_place: dict[str, str] = {}
    for position, (cells, place) in enumerate(zip(raw.rows, raw.places, strict=True)):
        if len(cells) != len(raw.header):
            faults.append(f"{place}: {len(cells)} cells, expected {len(raw.header)}")
            continue
        problem = path_fault(cells[file_index])
        if problem is not None:
            faults.append(f"{place}: {problem}")
            continue
        name = str(PurePosixPath(cells[file_index]))
        if name in first_place:
            faults.append(f"{place}: file {name!r} stands already in {first_place[name]}")
            continue
        first_place[name] = place
        kept.append(position)
    return kept, faults


def class_faults(name: str, classes: Sequence[str]) -> list[str]:
    """Why nothing can be learned from the column ``name`` of ``classes``, a line each."""
    if not classes:
        return [f"column {name!r} holds no label at all"]
    if len(classes) == 1:
        return [f"column {name!r} holds only one class, {classes[0]!r}: there is nothing to tell apart"]
    if len(classes) > MAX_CLASSES:
        return [f"column {name!r} holds {len(classes)} distinct values: it looks like an identifier, leave it out"]
    return []
