"""A small label file that would take much memory or time is refused before it does."""

import datetime
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow
import pytest
from pyarrow import parquet

from mtlue_cli.budget import Budget, check_table, limited_to
from mtlue_cli.choices import LabelFormat
from mtlue_cli.errors import InputError
from mtlue_cli.layouts.parquet_images import holds_images
from mtlue_cli.tasks.label_options import LabelOptions
from mtlue_cli.tasks.labels import read_label_file
from mtlue_cli.tasks.multi_label import MultiLabel
from mtlue_cli.tasks.readers import json_lines, json_members
from mtlue_cli.tasks.readers.base import LabelSource
from mtlue_cli.tasks.readers.json_members import read_members
from mtlue_cli.tasks.readers.parquet import read_parquet

ROWS = 3000


def _csv(path: Path, columns: int) -> Path:
    header = ",".join(["image", *(f"c{column}" for column in range(columns - 1))])
    rows = "".join(f"{row}.png" + ",0" * (columns - 1) + "\n" for row in range(ROWS))
    (path / "labels.csv").write_text(f"{header}\n{rows}")
    return path / "labels.csv"


def _json_lines(path: Path, columns: int) -> Path:
    names = [f"c{column}" for column in range(columns - 1)]
    lines = [json.dumps({"image": f"{row}.png", **dict.fromkeys(names, 0)}) for row in range(ROWS)]
    (path / "labels.jsonl").write_text("\n".join(lines))
    return path / "labels.jsonl"


def _parquet(path: Path, columns: int) -> Path:
    table = {"image": [f"{row}.png" for row in range(ROWS)]}
    parquet.write_table(
        pyarrow.table({**table, **{f"c{column}": [0] * ROWS for column in range(columns - 1)}}), path / "labels.parquet"
    )
    return path / "labels.parquet"


def _coco(path: Path, columns: int) -> Path:
    document = {
        "images": [{"id": row, "file_name": f"{row}.png"} for row in range(ROWS)],
        "categories": [{"id": number, "name": f"c{number}"} for number in range(columns - 1)],
        "annotations": [{"image_id": 0, "category_id": 0}],
    }
    (path / "labels.json").write_text(json.dumps(document))
    return path / "labels.json"


def _celeba(path: Path, columns: int) -> Path:
    names = " ".join(f"c{column}" for column in range(columns - 1))
    rows = "".join(f"{row}.png" + " -1" * (columns - 1) + "\n" for row in range(ROWS))
    (path / "list_attr_celeba.txt").write_text(f"{ROWS}\n{names}\n{rows}")
    return path / "list_attr_celeba.txt"


@pytest.mark.parametrize(
    ("limits", "option"),
    [
        (Budget(max_rows=ROWS - 1000), "--max-rows"),
        (Budget(max_columns=3), "--max-columns"),
        (Budget(max_cells=ROWS * 3), "--max-cells"),
    ],
)
@pytest.mark.parametrize("write", [_csv, _json_lines, _parquet, _coco, _celeba])
def test_rows_columns_and_cells_are_limited(
    write: Callable[[Path, int], Path], limits: Budget, option: str, tmp_path: Path
) -> None:
    path = write(tmp_path, 5)
    with limited_to(limits), pytest.raises(InputError, match="the limit is") as caught:
        read_label_file(path, for_learning=False)
    assert caught.value.hint is not None
    assert option in caught.value.hint
    assert len(read_label_file(path, for_learning=False).table) == ROWS


@pytest.mark.parametrize("write", [_csv, _json_lines, _coco, _celeba])
def test_the_size_of_a_text_file_is_limited(write: Callable[[Path, int], Path], tmp_path: Path) -> None:
    with limited_to(Budget(max_label_bytes=1000)), pytest.raises(InputError, match="expected at most 1,000") as caught:
        read_label_file(write(tmp_path, 2))
    assert caught.value.hint is not None
    assert "--max-label-bytes" in caught.value.hint


def test_a_new_key_in_each_row_ends_at_the_limit_of_columns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = 0

    def count(path: Path, rows: int, columns: int) -> None:
        nonlocal read
        read = rows
        check_table(path, rows, columns)

    monkeypatch.setattr("mtlue_cli.tasks.readers.json_lines.check_table", count)
    lines = [json.dumps({"image": f"{row}.png", f"k{row}": 1}) for row in range(ROWS)]
    (tmp_path / "labels.jsonl").write_text("\n".join(lines))
    with limited_to(Budget(max_columns=100)), pytest.raises(InputError, match="has 101 columns, the limit is 100"):
        read_label_file(tmp_path / "labels.jsonl")
    assert read == 100


@pytest.mark.parametrize("cells", [[f"t{row}" for row in range(ROWS)], [",".join("01" * 60)] * ROWS])
def test_lists_of_labels_give_as_many_columns_as_a_table_may_have(cells: list[str], tmp_path: Path) -> None:
    rows = "".join(f'{row}.png,"{cell}",{row % 2}\n' for row, cell in enumerate(cells))
    (tmp_path / "labels.csv").write_text(f"image,tags,t\n{rows}")
    options = LabelOptions(multi_labels=(MultiLabel("tags"),))
    with limited_to(Budget(max_columns=100)), pytest.raises(InputError, match="columns, the limit is 100"):
        read_label_file(tmp_path / "labels.csv", options, for_learning=False)


def test_one_long_row_is_counted_before_it_is_parted(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("image,a\n1.png" + "," * (2 << 20) + "\n")
    with pytest.raises(InputError, match="columns, the limit is 10,000"):
        read_label_file(tmp_path / "labels.csv")


def _repeated(path: Path, *, of_list: bool) -> Path:
    """A Parquet in which one text of a megabyte stands in many rows: a few kilobytes that held several gigabytes."""
    text = pyarrow.array(["x" * 1_000_000])
    indices = pyarrow.array([0] * ROWS, pyarrow.int32())
    column = pyarrow.DictionaryArray.from_arrays(indices, text)
    if of_list:
        column = pyarrow.array([["x" * 1_000_000] * 3] * 3)
        table = pyarrow.table({"image": ["a.png", "b.png", "c.png"], "t": column})
    else:
        table = pyarrow.table({"image": [f"{row}.png" for row in range(ROWS)], "t": column})
    parquet.write_table(table, path / "labels.parquet", compression="zstd")
    return path / "labels.parquet"


def test_a_long_text_that_many_rows_repeat_is_read_once(tmp_path: Path) -> None:
    path = _repeated(tmp_path, of_list=False)
    assert path.stat().st_size < 100_000
    before = pyarrow.default_memory_pool().max_memory()
    with pytest.raises(InputError, match="characters"):  # a cell that long is a fault
        read_label_file(path, for_learning=False)
    assert pyarrow.default_memory_pool().max_memory() <= max(before, 100_000_000)


def test_text_in_lists_is_limited(tmp_path: Path) -> None:
    with limited_to(Budget(max_label_bytes=5_000_000)), pytest.raises(InputError, match="--max-label-bytes"):
        read_label_file(_repeated(tmp_path, of_list=True))


def test_the_uncompressed_size_in_the_footer_is_limited_without_columns_that_are_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "labels.parquet"
    labels = {"image": [f"{row}.png" for row in range(ROWS)], "t": [f"{row % 2}" for row in range(ROWS)]}
    parquet.write_table(pyarrow.table({**labels, "bytes": [bytes(1000)] * ROWS}), path, use_dictionary=False)
    with limited_to(Budget(max_label_bytes=200_000)):
        assert read_label_file(path).table.tasks.names == ("t",)
    monkeypatch.setattr("mtlue_cli.tasks.readers.parquet.read_tables", lambda *_: pytest.fail("the table was read"))
    with limited_to(Budget(max_label_bytes=20_000)), pytest.raises(InputError, match="bytes of labels, uncompressed"):
        read_label_file(path)


@pytest.mark.parametrize(
    "odd",
    [
        pyarrow.array([10**7, 0], pyarrow.date32()),
        pyarrow.array([10**16, 0], pyarrow.timestamp("ms")),
        pyarrow.array([2**62, 0], pyarrow.duration("s")),
    ],
    ids=["date", "timestamp", "duration"],
)
def test_a_column_with_dates_beyond_those_of_python_is_left_out(odd: pyarrow.Array, tmp_path: Path) -> None:
    table = pyarrow.table({"image": ["a.png", "b.png"], "t": ["0", "1"], "when": odd})
    parquet.write_table(table, tmp_path / "labels.parquet")
    found = read_label_file(tmp_path / "labels.parquet")
    assert found.table.tasks.names == ("t",)
    (when,) = [column for column in found.columns if column.name == "when"]
    assert when.left_out is not None
    assert "beyond the year 9999" in when.left_out


def test_cells_of_parquet_are_those_of_their_rows(tmp_path: Path) -> None:
    day = datetime.date(2020, 1, 2)
    columns = {
        "image": ["a.png", "b.png", "c.png", "d.png"],
        "t": ["p", " q ", None, "p"],
        "tags": [["u", "v"], None, [], ["u"]],
        "numbers": [[1, 2], [None, 3], None, []],
        "n": [1.0, 2.5, float("nan"), None],
        "day": [day, None, day, day],
    }
    parquet.write_table(pyarrow.table(columns), tmp_path / "labels.parquet", row_group_size=3)
    raw = read_parquet(LabelSource(tmp_path / "labels.parquet"))
    assert raw.header == tuple(columns)
    assert raw.rows == (
        ("a.png", "p", "u|v", "1|2", "1", "2020-01-02"),
        ("b.png", "q", None, "3", "2.5", None),
        ("c.png", None, None, None, None, "2020-01-02"),
        ("d.png", "p", "u", None, None, "2020-01-02"),
    )


def damaged_parquet(path: Path) -> Path:
    """A file whose footer states histograms of other sizes than its columns have: pyarrow aborts when it looks."""
    table = pyarrow.table({"image": ["a.png", "b.png", "c.png", None], "t": [0, 1, None, 1]})
    parquet.write_table(table, path)
    content = path.read_bytes()
    histogram = b"\x29\x06\x19\x26"  # of Thrift: field 2 an empty list, field 3 a list of two
    assert histogram in content
    path.write_bytes(content.replace(histogram, b"\x29\x42\x19\x26"))
    return path


def test_a_parquet_file_at_which_pyarrow_aborts_is_refused(tmp_path: Path) -> None:
    path = damaged_parquet(tmp_path / "labels.parquet")
    with pytest.raises(InputError, match="cannot be read as Parquet: 'the library that reads it crashed"):
        read_label_file(path)
    with pytest.raises(InputError, match="cannot be read as Parquet"):
        holds_images(path)


def test_a_parquet_file_of_other_rows_than_it_states_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "labels.parquet"
    parquet.write_table(pyarrow.table({"image": ["a.png", "b.png"], "t": [0, 1]}), path)
    monkeypatch.setattr("mtlue_cli.tasks.readers.parquet.read_tables", lambda *_: [])
    with pytest.raises(InputError, match="it states 2 rows and has others"):
        read_label_file(path)


def test_an_entry_of_a_json_document_is_limited_and_the_document_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(json_members, "MOST_ENTRY", 60)
    path = tmp_path / "labels.json"
    document = {
        "info": {"note": "é"},
        "images": [{"id": number, "file_name": f"{number}.jpg"} for number in range(30)],
        "annotations": [{"image_id": number, "category_id": number % 2} for number in range(30)],
        "licenses": [[], "]", 1e300, -1234567, None],
        "categories": [{"id": 0, "name": "cat"}, {"id": 1, "name": "dog"}],
    }
    path.write_text(json.dumps(document, indent=1), encoding="utf-8")
    found = {name: list(value) if isinstance(value, Iterator) else value for name, value in read_members(path)}
    assert found == document
    assert read_label_file(path).table.tasks.names == ("cat", "dog")
    with limited_to(Budget(max_cells=20)), pytest.raises(InputError, match="more than 20 annotations"):
        read_label_file(path)
    with limited_to(Budget(max_rows=29)), pytest.raises(InputError, match="has 30 rows"):
        read_label_file(path)
    document["info"] = {"note": "x" * 60}
    path.write_text(json.dumps(document))
    with pytest.raises(InputError, match="an entry is damaged, or longer than 60 characters: line 1 column 10"):
        read_label_file(path)


def test_lines_without_a_row_count_and_a_long_one_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_lines, "MOST_ENTRY", 30)
    path = tmp_path / "labels.jsonl"
    path.write_text('{"image": "a.png", "t": 0}\n{"image": "b.png", "t": [[],[],[],[]]}\n')
    with pytest.raises(InputError) as raised:
        read_label_file(path)
    assert "row 2: has 38 characters, expected at most 30" in str(raised.value.faults)
    path.write_text("x\n" * 11)
    with limited_to(Budget(max_rows=10)), pytest.raises(InputError, match="has 11 rows, the limit is 10"):
        read_label_file(path)
    path = tmp_path / "list_attr_celeba.txt"
    with limited_to(Budget(max_rows=2, max_columns=3)):
        path.write_text("3\nA\n" + "x.jpg 1\n" * 3)
        with pytest.raises(InputError, match="has 3 rows, the limit is 2"):
            read_label_file(path)
        path.write_text(f"1\n{'A ' * 4}\nx.jpg 1 1 1 1\n")
        with pytest.raises(InputError, match="has 4 columns, the limit is 3"):
            read_label_file(path, LabelOptions(format=LabelFormat.CELEBA))


def test_two_images_of_one_id_are_a_fault(tmp_path: Path) -> None:
    images = [{"id": 7, "file_name": f"{name}.jpg"} for name in "ab"]
    annotations = [{"image_id": 7, "category_id": 1}]
    document = {"images": images, "categories": [{"id": 1, "name": "cat"}], "annotations": annotations}
    path = tmp_path / "labels.json"
    path.write_text(json.dumps(document))
    with pytest.raises(InputError) as raised:
        read_label_file(path, LabelOptions(format=LabelFormat.COCO))
    assert "several images have the id '7'" in " ".join(map(str, (raised.value, *raised.value.faults)))


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("nope", "not JSON: Expecting value: line 1 column 1"),
        ("[1]", "is not COCO: expected an object"),
        ('{"a": 1,\n}', "not JSON: Expecting value: line 2 column 1"),
        ('{"a" 1}', "not JSON: Expecting ':': line 1 column 6"),
        ('{"a": [1 2]}', "not JSON: Expecting ',': line 1 column 10"),
        ('{"a": 1, "a": 2}', "not JSON: expected a name that is new, found 'a'"),
        ("{} x", "not JSON: Extra data: line 1 column 4"),
        ('{"a": ' + "[" * 100_000, "not JSON: maximum recursion depth"),
        ('{"a": 1}', "is not COCO: an entry lacks 'categories'"),
        (
            '{"images": [{"id": [1], "file_name": "a.jpg"}]}',
            "entry 1 of images has another form (id is neither a whole number",
        ),
        ('{"annotations": [{"image_id": NaN, "category_id": 1}]}', "image_id is neither a whole number nor text"),
        ('{"categories": [{"id": 1, "name": null}]}', "is not COCO: entry 1 of categories has another form"),
        (
            f'{{"images": [{{"id": 1, "file_name": "a"}}, {{"id": 1{"0" * 400}}}]}}',
            "entry 2 of images has another form",
        ),
        (f'{{"images": [{{"id": 1{"0" * 400}}}]}}', "(id is beyond 64 bits: 100000000..., 401 digits)"),
        ('{"images": [{"id": 1e999}]}', "entry 1 of images has another form (id is neither a whole number nor text)"),
        (
            '{"annotations": [{"image_id": 1, "category_id": 1e999}]}',
            "(category_id is neither a whole number nor text)",
        ),
        (
            f'{{"images": [{{"id": 1{"0" * 5000}}}]}}',
            "the entry here holds a number of too many digits: line 1 column 13",
        ),
        ('{"categories": [{"id": 1, "name": "a"}, {"id": 1, "name": "b"}]}', "two categories have the id 1"),
    ],
)
def test_what_is_wrong_with_a_json_document_is_said_with_its_place(text: str, fault: str, tmp_path: Path) -> None:
    path = tmp_path / "labels.json"
    path.write_text(text)
    with pytest.raises(InputError, match=re.escape(fault)):
        read_label_file(path, LabelOptions(format=LabelFormat.COCO))
