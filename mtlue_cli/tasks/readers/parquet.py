"""Parquet, read with pyarrow."""

import re
from typing import TYPE_CHECKING

from mtlue_cli.choices import LabelFormat
from mtlue_cli.errors import InputError
from mtlue_cli.tasks.readers.base import Cell, LabelReader, LabelSource, RawTable
from mtlue_cli.tasks.readers.values import number_text
from mtlue_cli.tasks.wording import quoted

if TYPE_CHECKING:
    import pyarrow

_ROW_INDEX = re.compile(r"__index_level_\d+__")
"""Columns in which pandas keeps the numbers of its rows."""


def read_parquet(source: LabelSource) -> RawTable:
    """Read the columns of text, whole numbers, floating point, booleans, decimals and dates; null is a missing cell.

    Rows count from 1, as no header stands above them. Columns in which pandas numbers its rows are left out.

    Raises:
        InputError: The file is no Parquet, or a column holds anything else.
    """
    import pyarrow
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(source.path) as file:
            table = file.read(use_threads=False)
            positions = [at for at, name in enumerate(table.column_names) if not _ROW_INDEX.fullmatch(name)]
            unread = [
                f"column {quoted(table.column_names[at])} holds {quoted(str(table.schema.field(at).type))}, "
                "expected text, numbers, booleans or dates"
                for at in positions
                if not _is_readable(table.schema.field(at).type)
            ]
            columns = [] if unread else [_texts(table.column(at)) for at in positions]
    except (pyarrow.ArrowException, OSError, ValueError, MemoryError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise InputError(f"{source.path} cannot be read as Parquet: {quoted(reason)}") from error
    if unread:
        hint = "leave these columns out; images inside a Parquet file are not read, only files in the folder"
        raise InputError(f"{source.path} has columns that cannot be labels", unread, hint)
    header = tuple(table.column_names[at].strip() for at in positions)
    places = tuple(f"row {number}" for number in range(1, table.num_rows + 1))
    return RawTable(header, tuple(zip(*columns, strict=True)), places if columns else ())


def _is_readable(kind: "pyarrow.DataType") -> bool:
    from pyarrow import types

    if types.is_dictionary(kind):
        return _is_readable(kind.value_type)
    tests = (
        types.is_string,
        types.is_large_string,
        types.is_string_view,
        types.is_integer,
        types.is_floating,
        types.is_boolean,
        types.is_decimal,
        types.is_date,
        types.is_null,
    )
    return any(test(kind) for test in tests)


def _texts(column: "pyarrow.ChunkedArray") -> list[Cell]:
    texts: list[Cell] = []
    for value in column.to_pylist():
        if value is None:
            texts.append(None)
        elif isinstance(value, bool):
            texts.append(str(value).lower())
        elif isinstance(value, float):
            texts.append(number_text(value))
        else:
            texts.append(str(value).strip())
    return texts


PARQUET = LabelReader(LabelFormat.PARQUET, "Parquet table", read_parquet, (".parquet", ".pq"))
