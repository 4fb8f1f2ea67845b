import time
from pathlib import Path

import pyarrow
import pytest
from pyarrow import parquet

from mtlue_cli.choices import TaskKind
from mtlue_cli.errors import InputError
from mtlue_cli.tasks.classes import ordered_classes
from mtlue_cli.tasks.label_options import LabelOptions
from mtlue_cli.tasks.labels import read_label_file
from mtlue_cli.tasks.spec import UNLABELLED
from tests.tasks.label_files import faults_of, write


def test_columns_become_tasks_and_empty_cells_are_unlabelled(tmp_path: Path) -> None:
    path = write(tmp_path, "file_name,age,gender\na.jpg,10-19,0\nsub/b.jpg,,1\nc.jpg,3-9,\nd.jpg,70+,1\n")
    table = read_label_file(path).table
    assert table.file_names == ("a.jpg", "sub/b.jpg", "c.jpg", "d.jpg")
    assert table.tasks["age"].classes == ("3-9", "10-19", "70+")
    assert table.tasks["age"].kind is TaskKind.CATEGORICAL
    assert table.tasks["gender"].kind is TaskKind.BINARY
    assert table.columns["age"].tolist() == [1, UNLABELLED, 0, 2]
    assert table.columns["gender"].tolist() == [0, 1, UNLABELLED, 1]


def test_byte_order_mark_quotes_and_line_ends_are_accepted(tmp_path: Path) -> None:
    table = read_label_file(write(tmp_path, '\ufefffile_name,"a, b"\r\n"x, y.jpg",1\r\n\r\nz.jpg,-1\r\n')).table
    assert table.file_names == ("x, y.jpg", "z.jpg")
    assert table.tasks["a, b"].classes == ("-1", "1")


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (["10", "9", "-1", "9"], ("-1", "9", "10")),
        (["70+", "10-19", "0-2", "3-9", ""], ("0-2", "3-9", "10-19", "70+")),
        (["b", "a", "c"], ("a", "b", "c")),
        (["class10", "class9"], ("class9", "class10")),
    ],
)
def test_class_order_does_not_depend_on_the_rows(cells: list[str], expected: tuple[str, ...]) -> None:
    assert ordered_classes(cells) == expected
    assert ordered_classes(cells[::-1]) == expected


@pytest.mark.parametrize("header", ["file_name", "filename", "image", "image_id", "path"])
def test_known_file_columns(tmp_path: Path, header: str) -> None:
    assert read_label_file(write(tmp_path, f"t,{header}\n0,a.jpg\n1,b.jpg\n")).table.file_names == ("a.jpg", "b.jpg")


def test_named_file_column(tmp_path: Path) -> None:
    path = write(tmp_path, "photo,t\na.jpg,0\nb.jpg,1\n")
    with pytest.raises(InputError) as caught:
        read_label_file(path)
    assert "--file-column" in str(caught.value.hint)
    assert read_label_file(path, LabelOptions(file_column="photo")).table.file_names == ("a.jpg", "b.jpg")
    assert "'other'" in faults_of(path, file_column="other")


def test_a_file_column_that_names_no_file_is_refused_if_another_one_does(tmp_path: Path) -> None:
    for number in range(4):
        (tmp_path / f"photo {number}.jpg").touch()
    rows = "".join(f"{number},photo {number}.jpg,{number % 2}\n" for number in range(4))
    path = write(tmp_path, "image_id,the path,gender\n" + rows)
    with pytest.raises(InputError) as caught:
        read_label_file(path, folder=tmp_path)
    assert str(caught.value) == (
        f"{path}: column 'image_id' does not hold the file names: 4 of 4 rows looked at name no file in {tmp_path}"
    )
    assert caught.value.hint == "use --file-column 'the path'"
    named = read_label_file(path, LabelOptions(file_column="the path"), for_learning=False, folder=tmp_path)
    assert named.table.file_names[0] == "photo 0.jpg"
    # A column that is called by no usual name is found as well.
    path.write_text(path.read_text().replace("image_id", "number"))
    with pytest.raises(InputError, match="no file column") as caught:
        read_label_file(path, folder=tmp_path)
    assert caught.value.hint == "use --file-column 'the path'"


def test_files_that_are_missing_are_no_reason_to_ask_for_another_column(tmp_path: Path) -> None:
    (tmp_path / "x").touch()
    path = write(tmp_path, "file_name,t\na.jpg,x\nb.jpg,y\nc.jpg,z\n")
    assert read_label_file(path, folder=tmp_path).table.file_names == ("a.jpg", "b.jpg", "c.jpg")


def test_every_fault_is_reported_with_its_row(tmp_path: Path) -> None:
    text = (
        "file_name,t,t,one,none\n"
        "a.jpg,0,0,x,\n"
        "../b.jpg,1,1,x,\n"
        "/c.jpg,1,1,x,\n"
        "C:/d.jpg,1,1,x,\n"
        "sub\\e.jpg,1,1,x,\n"
        ",1,1,x,\n"
        "f.jpg,1\n"
        "./a.jpg,1,1,x,\n"
        "g\0.jpg,1,1,x,\n"
    )
    report = faults_of(write(tmp_path, text))
    for expected in (
        "column 't' appears more than once",
        "row 3: file name '../b.jpg' leaves",
        "row 4: file name '/c.jpg' is absolute",
        "row 5: file name 'C:/d.jpg' is absolute",
        "row 6: file name 'sub\\\\e.jpg' holds a backslash",
        "row 7: file name is empty",
        "row 8: 2 cells, expected 5",
        "row 9: file 'a.jpg' is already in row 2, with other labels: 't' is '0' there and '1' here",
        "row 10: file name contains a NUL character",
        "column 'one' holds only one class",
        "column 'none' has no labels",
    ):
        assert expected in report


def test_an_identifier_column_is_named(tmp_path: Path) -> None:
    rows = "".join(f"{i}.jpg,{i % 2},person{i}\n" for i in range(1001))
    path = write(tmp_path, "file_name,t,who\n" + rows)
    assert read_label_file(path).usual_tasks.names == ("t",)
    with pytest.raises(InputError) as caught:
        read_label_file(path, learned=["t", "who"])
    (fault,) = caught.value.faults
    assert fault == "column 'who' holds 1001 distinct values: it looks like an identifier, leave it out"


def test_a_folder_to_protect_may_show_one_class(tmp_path: Path) -> None:
    path = write(tmp_path, "note,file_name,t,u\nhello,a.jpg,0,\n")
    labels = read_label_file(path, for_learning=False)
    assert labels.table.columns["t"].tolist() == [0]
    assert labels.table.columns["u"].tolist() == [UNLABELLED]
    assert labels.header == ("note", "file_name", "t", "u")
    assert labels.file_index == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("file_name,t\n", "no row"),
        ("file_name\na.jpg\n", "nothing to learn"),
        ('a,"b', "never closed"),
    ],
)
def test_unusable_files(tmp_path: Path, text: str, message: str) -> None:
    assert message in faults_of(write(tmp_path, text))


def test_other_kinds_of_files(tmp_path: Path) -> None:
    assert "files ending in .xlsx are not a supported label format" in faults_of(write(tmp_path, "x", "labels.xlsx"))
    path = tmp_path / "labels.csv"
    path.write_bytes(b"file_name,t\n\xff\xfe.jpg,1\n")
    assert "row 2: the bytes ff fe 2e 6a are not UTF-8" in faults_of(path)


def test_a_row_that_repeats_another_is_left_out_and_reported(tmp_path: Path) -> None:
    labels = read_label_file(write(tmp_path, "file_name,t\na.jpg,0\nb.jpg,1\n./a.jpg,0\n"))
    assert labels.table.file_names == ("a.jpg", "b.jpg")
    assert labels.notes == ("row 4 repeats row 2 and is left out: file 'a.jpg'",)


def test_of_many_rows_that_repeat_others_the_rest_is_counted(tmp_path: Path) -> None:
    rows = "".join(f"{name}.jpg,{name % 2}\n" for name in range(30))
    labels = read_label_file(write(tmp_path, "file_name,t\n" + rows + rows))
    assert len(labels.table) == 30
    assert len(labels.notes) == 6
    assert labels.notes[-1] == "25 further rows left out that repeat others"


def test_only_what_is_stated_is_missing_and_the_rest_is_pointed_out(tmp_path: Path) -> None:
    path = write(tmp_path, "file_name,t\na.jpg,x\nb.jpg,NA\nc.jpg,y\n")
    labels = read_label_file(path)
    assert labels.table.tasks["t"].classes == ("NA", "x", "y")
    assert labels.notes == ("column 't' has the class 'NA' (row 3); if that means no label, add --missing-value NA",)
    labels = read_label_file(path, LabelOptions(missing_values=("NA",)))
    assert labels.table.columns["t"].tolist() == [0, UNLABELLED, 1]
    assert labels.notes == ()


def test_spellings_of_one_class_are_a_fault_only_where_they_are_learned(tmp_path: Path) -> None:
    path = write(tmp_path, "file_name,t,u\na.jpg,1,a\nb.jpg,1.0,A\nc.jpg,0,e\u0301\nd.jpg,01,\u00e9\n")
    faults = faults_of(path)
    assert (
        "column 't' spells what looks like one class in several ways: '1' (row 2), '1.0' (row 3), '01' (row 5)"
        in faults
    )
    assert "'e\\u0301' (row 4), '\\xe9' (row 5)" in faults
    assert "'A'" not in faults
    with pytest.raises(InputError) as caught:
        read_label_file(path, learned=["t"])
    assert len(caught.value.faults) == 1
    assert len(read_label_file(path, for_learning=False).table) == 4


def test_an_unlabelled_column_of_a_folder_to_protect_is_reported(tmp_path: Path) -> None:
    labels = read_label_file(write(tmp_path, "file_name,t,u\na.jpg,0,\n"), for_learning=False)
    assert labels.notes == ("column 'u' has no labels",)


def test_long_and_odd_cells_are_shown_short_and_visible(tmp_path: Path) -> None:
    text = f"file_name,t\na.jpg,{'x' * 110_000}\nb.jpg,n\0l\n\x1b[2J/../c.jpg,1\n"
    faults = faults_of(write(tmp_path, text))
    assert "row 2: column 't': 110000 characters, expected a label" in faults
    assert "row 3: column 't': contains a NUL character" in faults
    assert "row 4: file name '\\x1b[2J/../c.jpg' leaves" in faults
    assert all(len(line) < 300 for line in faults.splitlines())


def test_a_table_without_a_header_is_recognised(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        read_label_file(write(tmp_path, "a.jpg,1\nb.jpg,0\n"))
    assert str(caught.value.hint).startswith("give the table a header")


def test_a_long_text_in_very_many_rows_is_refused_at_once(tmp_path: Path) -> None:
    rows = 30_000
    text = pyarrow.DictionaryArray.from_arrays(pyarrow.array([0] * rows, pyarrow.int32()), ["a" * 1_000_000])
    names = [f"{number}.png" for number in range(rows)]
    start = time.process_time()  # of this process: a busy machine does not fail it
    for columns in ({"file_name": names, "label": text}, {"file_name": text, "label": names}):
        parquet.write_table(pyarrow.table(columns), tmp_path / "labels.parquet", compression="zstd")
        with pytest.raises(InputError):
            read_label_file(tmp_path / "labels.parquet")
    assert time.process_time() - start < 20
