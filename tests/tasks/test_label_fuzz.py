"""Whatever a label file holds, it is read, or refused with an error that its user can mend."""

import io
import json
import os
from pathlib import Path
from typing import Any

import pyarrow
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from mtlue_cli.choices import LabelFormat, SplitPart
from mtlue_cli.errors import InputError
from mtlue_cli.tasks.bins import parse_bins
from mtlue_cli.tasks.label_options import LabelOptions
from mtlue_cli.tasks.labels import LabelFile, read_label_file, released_labels, released_options
from mtlue_cli.tasks.paths import path_fault

CASES = int(os.environ.get("MTLUE_FUZZ_CASES", "300"))
"""Label files that are tried."""


def mostly(usual: st.SearchStrategy[Any], odd: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """``odd`` once in twelve times."""
    return st.integers(0, 11).flatmap(lambda draw: odd if draw == 11 else usual)


ODD_NAMES = st.sampled_from(
    ("a.jpg", "b.png", "sub/c.jpg", "./a.jpg", "../d.jpg", "/e.jpg", "C:/f.jpg", "\\\\host\\g.jpg", "=h.jpg", "é.jpg",
     "e\u0301.jpg", "A.JPG", "x" * 256 + ".jpg", "n\0.jpg", "", " ", "'-i.jpg", "26_1_3_20170116.jpg", ".", "a\nb.jpg")
)  # fmt: skip
NAMES = mostly(st.integers(0, 10**6).map("{}.jpg".format), ODD_NAMES)
CELLS = st.one_of(
    st.sampled_from(
        ("0", "1", "-1", "1.0", "true", "", "NA", "nan", "10-19", "=1+1", "@x", "'=x", "''", '"', 'a"b', "a,b", "a;b",
         "a\tb", "a\nb", "a\r\nb", "a\rb", "\ufeff", "No Finding", "Mass|Edema", "1" * 5000, "\u0661", "²", "01", "1e9")
    ),
    st.text(max_size=8),
)  # fmt: skip
HEADERS = st.one_of(
    st.sampled_from(("file_name", "image", "Image Index", "Finding Labels", "age", "t", "u", "")), CELLS
)
LINE_ENDS = st.sampled_from(("\n", "\r\n", "\r"))
ENCODINGS = mostly(
    st.sampled_from(("utf-8", "utf-8-sig", "utf-16")), st.sampled_from(("utf-16-le", "utf-32", "latin-1"))
)
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), CELLS, st.text(max_size=3), st.just("\ud800")),
    lambda inner: st.one_of(st.lists(inner, max_size=2), st.dictionaries(st.text(max_size=3), inner, max_size=2)),
    max_leaves=4,
)


def quoted(cell: str, always: bool) -> str:
    return '"' + cell.replace('"', '""') + '"' if always else cell


@st.composite
def tables(draw: st.DrawFn, delimiters: str) -> str:
    """Rows between delimiters, most of them sound."""
    delimiter, end = draw(st.sampled_from(delimiters)), draw(LINE_ENDS)
    quote = draw(mostly(st.just(True), st.just(False)))
    header = ["file_name", *draw(st.lists(HEADERS, min_size=1, max_size=3, unique=True))]
    if draw(st.integers(0, 5)) == 0:
        header = draw(st.permutations(header))
    cells = st.tuples(NAMES, *[CELLS] * (len(header) - 1)).map(list)
    rows = draw(st.lists(mostly(cells, st.lists(CELLS, max_size=4)), min_size=1, max_size=4))
    return end.join(delimiter.join(quoted(cell, quote) for cell in row) for row in [header, *rows])


@st.composite
def json_rows(draw: st.DrawFn) -> str:
    row = st.fixed_dictionaries({"file_name": NAMES, "t": st.one_of(CELLS, st.booleans(), st.integers())})
    rows = draw(st.lists(mostly(row, st.dictionaries(HEADERS, JSON, max_size=3) | JSON), min_size=1, max_size=4))
    return "\n".join(json.dumps(row) for row in rows)


@st.composite
def attribute_lists(draw: st.DrawFn) -> str:
    value = mostly(st.sampled_from(("-1", "1")), CELLS)
    rows = draw(st.lists(st.tuples(NAMES, st.tuples(value, value)), min_size=1, max_size=4))
    count = draw(mostly(st.just(str(len(rows))), CELLS))
    return "\n".join((count, "Smiling  Young", *(f"{name}  {'  '.join(found)}" for name, found in rows)))


@st.composite
def finding_lists(draw: st.DrawFn) -> str:
    found = mostly(st.sampled_from(("No Finding", "Mass", "Mass|Edema", "")), CELLS)
    rows = draw(st.lists(st.tuples(NAMES, found), min_size=1, max_size=4))
    return "\n".join(("Image Index,Finding Labels,Age", *(f'{name},"{cell}",3' for name, cell in rows)))


@st.composite
def parquet_files(draw: st.DrawFn) -> bytes:
    count = draw(st.integers(1, 4))
    kinds: list[st.SearchStrategy[Any]] = [CELLS, st.integers(-9, 9), st.floats(), st.booleans(), st.binary(max_size=3)]
    columns: dict[str, Any] = {"file_name": draw(st.lists(NAMES, min_size=count, max_size=count))}
    for name in draw(st.lists(HEADERS, min_size=1, max_size=3)):
        cells = st.none() | draw(mostly(st.sampled_from(kinds[:-1]), st.just(kinds[-1])))
        columns[name] = draw(st.lists(cells, min_size=count, max_size=count))
    stream = io.BytesIO()
    try:
        parquet.write_table(pyarrow.table(columns), stream)
    except (UnicodeEncodeError, pyarrow.ArrowException):
        return b"PAR1"
    return stream.getvalue()


@st.composite
def label_files(draw: st.DrawFn) -> tuple[str, bytes]:
    """A suffix and a content that fits it more often than not."""
    suffix = draw(mostly(st.sampled_from((".csv", ".tsv", ".jsonl", ".parquet", ".txt")), st.just(".odd")))
    kinds = {
        ".csv": st.one_of(tables(",;\t"), finding_lists()),
        ".tsv": tables("\t"),
        ".jsonl": json_rows(),
        ".txt": attribute_lists(),
    }
    if suffix == ".parquet":
        content = draw(parquet_files())
    else:
        text = draw(kinds.get(suffix, st.text(max_size=40)))
        content = text.encode(draw(ENCODINGS), errors="replace")
    if draw(st.integers(0, 7)) == 7:
        at = draw(st.integers(0, len(content)))
        content = content[:at] + draw(st.binary(max_size=4)) + content[at + draw(st.integers(0, 4)) :]
    return suffix, content


PARTS = mostly(st.none(), st.lists(st.tuples(NAMES, st.integers(0, 3))))
OPTIONS = st.builds(
    LabelOptions,
    format=mostly(st.none(), st.sampled_from(LabelFormat)),
    file_column=mostly(st.none(), st.just("t")),
    missing_values=st.sampled_from(((), ("NA", "nan"), ("1",))),
    bins=mostly(st.just(()), st.sampled_from((parse_bins(["age=2,9"]), parse_bins(["t=0.5"])))),
    split=st.sampled_from(SplitPart),
)


def assert_sound(labels: LabelFile) -> None:
    table = labels.table
    assert len(set(table.file_names)) == len(table) == len(table.places)
    assert [path_fault(name) for name in table.file_names] == [None] * len(table)
    assert list(table.columns) == list(table.tasks.names)
    for task in table.tasks:
        column = table.columns[task.name]
        assert column.shape == (len(table),)
        assert set(column.tolist()) <= set(range(-1, task.num_classes))
        assert all(task.classes)


@settings(
    max_examples=CASES,
    deadline=None,
    derandomize="MTLUE_FUZZ_CASES" not in os.environ,
    database=None,
    suppress_health_check=list(HealthCheck),
)
@given(made=label_files(), options=OPTIONS, learning=mostly(st.just(False), st.just(True)), parts=PARTS)
def test_a_label_file_is_understood_or_refused(
    tmp_path_factory: Any,  # noqa: ANN401 - pytest's
    made: tuple[str, bytes],
    options: LabelOptions,
    learning: bool,
    parts: list[tuple[str, int]] | None,
) -> None:
    folder: Path = tmp_path_factory.getbasetemp()
    path = folder / f"labels{made[0]}"
    path.write_bytes(made[1])
    if parts is not None:
        split = folder / "split.txt"
        split.write_text("\n".join(f"{name} {part}" for name, part in parts), encoding="utf-8")
        options = LabelOptions(**{**vars(options), "split_file": split})
    try:
        labels = read_label_file(path, options, for_learning=learning)
    except InputError as error:
        event(f"{made[0]}: refused")
        for line in (str(error), *error.faults):
            assert line.encode().decode().isprintable(), line
            assert len(line) < 2000
        return
    event(f"{made[0]}: understood")
    assert_sound(labels)
    release = folder / "released.csv"
    release.write_bytes(released_labels(labels, dict(enumerate(labels.table.file_names))))
    again = read_label_file(release, released_options(labels.header[labels.file_index]), for_learning=False)
    assert again.header == labels.header
    assert again.table.file_names == labels.table.file_names
    for task in labels.table.tasks:
        for row in range(len(labels.table)):
            assert again.table.class_name(task.name, row) == labels.table.class_name(task.name, row)
