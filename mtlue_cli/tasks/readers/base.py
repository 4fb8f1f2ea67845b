"""What every label format is read into, and what a reader declares of itself."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mtlue_cli.choices import LabelFormat
from mtlue_cli.tasks.declared import Declaration
from mtlue_cli.tasks.wording import quoted

FILE_COLUMNS = ("file_name", "filename", "image", "image_id", "path")
"""Headers that name the file column, first match wins."""

CANONICAL_FILE_COLUMN = FILE_COLUMNS[0]
"""Header of the file column of a format that has no header, or one that no other program knows."""

Cell = str | None


@dataclass(frozen=True)
class RawTable:
    """Cells as a reader found them.

    Attributes:
        header: Column names.
        rows: A cell per column, without surrounding blanks; None or an empty text where there is none.
        places: Where each row is, as an editor counts, such as ``"row 3"``.
        faults: What is wrong with single rows, each with its place; such rows are not in ``rows``.
        notes: What a user should know and is no fault.
        file_column: Header of the file column, where the format settles it.
        declarations: Columns whose kind the format settles.
        others: Images of the folder that are no photos, such as masks of another kind; they are not released.
        unread: Columns whose cells cannot be labels, and why; they are not in ``header``.
        one_hot: Columns that were made of one that lists labels.
    """

    header: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    places: tuple[str, ...]
    faults: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    file_column: str | None = None
    declarations: tuple[Declaration, ...] = ()
    others: frozenset[str] = frozenset()
    unread: Mapping[str, str] = field(default_factory=dict)
    one_hot: frozenset[str] = frozenset()


def image_table(
    columns: Iterable[str],
    rows: Iterable[tuple[Cell, ...]],
    places: Iterable[str] | None = None,
    **more: Any,  # noqa: ANN401 - fields of several types
) -> RawTable:
    """A table of a format that settles the file column: the first cell of each row.

    Without ``places``, a row is called by its file. ``more`` are other fields of the table.
    """
    cells = tuple(rows)
    where = tuple(quoted(row[0] or "") for row in cells) if places is None else tuple(places)
    return RawTable((CANONICAL_FILE_COLUMN, *columns), cells, where, file_column=CANONICAL_FILE_COLUMN, **more)


def number_text(value: float) -> str:
    """A number in one spelling: without decimals where it has none, else as short as it can be told apart.

    ``1.0`` gives ``1``, as an integer column that once held a gap is stored as floating point.
    """
    return str(int(value)) if value.is_integer() and abs(value) < 2**53 else repr(value)


LIST_SEPARATOR = "|"


class ListText(str):
    """A cell that is a list in its file."""


def list_text(cells: Iterable[Cell]) -> Cell:
    """A list of values as one cell, ``a|b``; missing values are left out, and a list without any is a missing cell."""
    text = LIST_SEPARATOR.join(cell for cell in cells if cell)
    return ListText(text) if text else None


@dataclass(frozen=True)
class LabelSource:
    """Where labels come from.

    Attributes:
        path: The label file, or the image folder for a format that reads file names.
        file_columns: Headers that may name the file column.
        image_names: The folder's images, relative POSIX; only for a format that reads file names.
        levels: Names of the levels of folders, for a format that reads them.
    """

    path: Path
    file_columns: tuple[str, ...] = FILE_COLUMNS
    image_names: tuple[str, ...] = ()
    levels: tuple[str, ...] = ()


@dataclass(frozen=True)
class LabelReader:
    """One label format.

    Attributes:
        name: What ``--label-format`` calls it.
        title: What it is, in a few words.
        read: Reads a source; raises InputError if nothing of it can be understood.
        suffixes: File suffixes that may hold it, lower case; none for a format that is only read on request.
        recognises: Whether a file's first characters look like it. None: the suffix alone decides.
        reads_names: Whether it reads the names of the images in place of a file.
        fits: Whether these names of images leave no doubt that they are in this format. None: only on request.
    """

    name: LabelFormat
    title: str
    read: Callable[[LabelSource], RawTable]
    suffixes: tuple[str, ...] = ()
    recognises: Callable[[str], bool] | None = None
    reads_names: bool = False
    fits: Callable[[Sequence[str]], bool] | None = None
