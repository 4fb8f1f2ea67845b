"""Every label format: its documented example, its peculiarities, and its faults."""

import datetime
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from pyarrow import parquet

from mtlue_cli.choices import LabelFormat
from mtlue_cli.errors import InputError
from mtlue_cli.tasks.label_options import LabelOptions
from mtlue_cli.tasks.labels import LabelFile, read_label_file
from mtlue_cli.tasks.readers.base import LabelSource
from mtlue_cli.tasks.readers.nyuv2 import read_nyuv2
from mtlue_cli.tasks.readers.registry import READERS, reader_of
from mtlue_cli.tasks.readers.utkface import read_utkface
from tests.tasks.label_files import DOCUMENT, cells_of, faults_of, write

PEOPLE = {"a.jpg": {"age": "10-19", "gender": "male"}, "b.jpg": {"age": None, "gender": "female"}}


def example(name: str) -> str:
    """The code block of one format in the documentation."""
    found = re.search(rf"```{name}\n(.*?)```", DOCUMENT, re.DOTALL)
    assert found is not None, name
    return found[1]


def read(path: Path, **options: Any) -> LabelFile:  # noqa: ANN401 - any field of the options
    return read_label_file(path, LabelOptions(**options), for_learning=False)


@pytest.mark.parametrize(
    ("name", "suffix", "expected"),
    [
        ("csv", ".csv", PEOPLE),
        ("tsv", ".tsv", PEOPLE),
        ("jsonl", ".jsonl", PEOPLE),
        (
            "celeba",
            ".txt",
            {"000001.jpg": {"Smiling": "0", "Young": "1"}, "000002.jpg": {"Smiling": "1", "Young": "0"}},
        ),
    ],
)
def test_the_documented_example_is_read(
    tmp_path: Path, name: str, suffix: str, expected: Mapping[str, Mapping[str, str | None]]
) -> None:
    assert cells_of(read(write(tmp_path, example(name), f"labels{suffix}"))) == expected
    assert cells_of(read(write(tmp_path, example(name), "labels.odd"), format=LabelFormat(name))) == expected


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_line_ends_and_encodings(tmp_path: Path, line_end: str, encoding: str) -> None:
    path = tmp_path / "labels.csv"
    path.write_bytes(line_end.join(("file_name,t", "é.jpg,1", "", "b.jpg,0", "")).encode(encoding))
    labels = read(path)
    assert labels.table.file_names == ("é.jpg", "b.jpg")
    assert labels.table.places == ("row 2", "row 4")


@pytest.mark.parametrize(
    "text",
    [
        "file_name;a, b\nx.jpg;1\n",
        "a, b;file_name\n1;x.jpg\n",
        'sep=;\n"file_name";"a, b"\nx.jpg;1\n',
        "file_name\ta, b\nx.jpg\t1\n",
        'file_name,"a, b"\nx.jpg,1\n',
    ],
)
def test_delimiters_are_recognised_by_the_header(tmp_path: Path, text: str) -> None:
    assert cells_of(read(write(tmp_path, text))) == {"x.jpg": {"a, b": "1"}}


def test_rows_are_counted_as_an_editor_counts_them(tmp_path: Path) -> None:
    labels = read(write(tmp_path, 'sep=,\nfile_name,t\n\na.jpg,"two\r\nlines"\nb.jpg,1\n'))
    assert labels.table.places == ("row 4", "row 6")
    assert cells_of(labels)["a.jpg"] == {"t": "two\r\nlines"}


def test_values_of_json_are_recognised_by_their_value(tmp_path: Path) -> None:
    values = ["1", "1.0", "1e0", '"1"', "true", "null", '""', "2.5", "12345678901234567890123", "NaN"]
    text = "".join(f'{{"file_name": "{row}.jpg", "t": {value}}}\n' for row, value in enumerate(values))
    found = [row["t"] for row in cells_of(read(write(tmp_path, text, "labels.jsonl"))).values()]
    assert found == ["1", "1", "1", "1", "true", None, None, "2.5", "12345678901234567890123", None]


def test_every_faulty_json_row_is_reported(tmp_path: Path) -> None:
    text = "\n".join(
        (
            '{"file_name": "a.jpg", "t": 1}',
            '{"file_name": "b.jpg",',
            "[1]",
            '{"file_name": "c.jpg", "t": {"u": [1]}}',
            '{"file_name": "d.jpg", "t": 1, "t": 0}',
            "1" * 5000,
            '{"t":' * 100_000,
            '{"file_name": "e.jpg", "t": "\\ud800"}',
        )
    )
    faults = faults_of(write(tmp_path, text, "labels.jsonl"))
    for expected in (
        "row 2: not JSON at character",
        'row 3: expected an object such as {"file_name": "a.jpg", "smiling": 1}, found a list',
        "row 5: the key 't' appears more than once",
        "row 6: expected an object",
        "row 7: nested too deeply",
        "column 't' holds an object (row 4), expected text, a number",
    ):
        assert expected in faults
    assert "row 1" not in faults


def test_parquet_columns_of_every_plain_type(tmp_path: Path) -> None:
    columns = {
        "file_name": ["a.jpg", "b.jpg"],
        "text": ["x ", None],
        "category": pyarrow.array(["u", "v"]).dictionary_encode(),
        "whole": [1, 2],
        "with_gap": pyarrow.array([1.0, None]),
        "real": [0.5, float("nan")],
        "truth": [True, None],
        "day": [datetime.date(2020, 1, 2), None],
        "__index_level_0__": [7, 9],
    }
    path = tmp_path / "labels.parquet"
    parquet.write_table(pyarrow.table(columns), path)
    labels = read(path)
    names = ("text", "category", "whole", "with_gap", "real", "truth", "day")
    assert labels.table.places == ("row 1", "row 2")
    assert cells_of(labels) == {
        "a.jpg": dict(zip(names, ("x", "u", "1", "1", "0.5", "true", "2020-01-02"), strict=True)),
        "b.jpg": dict(zip(names, (None, "v", "2", None, None, None, None), strict=True)),
    }


def test_parquet_columns_that_are_no_labels_are_left_out(tmp_path: Path) -> None:
    columns = {
        "file_name": ["a.jpg", "b.jpg"],
        "a": [{"b": 1}, {"b": 2}],
        "a.b": ["x", "y"],
        "moment": [datetime.datetime(2020, 1, 2), None],
        "tags": [["x", "y"], []],
        "image": [b"x", None],
    }
    path = tmp_path / "labels.parquet"
    parquet.write_table(pyarrow.table(columns), path)
    labels = read(path)
    assert cells_of(labels) == {
        "a.jpg": {"a.b": "x", "moment": "2020-01-02 00:00:00", "tags": "x|y"},
        "b.jpg": {"a.b": "y", "moment": None, "tags": None},
    }
    assert [column.fault.split(", expected")[0] for column in labels.columns if column.kind == "nested"] == [
        "column 'a' holds 'struct<b: int64>'",
        "column 'image' holds 'binary'",
    ]


def test_parquet_that_holds_no_labels(tmp_path: Path) -> None:
    path = write(tmp_path, "PAR1 not at all", "labels.parquet")
    assert "cannot be read as Parquet" in faults_of(path)
    parquet.write_table(pyarrow.table({"file_name": ["a.jpg"], "image": [{"bytes": b"x"}]}), path)
    assert "column 'image' holds 'struct<bytes: binary>'" in faults_of(path)
    parquet.write_table(pyarrow.table({}), path)
    assert "there are no columns" in faults_of(path)


def test_celeba_faults(tmp_path: Path) -> None:
    text = "4\nSmiling Young\na.jpg 1 0\nb.jpg 1\n../c.jpg -1 1\n"
    faults = faults_of(write(tmp_path, text, "list_attr_celeba.txt"))
    for expected in (
        "row 1: states 4 images, the file has 3 rows: cut off?",
        "row 3: 'Young' is '0', expected -1 or 1",
        "row 4: 1 value, expected 2",
        "row 5: file name '../c.jpg' leaves",
    ):
        assert expected in faults
    assert "does not look like CelebA" in faults_of(write(tmp_path, "Smiling\na.jpg 1\n", "l.txt"))
    path = write(tmp_path, "x\n", "l.txt")
    assert "is not a list_attr_celeba.txt" in faults_of(path, format=LabelFormat.CELEBA)


def test_nih_findings_are_binary_tasks(tmp_path: Path) -> None:
    labels = read(write(tmp_path, example("nih") + "00000003_000.png,,40\n", "Data_Entry_2017.csv"))
    assert labels.header == ("file_name", *labels.table.tasks.names)
    assert len(labels.table.tasks) == 14
    found = cells_of(labels)
    first = {name for name, cell in found["00000001_000.png"].items() if cell == "1"}
    assert first == {"Cardiomegaly", "Emphysema"}
    assert set(found["00000002_000.png"].values()) == {"0"}
    assert set(found["00000003_000.png"].values()) == {None}
    assert "Patient Age" not in found["00000001_000.png"]


def test_nih_faults(tmp_path: Path) -> None:
    rows = "a.png,Efusion\nb.png,No Finding|Mass\nc.png\nd.png,Mass\nd.png,Edema\n"
    faults = faults_of(write(tmp_path, "Image Index,Finding Labels\n" + rows))
    for expected in (
        "row 2: unknown finding 'Efusion'",
        "row 3: 'No Finding|Mass' says both",
        "row 4: 1 cell, expected 2",
        "row 6: file 'd.png' is already in row 5",
    ):
        assert expected in faults
    path = write(tmp_path, "file_name,t\na.jpg,1\n")
    assert "column 'Image Index' is missing" in faults_of(path, format=LabelFormat.NIH)


def test_utkface_names(tmp_path: Path) -> None:
    names = (
        "26_1_3_20170116174525125.jpg",
        "sub/100_0_0_20170112213500903.jpg.chip.jpg",
        "61_1_20170109142408075.jpg",
        "117_0_0_20170109142408075.jpg",
        "30_2_0_20170109142408075.jpg",
        "30_1_5_20170109142408075.png",
    )
    labels = read_label_file(tmp_path, LabelOptions(LabelFormat.UTKFACE), for_learning=False, image_names=names)
    assert cells_of(labels) == {
        names[0]: {"age": "26", "gender": "female", "race": "indian"},
        names[1]: {"age": "100", "gender": "male", "race": "white"},
    }
    reported = "\n".join(labels.notes)
    assert "4 of 6 file names carry no labels" in reported
    for name, reason in zip(names[2:], ("no age_gender_race_date", "age 117", "gender 2", "race 5"), strict=True):
        assert f"{name!r}: {reason}" in reported


def test_utkface_without_any_such_name(tmp_path: Path) -> None:
    assert "no image name has the form that this format expects" in faults_of(tmp_path, format=LabelFormat.UTKFACE)
    assert "reads file names" in faults_of(write(tmp_path, "x"), format=LabelFormat.UTKFACE)
    assert "is a folder" in faults_of(tmp_path, format=LabelFormat.CSV)


def test_suffix_and_content_decide_unless_the_format_is_named(tmp_path: Path) -> None:
    assert reader_of(write(tmp_path, "file_name,t\n")).name is LabelFormat.CSV
    assert reader_of(write(tmp_path, "x,Finding Labels,Image Index\n")).name is LabelFormat.NIH
    assert reader_of(write(tmp_path, "12\nSmiling\n", "l.TXT")).name is LabelFormat.CELEBA
    assert reader_of(write(tmp_path, "12\n", "l.csv"), LabelFormat.JSONL).name is LabelFormat.JSONL
    with pytest.raises(InputError, match="files without a suffix are not a supported"):
        reader_of(write(tmp_path, "x", "labels"))


@pytest.mark.parametrize("reader", READERS.values(), ids=lambda reader: reader.name.value)
def test_no_reader_trips_over_an_empty_or_absent_file(reader: Any, tmp_path: Path) -> None:  # noqa: ANN401
    if reader.reads_names:
        assert read_utkface(LabelSource(tmp_path)).rows == ()
        return
    for path in (write(tmp_path, "", "empty"), tmp_path / "absent", tmp_path):
        with pytest.raises(InputError):
            reader.read(LabelSource(path))


def test_json_rows_may_lack_keys(tmp_path: Path) -> None:
    rows = ({"file_name": "a.jpg", "t": 1}, {"u": "x", "file_name": "b.jpg"})
    labels = read(write(tmp_path, "\n".join(map(json.dumps, rows)), "labels.jsonl"))
    assert labels.header == ("file_name", "t", "u")
    assert cells_of(labels) == {"a.jpg": {"t": "1", "u": None}, "b.jpg": {"t": None, "u": "x"}}


def test_the_folders_of_nyuv2_may_hold_their_number_of_classes() -> None:
    names = ("image/0.npy", "image/1.npy", "label_7/0.npy", "depth/0.npy", "depth/1.npy", "edges/0.npy")
    table = read_nyuv2(LabelSource(Path(), image_names=names))
    assert table.header == ("file_name", "segmentation", "depth")
    assert table.rows == (("image/0.npy", "label_7/0.npy", "depth/0.npy"), ("image/1.npy", None, "depth/1.npy"))
    assert table.notes == ("folders of arrays that are read as no task: 'edges'",)
    several = read_nyuv2(LabelSource(Path(), image_names=(*names, "label/0.npy", "label_19/1.npy")))
    assert several.header == ("file_name", "segmentation", "segmentation_19", "segmentation_7", "depth")
    with pytest.raises(InputError, match="no arrays of a task beside image/"):
        read_nyuv2(LabelSource(Path(), image_names=("image/0.npy",)))
