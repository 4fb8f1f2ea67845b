"""Presets: a table in its owners' form is read by name, and the release has it again."""

from pathlib import Path

import pytest

from mtlue_cli.choices import ExitCode, Uncertain
from mtlue_cli.errors import InputError
from mtlue_cli.images.labelled import read_folder_labels
from mtlue_cli.layouts.find import find_labels
from mtlue_cli.tasks.bins import parse_bins
from mtlue_cli.tasks.label_options import LabelOptions
from mtlue_cli.tasks.labels import LabelFile, read_label_file
from mtlue_cli.tasks.presets.preset import load_preset, preset_names
from tests.layouts.sample import draw, mtlue, protect, weights_for
from tests.tasks.label_files import cells_of

CHEXPERT = """Path,Sex,Age,Frontal/Lateral,AP/PA,No Finding,Cardiomegaly,Edema,Support Devices
CheXpert-v1.0-small/train/patient00001/study1/view1_frontal.jpg,Female,68,Frontal,AP,1.0,,-1.0,1.0
CheXpert-v1.0-small/train/patient00002/study2/view1_frontal.jpg,Female,87,Frontal,AP,,0.0,1.0,-1.0
CheXpert-v1.0-small/train/patient00002/study2/view2_lateral.jpg,Male,83,Lateral,,,1.0,0.0,
"""
FIRST = "train/patient00001/study1/view1_frontal.jpg"
SECOND, THIRD = (f"train/patient00002/study2/view{view}.jpg" for view in ("1_frontal", "2_lateral"))


def read(path: Path, preset: str, uncertain: Uncertain | None = None) -> LabelFile:
    return read_label_file(path, LabelOptions(preset=load_preset(preset), uncertain=uncertain), for_learning=False)


@pytest.fixture
def chexpert(tmp_path: Path) -> Path:
    folder = tmp_path / "CheXpert-v1.0-small"
    draw(folder, FIRST, SECOND, THIRD)
    (folder / "train.csv").write_text(CHEXPERT)
    return folder


def test_chexpert_and_its_uncertain_cells(chexpert: Path) -> None:
    labels = read(chexpert / "train.csv", "chexpert")
    assert labels.table.tasks.names == ("No Finding", "Cardiomegaly", "Edema", "Support Devices")
    cells = cells_of(labels)
    assert cells[FIRST] == {"No Finding": "1", "Cardiomegaly": None, "Edema": None, "Support Devices": "1"}
    assert cells[THIRD] == {"No Finding": None, "Cardiomegaly": "1", "Edema": "0", "Support Devices": None}
    assert "2 cells -1.0|-1 (uncertain) read as unlabelled; --uncertain positive|negative changes that" in labels.notes
    assert "columns left out by the preset: 'Sex', 'Age', 'Frontal/Lateral', 'AP/PA'" in labels.notes
    for way, expected in ((Uncertain.POSITIVE, "1"), (Uncertain.NEGATIVE, "0")):
        cells = cells_of(read(chexpert / "train.csv", "chexpert", way))
        assert (cells[FIRST]["Edema"], cells[SECOND]["Support Devices"]) == (expected, expected)


def test_a_release_of_chexpert_has_its_table(chexpert: Path, tmp_path: Path) -> None:
    binary = ("0", "1")
    weights = weights_for(tmp_path, **{"Cardiomegaly": binary, "Edema": binary})
    words = ("--preset", "chexpert", "--uncertain", "negative", "--unlabelled", "protect")
    release, said = protect(chexpert, weights, *words, "--format", "keep")
    assert f"labels: {chexpert / 'train.csv'}" in said
    assert (release / "train.csv").read_text() == CHEXPERT
    assert (release / FIRST).is_file()
    labels = cells_of(read(release / "train.csv", "chexpert", Uncertain.NEGATIVE))
    assert labels == cells_of(read(chexpert / "train.csv", "chexpert", Uncertain.NEGATIVE))
    mtlue("inspect", release, "--against", chexpert)
    protect(chexpert, weights, *words, "--overwrite")
    assert (release / "train.csv").read_text() == CHEXPERT.replace(".jpg", ".png")


def test_the_folder_of_the_data_set_may_lie_in_the_image_folder(chexpert: Path, tmp_path: Path) -> None:
    binary = ("0", "1")
    parent, weights = chexpert.parent / "data", weights_for(tmp_path, Cardiomegaly=binary, Edema=binary)
    parent.mkdir()
    chexpert.rename(parent / chexpert.name)
    table = parent / chexpert.name / "train.csv"
    words = ("--labels", table, "--preset", "chexpert", "--uncertain", "negative", "--unlabelled", "protect")
    release, _ = protect(parent, weights, *words, "--format", "keep")
    assert (release / chexpert.name / FIRST).is_file()
    mtlue("inspect", release, "--against", parent)
    written = {str(file.relative_to(release)): file.read_text() for file in release.rglob("*.csv")}
    assert CHEXPERT in written.values(), written


def test_numbers_in_paths_may_be_saved_as_floating_point(tmp_path: Path) -> None:
    path = tmp_path / "mimic.csv"
    path.write_text("subject_id,study_id,dicom_id,Edema\n10000032.0,50414267.0,02aa804e,1.0\n")
    assert list(cells_of(read(path, "mimic-cxr"))) == ["files/p10/p10000032/s50414267/02aa804e.jpg"]


def test_a_column_that_the_preset_leaves_out_is_said_so(chexpert: Path) -> None:
    options = LabelOptions(preset=load_preset("chexpert"), bins=parse_bins(["Age=quantiles:2"]))
    with pytest.raises(InputError) as caught:
        read_label_file(chexpert / "train.csv", options)
    assert "--bins Age=quantiles:2: there is no column 'Age' among those of the preset chexpert" in caught.value.faults


def test_paths_are_made_of_several_cells(tmp_path: Path) -> None:
    path = tmp_path / "mimic.csv"
    path.write_text("subject_id,study_id,dicom_id,split,Edema,Pneumonia\n10000032,50414267,02aa804e,train,-1.0,0.0\n")
    labels = read(path, "mimic-cxr")
    assert cells_of(labels) == {"files/p10/p10000032/s50414267/02aa804e.jpg": {"Edema": None, "Pneumonia": "0"}}


@pytest.mark.parametrize(
    ("preset", "text", "expected"),
    [
        (
            "isic",
            "image,MEL,NV,UNK\nISIC_0000000,0.0,1.0,0.0\n",
            {"ISIC_0000000.jpg": {"MEL": "0", "NV": "1", "UNK": "0"}},
        ),
        (
            "odir",
            "ID,Patient Age,Patient Sex,Left-Fundus,N,D,filepath,labels,filename\n"
            "0,69,Female,0_left.jpg,0,1,../x,['N'],0_right.jpg\n",
            {"0_right.jpg": {"Patient Age": "60-69", "Patient Sex": "Female", "N": "0", "D": "1"}},
        ),
        (
            "fairface",
            "file,age,gender,race,service_test\ntrain/1.jpg,50-59,Male,East Asian,True\n",
            {"train/1.jpg": {"age": "50-59", "gender": "Male", "race": "East Asian"}},
        ),
    ],
)
def test_other_presets(tmp_path: Path, preset: str, text: str, expected: dict[str, dict[str, str]]) -> None:
    path = tmp_path / "labels.csv"
    path.write_text(text)
    assert cells_of(read(path, preset)) == expected


def test_a_table_that_makes_its_paths_keeps_its_cells(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    draw(photos, "a.jpg", "b.jpg")
    (photos / "truth.csv").write_text("image,MEL,NV\na,1.0,0.0\nb,0.0,1.0\n")
    weights = weights_for(tmp_path, MEL=("0", "1"), NV=("0", "1"))
    release, _ = protect(photos, weights, "--labels", photos / "truth.csv", "--preset", "isic", "--format", "keep")
    assert (release / "truth.csv").read_text() == (photos / "truth.csv").read_text()


def test_a_preset_of_ones_own(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    draw(photos, "faces/a.jpg", "faces/b.jpg")
    (photos / "all.csv").write_text("who,how,age\na,glad,10\nb,?,30\n")
    own = tmp_path / "own.toml"
    own.write_text(
        'title = "mine"\nfile = "faces/{who}.jpg"\nlabels = ["none.csv", "all.csv"]\ntasks = ["how", "age", "size"]\n'
        'missing_values = ["?"]\nbins = ["age=20", "size=3"]\n'
    )
    preset = load_preset(str(own))
    found = find_labels(photos, None, preset.labels)
    assert found == photos / "all.csv"
    labels = read_folder_labels(photos, found, LabelOptions(preset=preset), for_learning=False)
    assert cells_of(labels) == {
        "faces/a.jpg": {"how": "glad", "age": "0-20"},
        "faces/b.jpg": {"how": None, "age": "21+"},
    }
    assert "--preset" in LabelOptions(preset=preset).arguments(found)


def test_faults_of_a_preset_are_all_named(tmp_path: Path) -> None:
    own = tmp_path / "own.toml"
    own.write_text('file = "a.jpg"\ntasks = "t"\nbins = ["age=2,1"]\nodd = 1\n')
    with pytest.raises(InputError) as caught:
        load_preset(str(own))
    text = "\n".join(caught.value.faults)
    for part in ("title is missing", "tasks is 't', expected a list", "odd is not a key", "in braces", "must ascend"):
        assert part in text
    with pytest.raises(InputError) as caught:
        load_preset("chexprt")
    assert caught.value.hint == f"known: {', '.join(preset_names())}; or name a .toml file"


def test_a_table_that_a_preset_does_not_fit_is_refused(chexpert: Path) -> None:
    with pytest.raises(InputError, match="does not fit the preset fairface") as caught:
        read(chexpert / "train.csv", "fairface")
    assert caught.value.faults[0] == "column 'file' is missing: paths are made of it"
    lone = mtlue(
        "protect", chexpert, "--labels", chexpert / "train.csv", "--uncertain", "positive", code=ExitCode.INPUT
    )
    assert "--uncertain is for the uncertain cells of a --preset" in lone.stderr
    path = chexpert / "faces.csv"
    path.write_text("file,age\na.jpg,3-9\n")
    with pytest.raises(InputError, match="the preset fairface has no uncertain cells"):
        read(path, "fairface", Uncertain.POSITIVE)


def test_every_preset_is_valid() -> None:
    assert preset_names() == ["chexpert", "fairface", "isic", "mimic-cxr", "odir"]
    for name in preset_names():
        load_preset(name)
