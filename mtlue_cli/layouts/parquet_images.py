"""Parquet with an image column, as Hugging Face's ``datasets`` writes it: a struct of ``bytes`` and ``path``.

Source: the documentation of ``datasets`` (Image feature), and of the Hub's Parquet files.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from mtlue_cli.budget import check_table
from mtlue_cli.errors import InputError, first_line
from mtlue_cli.layouts.image_text import has_image, image_text_error
from mtlue_cli.layouts.shards import ShardKind, ShardRow, suffix_for
from mtlue_cli.tasks.parquet_file import read_batches, read_footer, read_tables
from mtlue_cli.tasks.wording import listed, quoted

if TYPE_CHECKING:
    import pyarrow

BATCH = 64
"""Rows of a shard that are decoded at once."""

MOST_METADATA = 1 << 20
"""Bytes of what a schema says of its columns: the names of very many classes."""
_METADATA = (b"huggingface", b"pandas")

NAMES = frozenset({"image", "img", "jpg", "jpeg", "png", "picture", "photo"})
"""Columns of plain bytes that are taken for images."""


def read_rows(path: Path) -> Iterator[ShardRow]:
    """The rows of a shard; a class that the features name stands as its name.

    Raises:
        InputError: The file is damaged, or holds images elsewhere than in its image column.
    """
    schema = _schema(path)
    column = image_column(path, schema)
    names = {name: feature["names"] for name, feature in _features(schema).items() if _has_class_names(feature)}
    labels = [field.name for field in schema if field.name != column and _is_label(field.type)]
    others = tuple(field.name for field in schema if field.name not in (column, *labels))
    for batch in read_batches(path, [column, *labels, *others], BATCH):
        try:
            rows = batch.to_pylist()
        except ValueError as error:
            raise InputError(f"{path} has a text that cannot be read: {first_line(error)}", hint="repair it") from error
        for row in rows:
            image = next((name for name in (*labels, *others) if has_image(row[name])), None)
            if image is not None:
                raise image_text_error(path, f"column {quoted(image)}")
            if isinstance(row[column], dict) and has_image(row[column]["path"]):
                raise image_text_error(path, f"the path in column {quoted(column)}")
            cells = {name: _cell(row[name], names.get(name)) for name in labels}
            yield ShardRow(_bytes(row[column]), cells, others)


def write_shard(out: Path, source: Path, image_of: Callable[[int], bytes | None]) -> None:
    """Write a shard with other images: same columns, features, compression and row groups."""
    import pyarrow
    from pyarrow import parquet

    footer = read_footer(source)
    schema = _without_strange_metadata(footer.schema)
    column = image_column(source, schema)
    at, field = schema.get_field_index(column), schema.field(column)
    codec, first = footer.codec or "snappy", 0
    with parquet.ParquetWriter(out, schema, compression="none" if codec == "uncompressed" else codec) as writer:
        for group in read_tables(source, schema.names):
            table = group.cast(schema)
            images = [image_of(first + row) for row in range(table.num_rows)]
            first += table.num_rows
            kept = [row for row, image in enumerate(images) if image is not None]
            if kept:
                table = table.take(pyarrow.array(kept, pyarrow.int64()))
                old = table.column(at).to_pylist()
                cells = [_replaced(cell, images[row] or b"") for row, cell in zip(kept, old, strict=True)]
                table = table.set_column(at, field, pyarrow.array(cells, field.type))
                writer.write_table(table, row_group_size=table.num_rows)


def _without_strange_metadata(schema: "pyarrow.Schema") -> "pyarrow.Schema":
    """A schema with what ``datasets`` and pandas say of the columns; whatever else stands there could be an image."""
    given = schema.metadata or {}
    kept = {name: given[name] for name in _METADATA if name in given and _is_plain_json(given[name])}
    bare = schema.with_metadata(kept or None)
    for at, field in enumerate(schema):
        bare = bare.set(at, field.remove_metadata())
    return bare


def _is_plain_json(text: bytes) -> bool:
    """Whether a text is JSON without an image in it."""
    try:
        return len(text) <= MOST_METADATA and not has_image(json.loads(text))
    except (ValueError, RecursionError):
        return False


def image_column(path: Path, schema: "pyarrow.Schema") -> str:
    """The image column of a shard.

    Raises:
        InputError: There are several, or other columns that may hold images: none may be released unprotected.
    """
    found = _image_columns(schema)
    others = [field.name for field in schema if field.name not in found and holds_bytes(field.type)]
    if others or len(found) != 1:
        what = f"columns of bytes, which may be images: {listed(others)}" if others else ""
        raise InputError(
            f"{path} has {what or f'several image columns: {listed(found)}'}",
            hint="write a data set with one image column and no other bytes, and protect that",
        )
    return found[0]


def holds_images(path: Path) -> bool:
    """Whether a file is Parquet with an image column."""
    return bool(_image_columns(_schema(path)))


def _schema(path: Path) -> "pyarrow.Schema":
    footer = read_footer(path)
    check_table(path, footer.rows, len(footer.leaves))
    return footer.schema


def _image_columns(schema: "pyarrow.Schema") -> list[str]:
    features = _features(schema)
    return [field.name for field in schema if _holds_image(field, features.get(field.name, {}).get("_type"))]


def _holds_image(field: "pyarrow.Field", feature: object) -> bool:
    """Whether a column holds images; ``feature`` is its type in ``datasets``, None if that is not known."""
    from pyarrow import types

    if types.is_struct(field.type):
        return feature in (None, "Image") and {part.name for part in field.type} == {"bytes", "path"}
    is_bytes = types.is_binary(field.type) or types.is_large_binary(field.type)
    return is_bytes and (feature == "Image" or field.name.lower() in NAMES)


def holds_bytes(kind: "pyarrow.DataType") -> bool:
    """Whether a column holds bytes, however deep."""
    from pyarrow import types

    tests = (types.is_binary, types.is_large_binary, types.is_binary_view, types.is_fixed_size_binary)
    if types.is_dictionary(kind):
        return holds_bytes(kind.value_type)
    return any(test(kind) for test in tests) or any(holds_bytes(kind.field(at).type) for at in range(kind.num_fields))


def _is_label(kind: "pyarrow.DataType") -> bool:
    from pyarrow import types

    if types.is_dictionary(kind):
        return _is_label(kind.value_type)
    tests = (types.is_string, types.is_large_string, types.is_integer, types.is_floating, types.is_boolean)
    return any(test(kind) for test in tests)


def _features(schema: "pyarrow.Schema") -> dict[str, dict[str, Any]]:
    """What the features of ``datasets`` say of each column; empty without any."""
    try:
        found = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))["info"]["features"]
        return {name: feature for name, feature in found.items() if isinstance(feature, dict)}
    except (AttributeError, KeyError, TypeError, ValueError):
        return {}


def _has_class_names(feature: dict[str, Any]) -> bool:
    return feature.get("_type") == "ClassLabel" and isinstance(feature.get("names"), list)


def _cell(value: Any, names: list[str] | None) -> Any:  # noqa: ANN401 - any cell
    if names is None or not isinstance(value, int):
        return None if value != value else value
    return names[value] if 0 <= value < len(names) else None


def _bytes(cell: Any) -> bytes | None:  # noqa: ANN401 - a struct or bytes
    found = cell.get("bytes") if isinstance(cell, dict) else cell
    return found if isinstance(found, bytes) else None


def _replaced(cell: Any, image: bytes) -> Any:  # noqa: ANN401 - a struct or bytes
    if not isinstance(cell, dict):
        return image
    path = cell["path"]
    old = PurePosixPath(path or "").suffix
    suffix = suffix_for(old, image)
    if path and suffix != old and PurePosixPath(path).name:
        path = str(PurePosixPath(path).with_suffix(suffix))
    return {"bytes": image, "path": path}


PARQUET_IMAGES = ShardKind(
    "Parquet files with images",
    ".parquet",
    holds_images,
    read_rows,
    write_shard,
    "columns copied unchanged and not protected (lists and objects)",
)
