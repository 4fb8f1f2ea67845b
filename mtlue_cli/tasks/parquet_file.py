"""Parquet files, which pyarrow opens in a process of their own: it ends its process at some that are damaged."""

import io
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import msgspec

from mtlue_cli.budget import budget
from mtlue_cli.errors import ImageError, InputError, first_line
from mtlue_cli.files import held, open_regular, stream_of
from mtlue_cli.isolation import IsolationError, asked
from mtlue_cli.tasks.wording import quoted

if TYPE_CHECKING:
    import pyarrow

_MARK = b"PAR1"
_MOST_FOOTER = 256 << 20


class Leaf(msgspec.Struct, array_like=True):
    """A column of values: its path, their number, their bytes without compression, and whether it is text."""

    path: str
    values: int
    size: int
    is_text: bool


class Footer(msgspec.Struct):
    """What a file says of itself.

    Attributes:
        serialized: Its schema.
        rows, groups: How many.
        leaves: All columns of values, those inside others too.
        codec: How it is compressed; empty without rows.
    """

    serialized: bytes
    rows: int
    groups: int
    leaves: tuple[Leaf, ...]
    codec: str

    @property
    def schema(self) -> "pyarrow.Schema":
        """The schema."""
        import pyarrow

        return pyarrow.ipc.read_schema(pyarrow.py_buffer(self.serialized))


def read_footer(path: Path) -> Footer:
    """What a file says of itself; of one that lies elsewhere nothing but that is fetched.

    Raises:
        InputError: It is damaged, or no Parquet.
    """
    with ExitStack() as leaving:
        stream, here = stream_of(path), path
        if stream is not None:
            leaving.enter_context(stream)
            here = Path(leaving.enter_context(tempfile.TemporaryDirectory(prefix="mtlue-")), "footer.parquet")
            here.write_bytes(_MARK + _end_of(stream))
        answer = leaving.enter_context(_answer(here, {"what": "footer"}, path))
        return msgspec.msgpack.decode(answer.read(), type=Footer)


def read_tables(path: Path, columns: Sequence[str], texts: Sequence[str] = ()) -> "Iterator[pyarrow.Table]":
    """Those columns of one group of rows after the other; ``texts`` are paths of columns to read as dictionaries.

    Raises:
        InputError: It is damaged.
    """
    import pyarrow

    request = {"what": "groups", "columns": list(columns), "texts": list(texts)}
    with _answer(path, request) as answer:
        while answer.peek(1):
            with pyarrow.ipc.open_stream(answer) as reader:
                yield reader.read_all()


def read_table(path: Path) -> "pyarrow.Table":
    """The whole file.

    Raises:
        InputError: It is damaged.
    """
    import pyarrow

    schema = read_footer(path).schema
    tables = list(read_tables(path, schema.names))
    return pyarrow.concat_tables(tables) if tables else schema.empty_table()


def read_batches(path: Path, columns: Sequence[str], rows: int) -> "Iterator[pyarrow.RecordBatch]":
    """Those columns, so many rows at a time.

    Raises:
        InputError: It is damaged.
    """
    import pyarrow

    with _answer(path, {"what": "batches", "columns": list(columns), "rows": rows}) as answer:
        while answer.peek(1):
            with pyarrow.ipc.open_stream(answer) as reader:
                yield from reader


@contextmanager
def _answer(path: Path, request: dict[str, Any], shown: Path | None = None) -> Iterator[io.BufferedReader]:
    """What the other process says of a file; what goes wrong while it is read becomes an InputError."""
    import pyarrow

    try:
        with open_regular(path) as stream:  # a FIFO would be waited for
            size = os.fstat(stream.fileno()).st_size
        memory = budget().max_label_bytes + 4 * size
        with held(path), asked(__name__, {"path": os.fspath(path), **request}, memory) as answer:
            yield io.BufferedReader(answer, 1 << 20)
    except (pyarrow.ArrowException, IsolationError, ImageError, OSError, MemoryError, msgspec.MsgspecError) as error:
        reason = first_line(error)
        raise InputError(
            f"{shown or path} cannot be read as Parquet: {quoted(reason)}", hint="write the file again"
        ) from error


def _end_of(stream: IO[bytes]) -> bytes:
    """The footer of a file, with its length and mark; nothing that is one if there is none."""
    size = stream.seek(0, os.SEEK_END)
    stream.seek(max(0, size - 8))
    length = int.from_bytes(stream.read(8)[:4], "little") + 8
    if length > min(size, _MOST_FOOTER):
        return b""
    stream.seek(size - length)
    return stream.read(length)


def answer(
    out: IO[bytes], path: str, what: str, columns: Sequence[str] = (), texts: Sequence[str] = (), rows: int = 0
) -> None:
    """Write what is asked for to ``out``, in the process for it."""
    from pyarrow import parquet

    with parquet.ParquetFile(path, read_dictionary=list(texts)) as file:
        if what == "footer":
            out.write(msgspec.msgpack.encode(_footer(file)))
        elif what == "groups":
            for at in range(file.num_row_groups):  # pyarrow cannot read lists from several groups at once
                table = file.read_row_group(at, columns, use_threads=False)
                _write(out, table.schema, table.to_batches())
        else:
            batches = file.iter_batches(rows, columns=columns, use_threads=False)
            first = next(batches, None)
            if first is not None:
                _write(out, first.schema, (batch for part in ([first], batches) for batch in part))


def _write(out: IO[bytes], schema: "pyarrow.Schema", batches: "Iterator[pyarrow.RecordBatch]") -> None:
    import pyarrow

    with pyarrow.ipc.new_stream(out, schema) as writer:
        for batch in batches:
            writer.write_batch(batch)


def _footer(file: Any) -> Footer:  # noqa: ANN401 - pyarrow has no types
    stored = file.metadata
    groups = [stored.row_group(at) for at in range(stored.num_row_groups)]
    leaves: list[Leaf] = []
    for at in range(stored.num_columns):
        chunks, column = [group.column(at) for group in groups], stored.schema.column(at)
        values, size = sum(chunk.num_values for chunk in chunks), sum(chunk.total_uncompressed_size for chunk in chunks)
        leaves.append(Leaf(column.path, values, size, column.logical_type.type == "STRING"))
    codec = groups[0].column(0).compression.lower() if groups and leaves else ""
    schema = file.schema_arrow.serialize().to_pybytes()
    return Footer(schema, stored.num_rows, len(groups), tuple(leaves), codec)
