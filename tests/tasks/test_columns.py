"""What a column is: tasks, and bookkeeping that is left out by default."""

import json
import random
from collections.abc import Sequence
from pathlib import Path

import pytest

from mtlue_cli.choices import LabelFormat
from mtlue_cli.errors import InputError
from mtlue_cli.tasks.columns import ColumnKind, infer_column
from mtlue_cli.tasks.declared import parse_declarations
from mtlue_cli.tasks.label_options import LabelOptions
from mtlue_cli.tasks.labels import read_label_file
from mtlue_cli.tasks.multi_label import labels_of, looks_like_lists, parse_multi_labels
from mtlue_cli.tasks.names import resolved_names
from mtlue_cli.tasks.overview import column_uses, overview_lines
from mtlue_cli.tasks.spelling import abbreviated, folded, likely_missing, meaning, respelled
from tests.tasks.label_files import cells_of, faults_of, write

RNG = random.Random(0)
HASHES = [f"{RNG.getrandbits(128):032x}" for _ in range(300)]


def repeated(values: Sequence[object], rows: int) -> list[str]:
    """``values`` repeated to ``rows`` cells."""
    return [str(values[row % len(values)]) for row in range(rows)]


@pytest.mark.parametrize("rows", [12, 60, 300])
@pytest.mark.parametrize(
    ("name", "cell", "kind"),
    [
        ("Unnamed: 0", lambda row: row, ColumnKind.INDEX),
        ("Unnamed: 0.1", lambda row: row * 3, ColumnKind.INDEX),
        ("anything", lambda row: row + 17, ColumnKind.INDEX),
        ("row", lambda row: (row * 7) % 1009, ColumnKind.INDEX),
        ("patient_id", lambda row: row // 3, ColumnKind.IDENTIFIER),
        ("PatientID", lambda row: 10000 + 37 * (row // 4), ColumnKind.IDENTIFIER),
        ("patient", lambda row: f"patient {row // 4}", ColumnKind.IDENTIFIER),
        ("who", lambda row: f"P{row // 3:04}", ColumnKind.IDENTIFIER),
        ("who", lambda row: f"{row // 2:06}", ColumnKind.IDENTIFIER),
        ("who", lambda row: 100003 + 3701 * (row // 3), ColumnKind.IDENTIFIER),
        ("who", lambda row: HASHES[row // 2], ColumnKind.IDENTIFIER),
        (
            "who",
            lambda row: f"{HASHES[row // 2][:8]}-{HASHES[0][:4]}-{HASHES[1][:4]}-{HASHES[2][:4]}-{HASHES[row][:12]}",
            ColumnKind.IDENTIFIER,
        ),
        ("contact", lambda row: f"person{row}@example.org", ColumnKind.IDENTIFIER),
        ("link", lambda row: f"https://example.org/{row % 7}", ColumnKind.ADDRESS),
        ("source", lambda row: f"s3://bucket/{row}.png", ColumnKind.ADDRESS),
        ("copy", lambda row: f"img_{row}.JPG", ColumnKind.PATH),
        ("mask", lambda row: f"masks/{row % 5}/x", ColumnKind.PATH),
        ("stem", lambda row: f"photo{row}", ColumnKind.PATH),
        ("day", lambda row: f"2020-01-{row % 28 + 1:02}", ColumnKind.DATE),
        ("day", lambda row: f"{row % 28 + 1}.{row % 12 + 1}.2021", ColumnKind.DATE),
        ("moment", lambda row: f"2020:01:{row % 28 + 1:02} 10:{row % 60:02}:00", ColumnKind.DATE),
        ("moment", lambda row: f"2020-01-{row % 28 + 1:02}T10:{row % 60:02}:00Z", ColumnKind.DATE),
        ("moment", lambda row: f"{row % 24}:{row % 60:02}", ColumnKind.DATE),
        ("moment", lambda row: f"201701{row * 5 % 28 + 1:02}", ColumnKind.DATE),
        ("timestamp", lambda row: 1600000000 + 977 * row, ColumnKind.DATE),
        ("year", lambda row: 2010 + row % 8, ColumnKind.DATE),
        ("score", lambda row: f"{row * 1.37:.2f}", ColumnKind.DECIMAL),
        ("score", lambda row: ("0.5", "1.0", "2.5")[row % 3], ColumnKind.DECIMAL),
        ("score", lambda row: f"{row},5", ColumnKind.DECIMAL),
        ("latitude", lambda row: 40 + row % 9, ColumnKind.BOX),
        ("x_min", lambda row: row * 11 % 97, ColumnKind.BOX),
        ("bbox", lambda row: f"[{row}, 2, 3, 4]", ColumnKind.BOX),
        ("lefteye_x", lambda row: 60 + row % 9, ColumnKind.BOX),
        ("Width", lambda row: 640 + row % 5, ColumnKind.SIZE),
        ("size", lambda row: f"{640 + row}x480", ColumnKind.SIZE),
        ("note", lambda row: f"text {row}, long", ColumnKind.TEXT),
        ("caption", lambda row: f"a photo of a cat that is number {row}", ColumnKind.TEXT),
        ("doi", lambda row: f"10.1056/nejmc200{row // 2:04}", ColumnKind.ADDRESS),
        ("folder", lambda row: ("images", "volumes")[row % 2], ColumnKind.PATH),
        ("format", lambda row: ("JPEG", "png")[row % 2], ColumnKind.PATH),
        ("day", lambda row: ("January 22, 2020", "2020", "March, 2020", "2017")[row % 4], ColumnKind.DATE),
        ("day", lambda row: f"{row % 28 + 1}. M\u00e4rz 2021", ColumnKind.DATE),
        ("month", lambda row: f"{row % 12 + 1:02}/2020", ColumnKind.DATE),
        ("span", lambda row: f"{row % 3 + 1} days, 0:00:00", ColumnKind.DATE),
        ("offset", lambda row: row % 5, ColumnKind.DATE),
        ("x", lambda row: f"1.23{row % 4},50", ColumnKind.DECIMAL),
        ("weight", lambda row: f"{60 + row % 4},50", ColumnKind.DECIMAL),
        ("dose", lambda row: f"{row % 3}.5 mg", ColumnKind.DECIMAL),
        ("gps", lambda row: f"{row % 5}.25, 7.5", ColumnKind.BOX),
        ("embedding", lambda row: f"[0.{row % 5}1, -0.25, 1e-3]", ColumnKind.BOX),
        ("face_x", lambda row: row % 9, ColumnKind.BOX),
        ("img_h", lambda row: 300 + row % 3, ColumnKind.SIZE),
        ("ImageLength", lambda row: 300 + row % 3, ColumnKind.SIZE),
        ("FileSize", lambda row: f"{row % 9} kB", ColumnKind.SIZE),
        ("video", lambda row: f"video_{row % 3}", ColumnKind.IDENTIFIER),
        ("frame", lambda row: row % 5 * 10, ColumnKind.IDENTIFIER),
        ("annotator", lambda row: ("anna", "ben", "carl")[row % 3], ColumnKind.IDENTIFIER),
        ("user_login", lambda row: ("anna", "ben", "carl")[row % 3], ColumnKind.IDENTIFIER),
        ("Patientennummer", lambda row: 1000 + row // 4 * 13, ColumnKind.IDENTIFIER),
        ("license", lambda row: ("CC BY", "CC0")[row % 2], ColumnKind.RIGHTS),
        ("location", lambda row: ("Rome, Italy", "Hospital A, Wuhan, China")[row % 2], ColumnKind.PLACE),
        ("meta", lambda row: f'{{"a": {row % 2}}}', ColumnKind.NESTED),
        ("polygon", lambda row: f"[[1, 2], [{row % 2}, 4]]", ColumnKind.NESTED),
        (
            "comment",
            lambda row: f"text {row % 11}, of a length that no name of a class has" * (row < 3),
            ColumnKind.TEXT,
        ),
        ("usage", lambda row: ("Training", "PublicTest")[row % 2], ColumnKind.SPLIT),
        ("subset", lambda row: ("train2017", "val2017")[row % 2], ColumnKind.SPLIT),
        ("part", lambda row: ("tr", "te")[row % 2], ColumnKind.SPLIT),
        ("group", lambda row: f"fold{row % 5}", ColumnKind.SPLIT),
        ("Fold_5", lambda row: row % 5, ColumnKind.SPLIT),
        ("tfrecord", lambda row: row % 5, ColumnKind.SPLIT),
        ("is_training_img", lambda row: row % 2, ColumnKind.SPLIT),
        ("service_test", lambda row: row % 2 == 0, ColumnKind.SPLIT),
        ("is_train", lambda row: row % 3 == 0, ColumnKind.SPLIT),
        ("fold", lambda row: row % 5, ColumnKind.SPLIT),
        ("same", lambda row: "x", ColumnKind.CONSTANT),  # noqa: ARG005
        ("none", lambda row: "", ColumnKind.EMPTY),  # noqa: ARG005
    ],
)
def test_bookkeeping_is_left_out(name: str, cell: object, kind: ColumnKind, rows: int) -> None:
    assert callable(cell)
    cells = [str(cell(row)) or None for row in range(rows)]
    files = [f"sub/photo{row}.png" for row in range(rows)]
    found = infer_column(name, cells, (name, "file_name"), files)
    assert found.left_out is not None, found
    assert found.kind == kind, found


@pytest.mark.parametrize(
    ("name", "values", "kind"),
    [
        ("smile", (0, 1), ColumnKind.BINARY),
        ("smile", ("true", "false"), ColumnKind.BINARY),
        ("smile", ("0.0", "1.0"), ColumnKind.BINARY),
        ("smile", (0, 1, "1.0", "True", "false"), ColumnKind.BINARY),
        ("left", (0, 1), ColumnKind.BINARY),
        ("test", ("positive", "negative"), ColumnKind.BINARY),
        ("grade", (0, 1, 2, 3, 4), ColumnKind.CATEGORICAL),
        ("age", ("0-2", "3-9", "10-19", "20-29"), ColumnKind.CATEGORICAL),
        ("stage", ("T1", "T2", "T3", "T4"), ColumnKind.CATEGORICAL),
        ("diagnosis", ("melanoma", "no finding", "actinic keratosis"), ColumnKind.CATEGORICAL),
        ("class_id", (3, 17, 42, 101), ColumnKind.CATEGORICAL),
        ("site", ("a/b", "c", "d"), ColumnKind.CATEGORICAL),
        ("label", ("/m/01g317", "/m/0k4j", "/m/04bcr3"), ColumnKind.CATEGORICAL),
        ("synset", ("n02084071", "n02121620", "n01503061", "n01674464"), ColumnKind.CATEGORICAL),
        ("width", ("a", "b", "c"), ColumnKind.CATEGORICAL),
        ("y", (0, 1, 2), ColumnKind.CATEGORICAL),
        ("edema", ("0.0", "1.0", "-1.0"), ColumnKind.CATEGORICAL),
        ("age", ("(25, 32)", "(38, 43)", "(48, 53)"), ColumnKind.CATEGORICAL),
        ("finding", ("Pneumonia/Viral/A", "Pneumonia/Viral/B", "Pneumonia/Bacterial/C"), ColumnKind.CATEGORICAL),
        ("site", ("head/neck", "palms/soles", "oral/genital", "arm/leg", "back/chest", "a/b"), ColumnKind.CATEGORICAL),
        ("score", ("1/3", "2/3", "3/3"), ColumnKind.CATEGORICAL),
        ("crop", (0, 1, 2, 3), ColumnKind.CATEGORICAL),
        ("landmark_id", (0, 1, 2, 3), ColumnKind.CATEGORICAL),
        ("taxon_id", (7, 8, 9, 10), ColumnKind.CATEGORICAL),
        ("location", ("arm", "leg", "back"), ColumnKind.CATEGORICAL),
        ("video", ("sport", "news", "film"), ColumnKind.CATEGORICAL),
    ],
)
@pytest.mark.parametrize("rows", [24, 300])
def test_labels_are_tasks(name: str, values: Sequence[object], kind: ColumnKind, rows: int) -> None:
    found = infer_column(name, repeated(values, rows), (name, "file_name"))
    assert (found.left_out, found.kind) == (None, kind)


def test_names_mean_what_the_other_names_say() -> None:
    truth, heights = repeated((0, 1), 24), repeated((160, 170, 180), 24)
    assert infer_column("train", truth, ("train", "smile")).left_out is not None
    assert infer_column("train", truth, ("train", "bus", "Car")).left_out is None
    assert infer_column("Height", heights, ("Width", "Height")).kind == ColumnKind.SIZE
    assert infer_column("height", heights, ("weight", "height")).left_out is None
    assert infer_column("Rows", heights, ("Rows", "Columns")).kind == ColumnKind.SIZE
    assert infer_column("rows", heights, ("rows", "smile")).left_out is None


def test_free_text_is_no_list_of_labels() -> None:
    words = ("mild fever after day two", "fever after effusion and cough", "cough and mild effusion day", "fever day")
    assert infer_column("notes", repeated(words, 4)).advice == ""


def test_whole_numbers_with_many_values_are_offered_bins() -> None:
    ages = [str(RNG.randint(0, 116)) for _ in range(1000)]
    found = infer_column("age", ages)
    assert (found.kind, found.left_out, found.advice) == (ColumnKind.WHOLE, None, "--bins age=quantiles:5")
    few = infer_column("age", ages[:60])
    assert few.left_out is not None
    assert few.advice == "--bins age=quantiles:5"


def test_the_user_overrules_what_is_inferred(tmp_path: Path) -> None:
    rows = "".join(f"{row}.png,{row % 2},P{row // 2:04}\n" for row in range(12))
    path = write(tmp_path, "file_name,smile,who\n" + rows)
    labels = read_label_file(path)
    assert labels.table.tasks.names == ("smile", "who")
    assert labels.usual_tasks.names == ("smile",)
    declared = LabelOptions(declarations=parse_declarations(["who=categorical"]))
    assert read_label_file(path, declared).usual_tasks.names == ("smile", "who")


def test_what_nothing_can_be_learned_from_is_said_with_its_reason(tmp_path: Path) -> None:
    rows = "".join(f"{row}.png,https://example.org/{row},{row}\n" for row in range(8))
    faults = faults_of(write(tmp_path, "file_name,url,at\n" + rows))
    assert "column 'url' holds addresses" in faults
    assert "column 'at' numbers the rows" in faults


def test_formats_of_their_own_hold_tasks_alone(tmp_path: Path) -> None:
    names = [f"{row + 20}_{row % 2}_{row % 5}_2017010{row}.jpg" for row in range(9)]
    options = LabelOptions(LabelFormat.UTKFACE)
    assert read_label_file(tmp_path, options, image_names=names).usual_tasks.names == ("age", "gender", "race")


def test_quantiles_make_classes_of_about_equal_size(tmp_path: Path) -> None:
    from mtlue_cli.tasks.bins import edges_of, parse_bins

    rows = "".join(f"{row}.png,{row * 2},{row / 8}\n" for row in range(20))
    path = write(tmp_path, "file_name,age,score\n" + rows)
    labels = read_label_file(path, LabelOptions(bins=parse_bins(["age=quantiles:4", "score=quantiles:2"])))
    assert labels.table.tasks["age"].classes == ("0-8", "9-18", "19-28", "29+")
    assert labels.table.columns["age"].tolist() == [row // 5 for row in range(20)]
    assert set(labels.table.tasks["score"].classes) == {"<=1.125", ">1.125"}
    assert [str(bins) for bins in labels.bins] == ["age=8,18,28", "score=1.125"]
    assert [edges_of(labels.table.tasks[name].classes) for name in ("age", "score")] == [("8", "18", "28"), ("1.125",)]
    with pytest.raises(InputError) as caught:
        parse_bins(["age=quantiles:1", "age=quantiles:x", "a=quantiles:3", "a=2"])
    assert len(caught.value.faults) == 3
    assert "too few different numbers" in faults_of(
        write(tmp_path, "file_name,age\na.png,3\nb.png,3\n"), bins=parse_bins(["age=quantiles:4"])
    )


def test_missing_values_are_numbers_in_any_spelling_and_those_that_match_nothing_are_noted(tmp_path: Path) -> None:
    path = write(tmp_path, "file_name,edema,site\na.png,0,x\nb.png,-1.0,NA\nc.png,1,y\nd.png,-1,x\n")
    labels = read_label_file(path, LabelOptions(missing_values=("-1", "na", "??")), for_learning=False)
    assert labels.table.columns["edema"].tolist() == [0, -1, 1, -1]
    assert labels.notes == (
        "column 'site' has the class 'NA' (row 3); if that means no label, add --missing-value NA",
        "--missing-value na matches no cell; the labels spell it 'NA'",
        "--missing-value ?? matches no cell",
    )


@pytest.mark.parametrize(
    ("classes", "found"),
    [
        (("0", "1", "-1"), ["-1"]),
        (("0.0", "1.0", "-1.0"), ["-1.0"]),
        (("-1", "1"), []),
        (("0", "1", "2", "-9", "UNK"), ["-9", "UNK"]),
        (("0", "1", "0.5", "-1"), []),
        (("a", "Unknown", "n/a"), ["Unknown", "n/a"]),
        (("1", "2", "inf"), ["inf"]),
    ],
)
def test_what_may_stand_for_no_label(classes: tuple[str, ...], found: list[str]) -> None:
    assert likely_missing(classes) == found


def test_spellings_of_one_class() -> None:
    assert meaning("0") == meaning("0.0") == meaning("False") == meaning("+0")
    assert meaning("no  finding") == meaning("no finding") != meaning("No finding")
    assert folded("Male") == folded("male")
    assert respelled(["0.0", "TRUE", "x", "Male"], ["0", "1", "male", "y"]) == {"0.0": "0", "TRUE": "1", "Male": "male"}
    assert respelled(["F", "yes", "x"], ["Female", "Male"]) == {"F": "Female"}
    assert respelled(["yes", "no"], ["0", "1"]) == {"yes": "1", "no": "0"}
    assert respelled(["yes", "m", "2"], ["0", "1", "2", "n"]) == {}


def test_whole_numbers_beyond_floating_point_are_not_one_class() -> None:
    assert meaning(str(2**60)) != meaning(str(2**60 + 1))


@pytest.mark.parametrize(
    ("classes", "found"),
    [
        (("M", "Male", "F", "female"), [["M", "Male"], ["F", "female"]]),
        (("Y", "Yes", "n"), [["Y", "Yes"]]),
        (("yes", "1", "0"), [["yes", "1"]]),
        (("y", "1", "n", "0", "x"), []),
        (("yes", "no"), []),
    ],
)
def test_abbreviations_may_be_one_class(classes: tuple[str, ...], found: list[list[str]]) -> None:
    assert abbreviated(classes) == found


def test_ranges_that_a_spreadsheet_made_dates_are_noted(tmp_path: Path) -> None:
    text = "file_name,age\na.png,20-29\nb.png,Oct-19\nc.png,3-Sep\n"
    (note,) = read_label_file(write(tmp_path, text)).notes
    assert note == (
        "column 'age' has the class '3-Sep', 'Oct-19' (row 4) beside ranges: a spreadsheet makes such dates of 10-19 "
        "or 3-9; write the ranges again"
    )


def test_a_decimal_comma_is_named_by_bins(tmp_path: Path) -> None:
    from mtlue_cli.tasks.bins import parse_bins

    path = write(tmp_path, "file_name;size\na.png;1,5\nb.png;2,5\nc.png;3\n")
    assert "; '1,5' is none, write a decimal point" in faults_of(path, bins=parse_bins(["size=quantiles:2"]))
    assert "'1,5' is not a number, and --bins sorts numbers; write a decimal point" in faults_of(
        path, bins=parse_bins(["size=2.0"])
    )


def test_case_alone_is_noted(tmp_path: Path) -> None:
    labels = read_label_file(write(tmp_path, "file_name,sex\na.png,male\nb.png,Male\nc.png,female\n"))
    assert labels.notes == (
        "column 'sex' has classes that differ in upper and lower case alone: 'Male', 'male'; they count as different, "
        "use one spelling if they are one",
    )


@pytest.mark.parametrize(
    ("option", "cells", "header"),
    [
        ("tags", ("smile|hat", "hat", "", "smile"), ("hat", "smile")),
        ("tags:;", ("smile;hat", "hat", "", "smile"), ("hat", "smile")),
        ("tags", ("smile hat", "hat", "", "smile"), ("hat", "smile")),
        ("tags:space", ("smile  hat", "hat", "", "smile"), ("hat", "smile")),
        ("tags", ("\"['smile', 'hat']\"", "['hat']", "", "[smile]"), ("hat", "smile")),
        ("tags", ("1|0", "0", "", "1"), ("tags:0", "tags:1")),
        ("tags", ("cat (wild)|dog", "cat (wild)", "", "dog"), ("cat (wild)", "dog")),
    ],
)
def test_lists_of_labels_are_a_binary_task_a_label(
    tmp_path: Path, option: str, cells: tuple[str, ...], header: tuple[str, ...]
) -> None:
    text = "file_name,tags,t\n" + "".join(f"{row}.png,{cell},{row % 2}\n" for row, cell in enumerate(cells))
    labels = read_label_file(write(tmp_path, text), LabelOptions(multi_labels=parse_multi_labels([option])))
    first, second = header
    assert labels.header == ("file_name", *header, "t")
    assert cells_of(labels) == {
        "0.png": {first: "1", second: "1", "t": "0"},
        "1.png": {first: "1", second: "0", "t": "1"},
        "2.png": {first: None, second: None, "t": "0"},
        "3.png": {first: "0", second: "1", "t": "1"},
    }
    assert str(parse_multi_labels([option])[0]) in (option, "tags: ")
    assert f"column 'tags' lists labels: 2 binary tasks, '{first}', '{second}'" in labels.notes


@pytest.mark.parametrize(
    "cells",
    [("[1, 0]", "[0, 1]"), ("1|0", "0|1"), ("1 0", "0 1"), ("[1. 0.]", "[0. 1.]"), ("[True, False]", "[False, True]")],
)
def test_lists_of_0_and_1_are_a_task_a_position(tmp_path: Path, cells: tuple[str, str]) -> None:
    first, second = cells
    path = write(tmp_path, f'file_name,v,t\na.png,"{first}",0\nb.png,"{second}",1\nc.png,,1\n')
    assert looks_like_lists(cells) is not None
    labels = read_label_file(path, LabelOptions(multi_labels=parse_multi_labels(["v"])))
    assert cells_of(labels) == {
        "a.png": {"v:0": "1", "v:1": "0", "t": "0"},
        "b.png": {"v:0": "0", "v:1": "1", "t": "1"},
        "c.png": {"v:0": None, "v:1": None, "t": "1"},
    }
    assert "column 'v' holds 0 or 1 for each position: 2 binary tasks, 'v:0', 'v:1'" in labels.notes


def test_odd_labels_of_lists_are_noted(tmp_path: Path) -> None:
    cells = ["hat|Hat", "None", *(f"t{row}|hat" for row in range(11))]
    text = "file_name,tags\n" + "".join(f"{row}.png,{cell}\n" for row, cell in enumerate(cells))
    notes = read_label_file(write(tmp_path, text), LabelOptions(multi_labels=parse_multi_labels(["tags"]))).notes
    assert notes[:3] == (
        "column 'tags' lists labels that are likely to be one: 'Hat', 'hat'; each is a task of its own, use one "
        "spelling if they are one",
        "column 'tags' lists the label 'None'; if a cell of that means no label, add --missing-value None",
        "column 'tags' lists 13 labels of one image each, such as 'Hat': is it free text? "
        "Leave tasks out with --except",
    )


def test_cells_that_look_like_lists_are_noted(tmp_path: Path) -> None:
    cells = ("smile|hat", "smile", "hat", "hat|smile", "smile|hat")
    text = "file_name,tags\n" + "".join(f"{row}.png,{cell}\n" for row, cell in enumerate(cells))
    (note,) = read_label_file(write(tmp_path, text)).notes
    assert note == "column 'tags' looks like lists of labels: --multi-label tags makes a task of each label"
    assert looks_like_lists(["dark", "light", "No Finding"]) is None
    assert looks_like_lists(["a b c", "a b", "c"]) == " "
    assert looks_like_lists(["smile, hat", "hat", "smile"]) == ","
    assert looks_like_lists(["smile/hat", "hat", "head/neck"]) is None
    assert infer_column("tags", repeated(["smile/hat", "hat", "smile"], 12)).advice == "--multi-label tags:/"
    assert labels_of("a;b;;a", ";") == ["a", "b"]
    assert "--multi-label other: there is no column 'other'" in faults_of(
        write(tmp_path, text), multi_labels=parse_multi_labels(["other"])
    )


@pytest.mark.parametrize(
    ("given", "known", "expected"),
    [
        (("width", "height"), ("width, height", "sex"), ("width, height",)),
        (("width", "height"), ("width,height", "width", "height"), ("width", "height")),
        (("sex", "width", "height", "x"), ("width, height", "sex"), ("sex", "width, height", "x")),
        (("a", "b", "c"), ("a, b", "a, b, c"), ("a, b, c",)),
        (("width, height",), ("width, height",), ("width, height",)),
    ],
)
def test_a_name_that_holds_a_comma_is_put_together(
    given: tuple[str, ...], known: tuple[str, ...], expected: tuple[str, ...]
) -> None:
    assert resolved_names(given, known) == expected


@pytest.mark.parametrize(
    "text",
    [
        "file_name,t,,,\n0.png,a,,,\n1.png,b,,,\n,,,,\n",
        "file_name,t,,\n0.png,a\n1.png,b,\n",
        "file_name,t\n0.png,a,,\n1.png,b\n",
        ",file_name,t\n0,0.png,a\n1,1.png,b\n",
        "file_name,,t\n0.png,,a\n1.png,,b\n",
    ],
)
def test_columns_without_a_name_are_left_out(tmp_path: Path, text: str) -> None:
    labels = read_label_file(write(tmp_path, text))
    assert labels.header == ("file_name", "t")
    assert cells_of(labels) == {"0.png": {"t": "a"}, "1.png": {"t": "b"}}


def test_a_row_of_another_length_is_a_fault_beside_columns_without_a_name(tmp_path: Path) -> None:
    faults = faults_of(write(tmp_path, ",file_name,t\n0,0.png,a\n1,1.png\n2,2.png,a,b\n3,3.png,b\n"))
    assert "row 3: 2 cells, expected 3" in faults
    assert "row 4: 4 cells, expected 3" in faults


def test_a_nested_column_is_left_out_with_one_line(tmp_path: Path) -> None:
    rows = "".join(
        f'{{"file_name": "{row}.png", "t": {row % 2}, "tags": ["a", "b"], "objects": {{"bbox": [[1, 2]]}}}}\n'
        for row in range(4)
    )
    labels = read_label_file(write(tmp_path, rows, "metadata.jsonl"))
    assert labels.header == ("file_name", "t", "tags")
    assert cells_of(labels)["0.png"] == {"t": "0", "tags": "a|b"}
    (nested,) = [column for column in labels.columns if column.kind == ColumnKind.NESTED]
    assert nested.fault.startswith("column 'objects' holds an object (row 1), expected text")


def test_the_table_says_what_becomes_of_each_column(tmp_path: Path) -> None:
    rows = "".join(f"{row}.png,{row % 2 if row else ''},{row * 1.5}\n" for row in range(8))
    labels = read_label_file(write(tmp_path, "file_name,smile,score\n" + rows))
    uses = column_uses(labels, labels.usual_tasks.names)
    assert overview_lines(uses, "protected") == [
        "column  kind            classes (images)                            use",
        "smile   binary          1 (4), 0 (3); none (1)                      protected",
        "score   decimal number  0.0 (1), 1.5 (1), 3.0 (1), 4.5 (1), 4 more  left out: it holds decimal numbers, which "
        "become classes only with --bins",
        "to read a column differently: --bins score=quantiles:5",
        "the release holds the columns that are left out too: remove what you do not want to publish",
        "to choose the columns yourself, list all of them with --tasks A,B, or add one with --task NAME=categorical",
    ]
    assert uses[0].to_json() == {
        "name": "smile",
        "kind": "binary",
        "classes": {"1": 4, "0": 3},
        "num_classes": 2,
        "unlabelled": 1,
        "used": True,
        "reason": "",
        "advice": "",
    }


def test_lists_of_a_json_file_keep_their_labels_whole(tmp_path: Path) -> None:
    rows: tuple[list[str], ...] = (
        ["golden retriever"],
        ["great dane"],
        [],
        ["great dane", "saber (fate)"],
        ["saber (fate)"],
    )
    text = "".join(json.dumps({"file_name": f"{row}.png", "tags": tags}) + "\n" for row, tags in enumerate(rows))
    path = tmp_path / "labels.jsonl"
    path.write_text(text)
    labels = read_label_file(path, LabelOptions(multi_labels=parse_multi_labels(["tags"])))
    assert labels.table.tasks.names == ("golden retriever", "great dane", "saber (fate)")
    assert cells_of(labels)["3.png"] == {"golden retriever": "0", "great dane": "1", "saber (fate)": "1"}


def test_a_list_of_lists_is_no_label(tmp_path: Path) -> None:
    path = tmp_path / "labels.jsonl"
    lines = ({"file_name": f"{row}.png", "t": row % 2, "boxes": [[1, 2], [3, row]]} for row in range(4))
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    labels = read_label_file(path)
    assert labels.table.tasks.names == ("t",)
    assert any("holds a list of lists or objects (row 1)" in str(column.fault) for column in labels.columns)
