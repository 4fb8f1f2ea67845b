"""Parquet, read with pyarrow."""

import math
import re
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from mtlue_cli.choices import LabelFormat
from mtlue_cli.errors import InputError
from mtlue_cli.tasks.readers.base import Cell, LabelReader, LabelSource, RawTable, list_text, number_text
from mtlue_cli.tasks.wording import quoted

if TYPE_CHECKING:
    import pyarrow

_ROW_INDEX = re.compile(r"__index_level_\d+__")
"""Columns in which pandas keeps the numbers of its rows."""

_READABLE = ("string", "large_string", "string_view", "integer", "floating", "boolean", "decimal", "temporal", "null")
"""Types of cells that are read, as :mod:`pyarrow.types` calls them."""


def read_parquet(source: LabelSource) -> RawTable:
    """Read the columns of text, numbers, booleans, decimals, dates and times, and lists of these.

    Null and NaN are missing cells. Rows count from 1, as there is no header above them. Columns in which pandas numbers
    its rows are left out; a column of anything else is not read.

    Raises:
        InputError: The file is no Parquet.
    """
    import pyarrow
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(source.path) as file:
            names, kinds = file.schema_arrow.names, file.schema_arrow.types
            kind_of = {name: kind for name, kind in zip(names, kinds, strict=True) if not _ROW_INDEX.fullmatch(name)}
            expected = "expected text, numbers, booleans, dates, times, or lists of these"
            unread = {
                name.strip(): f"holds {quoted(str(kind))}, {expected}"
                for name, kind in kind_of.items()
                if not _is_readable(kind)
            }
            rows = file.metadata.num_rows
            table = file.read(columns=[name for name in kind_of if name.strip() not in unread], use_threads=False)
            # Reading ``a.b`` brings the struct ``a`` too, which may hold a field of that name.
            read = [at for at, name in enumerate(table.column_names) if name.strip() not in unread]
            columns = [list(map(_text, table.column(at).to_pylist())) for at in read]
    except (pyarrow.ArrowException, OSError, ValueError, MemoryError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise InputError(f"{source.path} cannot be read as Parquet: {quoted(reason)}") from error
    header = tuple(table.column_names[at].strip() for at in read)
    places = tuple(f"row {number}" for number in range(1, rows + 1))
    return RawTable(header, tuple(zip(*columns, strict=True)), places if columns else (), unread=unread)


def _is_readable(kind: "pyarrow.DataType") -> bool:
    from pyarrow import types

    if types.is_dictionary(kind):
        return _is_readable(kind.value_type)
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        return not types.is_nested(kind.value_type) and _is_readable(kind.value_type)
    return any(getattr(types, f"is_{name}")(kind) for name in _READABLE)


def _text(value: Any) -> Cell:  # noqa: ANN401 - whatever a column holds
    if value is None or (isinstance(value, float | Decimal) and math.isnan(value)):
        return None
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return list_text(map(_text, value))
    return number_text(value) if isinstance(value, float) else str(value).strip()


PARQUET = LabelReader(LabelFormat.PARQUET, "Parquet table", read_parquet, (".parquet", ".pq"))
