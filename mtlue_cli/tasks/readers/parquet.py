"""Parquet, read with pyarrow."""

import math
import re
from collections.abc import Iterable, Sequence
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mtlue_cli.budget import budget, check_table
from mtlue_cli.choices import LabelFormat
from mtlue_cli.errors import InputError, first_line
from mtlue_cli.tasks.parquet_file import Footer, read_footer, read_tables
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

    Null and NaN are missing cells. Rows count from 1, as no header stands above them. Columns in which pandas numbers
    its rows are left out; a column of anything else is not read. Each text is read once, however many rows hold it: a
    long one in many rows is a small file.

    Raises:
        InputError: The file is no Parquet, or is larger than the budget.
    """
    stored = read_footer(source.path)
    schema = stored.schema
    kind_of = {field.name: field.type for field in schema if not _ROW_INDEX.fullmatch(field.name)}
    expected = "expected text, numbers, booleans, dates, times, or lists of these"
    unread = {
        name.strip(): f"holds {quoted(str(kind))}, {expected}"
        for name, kind in kind_of.items()
        if not _is_readable(kind)
    }
    wanted = [name for name in kind_of if name.strip() not in unread]
    _check(source.path, stored, wanted)
    texts = [leaf.path for leaf in stored.leaves if leaf.is_text]
    groups = list(read_tables(source.path, wanted, texts)) or [schema.empty_table().select(wanted)]
    header: list[str] = []
    columns: list[list[Cell]] = []
    try:
        for at, name in enumerate(groups[0].column_names):
            # Reading ``a.b`` brings the struct ``a`` too, which may hold a field of that name.
            if name.strip() in unread:
                continue
            try:
                columns.append(_cells(chunk for group in groups for chunk in group.column(at).chunks))
                header.append(name.strip())
            except OverflowError as error:
                unread[name.strip()] = f"holds dates or times beyond the year 9999: {error}"
    except (OSError, ValueError, MemoryError) as error:  # pyarrow's are among them
        reason = first_line(error)
        raise InputError(f"{source.path} cannot be read as Parquet: {quoted(reason)}") from error
    if any(len(column) != stored.rows for column in columns):
        raise InputError(f"{source.path} cannot be read as Parquet: it states {stored.rows:,} rows and has others")
    places = tuple(f"row {number}" for number in range(1, stored.rows + 1))
    return RawTable(tuple(header), tuple(zip(*columns, strict=True)), places if columns else (), unread=unread)


def _check(path: Path, stored: Footer, columns: Sequence[str]) -> None:
    """Refuse a file whose ``columns`` hold more than the budget, by what its footer says of them.

    Raises:
        InputError: They do.
    """
    check_table(path, stored.rows, len(columns))
    inside = tuple(f"{name}." for name in columns)
    found = [leaf for leaf in stored.leaves if f"{leaf.path}.".startswith(inside)]
    values = sum(leaf.values for leaf in found)  # of lists, each element
    check_table(path, values // max(1, len(columns)), len(columns))
    size, most = sum(leaf.size for leaf in found), budget().max_label_bytes
    if size > most:
        raise InputError(
            f"{path} has {size:,} bytes of labels, uncompressed, the limit is {most:,}",
            hint="set another one with --max-label-bytes",
        )


def _cells(chunks: "Iterable[pyarrow.Array]") -> list[Cell]:
    """The cells of a column; those of one text are one object.

    Raises:
        ValueError: Lists hold more text than a label file may have.
        OverflowError: A date or time is beyond those of Python.
    """
    from pyarrow import compute, types

    cells: list[Cell] = []
    for chunk in chunks:
        if types.is_dictionary(chunk.type):
            values = list(map(_text, chunk.dictionary.to_pylist()))
            cells += [None if at is None else values[at] for at in chunk.indices.to_pylist()]
        elif types.is_list(chunk.type) or types.is_large_list(chunk.type) or types.is_fixed_size_list(chunk.type):
            parts = iter(_cells([compute.list_flatten(chunk)]))
            left = budget().max_label_bytes
            for length in compute.list_value_length(chunk).to_pylist():
                own = [next(parts) for _ in range(length or 0)]
                left -= sum(len(part or "") for part in own)
                if left < 0:
                    raise ValueError("its lists hold more text than --max-label-bytes allows")
                cells.append(None if length is None else list_text(own))
        else:
            cells += map(_text, chunk.to_pylist())
    return cells


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
    return number_text(value) if isinstance(value, float) else str(value).strip()


PARQUET = LabelReader(LabelFormat.PARQUET, "Parquet table", read_parquet, (".parquet", ".pq"))
