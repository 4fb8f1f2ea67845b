"""A label file for a release: its rows and columns as they are, with the released file names."""

import csv
import io
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path, PurePosixPath

from mtlue_cli.choices import LabelFormat
from mtlue_cli.layouts.image_text import has_image
from mtlue_cli.tasks.parquet_file import read_table
from mtlue_cli.tasks.paths import json_text
from mtlue_cli.tasks.presets.preset import Preset
from mtlue_cli.tasks.readers.delimited import part, unescaped, write_row
from mtlue_cli.tasks.readers.nih import FILES, LISTED
from mtlue_cli.tasks.readers.text import read_text

DELIMITED = frozenset({LabelFormat.CSV, LabelFormat.TSV})
Renamed = Callable[[str], str | None]
"""The released name of the file that a cell names; None if it is not released."""


def rewritten(labels: Path, form: LabelFormat, file_column: str, names: Mapping[str, str]) -> bytes:
    """The content of ``labels`` with the rows of released files only, and their released names.

    All other cells, the order of rows and columns, and the types of a Parquet file stay as they are.

    Args:
        labels: A label file that was read without a fault.
        form: Its format, one of :data:`REWRITERS`.
        file_column: Header of its file column.
        names: File of the originals to released file, relative POSIX.
    """

    def renamed(cell: str) -> str | None:
        return names.get(str(PurePosixPath(cell.strip())))

    return REWRITERS[form](labels, FILES if form is LabelFormat.NIH else file_column, renamed)


def rewritten_by_preset(labels: Path, preset: Preset, names: Mapping[str, str], images: Path) -> bytes:
    """As :func:`rewritten`, of a delimited table that is read by a preset.

    A cell that holds the path of its image gets the released one. Where a path is made of other cells, they stay.
    ``images`` is the folder of the originals.
    """

    def changed(row: Mapping[str, str]) -> str | None:
        source, cell = str(PurePosixPath(preset.path_of(row, images))), row[preset.file_columns[-1]]
        if source not in names:
            return None
        return cell.removesuffix(source) + names[source] if cell.endswith(source) else cell

    return _rows_of(labels, preset.file_columns[-1], changed)


def _delimited(labels: Path, file_column: str, renamed: Renamed) -> bytes:
    return _rows_of(labels, file_column, lambda row: renamed(row[file_column]))


def _nih(labels: Path, file_column: str, renamed: Renamed) -> bytes:
    """Files and findings alone: the other columns are about patients."""
    return _rows_of(labels, file_column, lambda row: renamed(row[file_column]), (FILES, LISTED))


def _rows_of(
    labels: Path,
    file_column: str,
    changed: Callable[[Mapping[str, str]], str | None],
    only: Collection[str] | None = None,
) -> bytes:
    """A delimited table with what ``changed`` makes of each row's cell of that column; None leaves the row out.

    ``only`` these columns are written; None: all.
    """
    text = read_text(labels)
    parted = part(text, ("\t",) if labels.suffix.lower() in (".tsv", ".tab") else (",", ";", "\t"), (file_column,))
    rows = csv.reader(io.StringIO(parted.rows, newline=""), delimiter=parted.delimiter, strict=True)
    filled = (row for row in rows if any(cell.strip() for cell in row))
    header = next(filled)
    names = [unescaped(cell.strip()) for cell in header]
    at = names.index(file_column)
    made = io.StringIO()
    made.write(text[: len(text) - len(parted.rows)])
    kept = [place for place, name in enumerate(names) if only is None or name in only]

    def write(row: Sequence[str]) -> None:
        cells = row if only is None else [row[place] for place in kept if place < len(row)]
        write_row(made, cells, parted.delimiter)

    write(header)
    for row in filled:
        # Cells beyond the header, which a spreadsheet leaves, are no fault.
        name = changed(dict(zip(names, (unescaped(cell.strip()) for cell in row), strict=False)))
        if name is not None:
            write([*row[:at], name, *row[at + 1 :]])
    return made.getvalue().encode()


def _celeba(labels: Path, file_column: str, renamed: Renamed) -> bytes:  # noqa: ARG001 - there is no header
    _, attributes, *rows = (line.split() for line in read_text(labels).split("\n") if line.strip())
    found = [(renamed(name), values) for name, *values in rows]
    kept = [" ".join([name, *values]) for name, values in found if name is not None]
    return "".join(f"{line}\n" for line in (str(len(kept)), " ".join(attributes), *kept)).encode()


def _json_lines(labels: Path, file_column: str, renamed: Renamed) -> bytes:
    made: list[str] = []
    for line in read_text(labels).split("\n"):
        document = json.loads(line) if line.strip() else {}
        key = next((key for key in document if key.strip() == file_column), None)
        name = None if key is None else renamed(str(document[key]))
        if name is not None:
            made.append(json_text({**document, key: name}) + "\n")
    return "".join(made).encode()


def _parquet(labels: Path, file_column: str, renamed: Renamed) -> bytes:
    import pyarrow
    from pyarrow import parquet

    table = read_table(labels)
    at = [name.strip() for name in table.column_names].index(file_column)
    names = [None if cell is None else renamed(str(cell)) for cell in table.column(at).to_pylist()]
    field, kept = table.schema.field(at), [row for row, name in enumerate(names) if name is not None]
    cells = pyarrow.array([names[row] for row in kept], pyarrow.string())
    table = table.take(pyarrow.array(kept, pyarrow.int64())).set_column(at, field, cells.cast(field.type))
    sink = pyarrow.BufferOutputStream()
    parquet.write_table(table, sink)
    content: bytes = sink.getvalue().to_pybytes()
    return content


def _column_of_parquet(labels: Path) -> str | None:
    """The first column of a Parquet table of labels that holds bytes, or an image in base64; None if there is none."""
    from mtlue_cli.layouts.parquet_images import holds_bytes

    table = read_table(labels)
    columns = zip(table.column_names, table.columns, strict=True)
    return next((name for name, cells in columns if holds_bytes(cells.type) or has_image(cells.to_pylist())), None)


def _column_of_json_lines(labels: Path) -> str | None:
    """The first key of a file of JSON Lines that holds an image; None if there is none."""
    lines = (json.loads(line) for line in read_text(labels).split("\n") if line.strip())
    return next((name for line in lines for name, value in line.items() if has_image(value)), None)


COLUMN_OF_IMAGES: Mapping[LabelFormat, Callable[[Path], str | None]] = {
    LabelFormat.PARQUET: _column_of_parquet,
    LabelFormat.JSONL: _column_of_json_lines,
}
"""How an image is found among the cells of a label file whose cells may be lists; other formats hold text alone."""

REWRITERS: Mapping[LabelFormat, Callable[[Path, str, Renamed], bytes]] = {
    LabelFormat.CSV: _delimited,
    LabelFormat.TSV: _delimited,
    LabelFormat.NIH: _nih,
    LabelFormat.CELEBA: _celeba,
    LabelFormat.JSONL: _json_lines,
    LabelFormat.PARQUET: _parquet,
}
"""How the label file of each format is written again."""
