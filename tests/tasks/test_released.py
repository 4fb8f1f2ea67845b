import csv
from pathlib import Path

import pytest

from mtlue_cli.tasks.label_options import LabelOptions
from mtlue_cli.tasks.labels import read_label_file, released_labels, released_options
from mtlue_cli.tasks.readers.delimited import escaped, escaped_name, unescaped
from tests.tasks.label_files import cells_of, write


@pytest.mark.parametrize("cell", ["=1+1", "+cmd", "-x", "@SUM(A1)", "\uff1dA1", "'=1", "''@x", "-1+2"])
def test_what_a_spreadsheet_would_run_is_escaped_and_comes_back(cell: str) -> None:
    assert escaped(cell) == f"'{cell}"
    assert unescaped(escaped(cell)) == cell


@pytest.mark.parametrize("cell", ["", "-1", "+2.5e3", "male", "10-19", "'quoted'", "<=2", "a=b", "'"])
def test_other_cells_stay_as_they_are(cell: str) -> None:
    assert escaped(cell) == cell
    assert unescaped(cell) == cell


@pytest.mark.parametrize("cell", ["x;=cmd", "x\t+1", "x; @SUM(A1)", "x|-1+2", "x,=1"])
def test_a_formula_behind_what_parts_cells_elsewhere_stands_in_quotation_marks(cell: str, tmp_path: Path) -> None:
    labels = read_label_file(write(tmp_path, f'image,t\na.png,"{cell}"\nb.png,0\n'), for_learning=False)
    content = released_labels(labels, {0: "a.png", 1: "b.png"})
    assert content.splitlines()[1:] == [f'"a.png","{cell}"'.encode(), b"b.png,0"]
    (tmp_path / "released.csv").write_bytes(content)
    found = read_label_file(tmp_path / "released.csv", released_options("image"), for_learning=False)
    assert found.table.class_name("t", 0) == cell


def test_file_names_stay_paths_for_every_program() -> None:
    assert [escaped_name(name) for name in ("=a.png", "'-a.png", " a.png", "a.png", "-1")] == [
        "./=a.png",
        "./'-a.png",
        "./ a.png",
        "a.png",
        "./-1",
    ]


def test_a_released_label_file_reads_as_what_was_understood(tmp_path: Path) -> None:
    text = '\'@note;photo;t;age\n\'=1+1;=a.jpg;-1;26\n"two\rrows, ""quoted""";b.jpg;NA;\n;sub/c.jpg;1;3\n'
    options = LabelOptions(file_column="photo", missing_values=("NA",))
    labels = read_label_file(write(tmp_path, text), options, for_learning=False)
    assert labels.header == ("@note", "photo", "t", "age")
    names = {0: "=a.png", 2: "sub/c.png", 1: "b.png"}
    path = tmp_path / "released.csv"
    path.write_bytes(released_labels(labels, names))
    again = read_label_file(path, released_options("photo"), for_learning=False)
    assert again.header == labels.header
    assert cells_of(again) == {names[row]: cells for row, cells in enumerate(cells_of(labels).values())}
    with path.open(encoding="utf-8", newline="") as stream:
        plain = list(csv.reader(stream))
    assert plain[:2] == [["'@note", "photo", "t", "age"], ["'=1+1", "./=a.png", "-1", "26"]]
    assert [row[2] for row in plain[1:]] == ["-1", "", "1"]


def test_rows_that_were_not_released_are_left_out(tmp_path: Path) -> None:
    labels = read_label_file(write(tmp_path, "file_name,t\na.jpg,0\nb.jpg,1\n"))
    assert released_labels(labels, {1: "b.png"}) == b"file_name,t\nb.png,1\n"
