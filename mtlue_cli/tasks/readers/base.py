"""What every label format is read into, and what a reader declares of itself."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mtlue_cli.choices import LabelFormat
from mtlue_cli.tasks.declared import Declaration

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
        rows: Cells, a row each, without surrounding blanks; None or an empty text where nothing stands.
        places: Where each row stands, as an editor counts, such as ``"row 3"``.
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


def always(start: str) -> bool:  # noqa: ARG001 - the shape of every such test
    """Recognise any content: the suffix alone decides."""
    return True


def on_request(names: Sequence[str]) -> bool:  # noqa: ARG001 - the shape of every such test
    """Recognise no names: such a format is only read if it is asked for."""
    return False


@dataclass(frozen=True)
class LabelReader:
    """One label format.

    Attributes:
        name: What ``--label-format`` calls it.
        title: What it is, in a few words.
        read: Reads a source; raises InputError if nothing of it can be understood.
        suffixes: File suffixes that may hold it, lower case; none for a format that is only read on request.
        recognises: Whether a file's first characters look like it.
        reads_names: Whether it reads the names of the images in place of a file.
        fits: Whether these names of images leave no doubt that they are in this format.
    """

    name: LabelFormat
    title: str
    read: Callable[[LabelSource], RawTable]
    suffixes: tuple[str, ...] = ()
    recognises: Callable[[str], bool] = always
    reads_names: bool = False
    fits: Callable[[Sequence[str]], bool] = on_request
