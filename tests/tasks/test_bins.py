from pathlib import Path

import pytest

from mtlue_cli.errors import InputError
from mtlue_cli.tasks.bins import Bins, parse_bins, parse_number
from mtlue_cli.tasks.label_options import LabelOptions
from mtlue_cli.tasks.labels import read_label_file
from tests.tasks.label_files import cells_of, faults_of, write

AGES = parse_bins(["age=2,9,19,29,39,49,59,69"])[0]


@pytest.mark.parametrize(
    ("bins", "classes"),
    [
        (AGES, {"0": "0-2", "2": "0-2", "3": "3-9", "9.0": "3-9", "10": "10-19", "69": "60-69", "70": "70+"}),
        (Bins("n", ("0", "1")), {"0": "0", "1": "1", "2": "2+", "007": "2+"}),
        (Bins("x", ("0.5", "1")), {"0.5": "<=0.5", "-3": "<=0.5", "0.51": ">0.5 to 1", "1e1": ">1"}),
        (Bins("x", ("-5", "0")), {"-5": "<=-5", "-4.9": ">-5 to 0", ".1": ">0"}),
    ],
)
def test_an_edge_is_the_last_value_of_its_class(bins: Bins, classes: dict[str, str]) -> None:
    assert {value: bins.class_of(value) for value in classes} == classes


@pytest.mark.parametrize("value", ["", "old", "2.5", "-1", "nan", "1e400", "1" * 500, "\u0661", "1,5"])
def test_what_whole_edges_do_not_sort(value: str) -> None:
    with pytest.raises(ValueError, match="is no"):
        AGES.class_of(value)


def test_numbers_are_finite_and_ascii() -> None:
    assert [parse_number(text) for text in ("1", "-1.", "+.5", "2e3")] == [1.0, -1.0, 0.5, 2000.0]
    assert {parse_number(text) for text in ("", "nan", "inf", "1e999", "1_0", " 1", "\u00b2")} == {None}


def test_every_faulty_option_is_reported() -> None:
    with pytest.raises(InputError) as caught:
        parse_bins(["age=2,9", "age=3", "=1", "2,9", "t=", "t=1,x", "t=2,2", "a=b=1"])
    reasons = [fault.split(": ")[-1] for fault in caught.value.faults]
    assert reasons == [
        "column 'age' has edges already",
        "'=1' names no column",
        "'2,9' names no column",
        "'' is not a number",
        "'x' is not a number",
        "the edges must ascend",
    ]


def test_a_binned_column_keeps_its_missing_cells_and_names_faulty_rows(tmp_path: Path) -> None:
    options = LabelOptions(bins=(AGES,), missing_values=("NA",))
    path = write(tmp_path, "file_name,age\na.jpg,26\nb.jpg,\nc.jpg,NA\nd.jpg,85\n")
    assert [row["age"] for row in cells_of(read_label_file(path, options)).values()] == ["20-29", None, None, "70+"]
    faults = faults_of(write(tmp_path, "file_name,age\na.jpg,old\nb.jpg,2.5\n"), bins=(AGES, Bins("height", ("1",))))
    assert "row 2: 'age': 'old' is not a number" in faults
    assert "row 3: 'age': '2.5' is not a whole number" in faults
    assert "there is no column 'height'" in faults
