from pathlib import Path

import pytest

from mtlue_cli.choices import LabelFormat
from mtlue_cli.errors import InputError
from mtlue_cli.images.labelled import read_folder_labels
from mtlue_cli.layouts.find import described, find_labels
from mtlue_cli.tasks.label_options import LabelOptions


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


@pytest.mark.parametrize("name", ["labels.csv", "metadata.csv", "metadata.jsonl", "metadata.parquet"])
def test_a_label_file_beside_the_images_is_found(tmp_path: Path, name: str) -> None:
    touch(tmp_path, name, "cat/a.jpg", "dog/b.jpg")
    assert find_labels(tmp_path) == tmp_path / name
    assert described(tmp_path / name) == f"labels: {tmp_path / name}"


def test_several_or_no_label_files_are_not_guessed_at(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        find_labels(tmp_path)
    assert "--label-format utkface|" in str(caught.value.hint)
    touch(tmp_path, "labels.tsv")
    with pytest.raises(InputError) as caught:
        find_labels(tmp_path)
    assert caught.value.hint == f"give --labels {tmp_path / 'labels.tsv'}"
    touch(tmp_path, "labels.csv", "metadata.jsonl")
    with pytest.raises(InputError, match=r"several label files: labels\.csv, metadata\.jsonl"):
        find_labels(tmp_path)
    (tmp_path / ".mtlue").mkdir()  # both are files of a release
    assert find_labels(tmp_path) == tmp_path / "labels.csv"


def test_label_files_of_folders_within_are_named(tmp_path: Path) -> None:
    touch(tmp_path, "train/metadata.csv", "train/a.jpg", "test/metadata.csv", "test/b.jpg")
    with pytest.raises(InputError, match=r"folders in it do: test/metadata\.csv, train/metadata\.csv") as caught:
        find_labels(tmp_path)
    assert str(tmp_path / "test") in str(caught.value.hint)


def test_labels_in_file_names_come_from_the_folder(tmp_path: Path) -> None:
    (tmp_path / "26_1_3_20170116.jpg").touch()
    (tmp_path / "readme.txt").touch()
    assert find_labels(tmp_path, LabelFormat.UTKFACE) == tmp_path
    labels = read_folder_labels(tmp_path, tmp_path, LabelOptions(LabelFormat.UTKFACE), for_learning=False)
    assert labels.table.file_names == ("26_1_3_20170116.jpg",)
    assert labels.notes == ()


def test_folders_are_taken_for_classes_only_where_there_is_no_doubt(tmp_path: Path) -> None:
    touch(tmp_path, "cat/1.jpg", "dog/1.jpg")
    assert find_labels(tmp_path) == tmp_path
    assert described(tmp_path) == f"labels: a folder per class in {tmp_path} (--label-format imagefolder)"


@pytest.mark.parametrize(
    ("names", "reason", "fix"),
    [
        (("train/1.jpg", "test/2.jpg"), "parts of a split", "such as the folder test"),
        (("train/cat/1.jpg", "val/cat/2.jpg"), "parts of a split", "such as the folder train"),
        (("images/1.jpg", "masks/1.png"), "are unlikely to be classes: 'images', 'masks'", "--labels"),
        (("cat/1.jpg", "dog/1.jpg", "2.jpg"), "1 image beside the folders", "--label-format imagefolder"),
        (("cat/1.jpg", "dog/old/1.jpg"), "folders within folders", "--levels country,city"),
        (("cat/1.jpg", "cat/2.jpg"), "all images lie in one folder", "--labels"),
    ],
)
def test_doubtful_folders_are_refused_with_the_fix(
    tmp_path: Path, names: tuple[str, ...], reason: str, fix: str
) -> None:
    touch(tmp_path, *names)
    with pytest.raises(InputError) as caught:
        find_labels(tmp_path)
    assert reason in str(caught.value)
    assert fix in str(caught.value.hint)


def test_the_column_whose_cells_are_files_of_the_folder_is_named(tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / f"{number}.jpg").touch()
    path = tmp_path / "labels.csv"
    path.write_text("image_id,path,gender\n" + "".join(f"id{n},{n}.jpg,{n % 2}\n" for n in range(3)))
    with pytest.raises(InputError, match="'image_id' does not hold the file names") as caught:
        read_folder_labels(tmp_path, path)
    assert caught.value.hint == "use --file-column path"
    # With a split file, most rows may have no file here.
    parts = tmp_path / "parts.txt"
    parts.write_text("".join(f"id{n} 0\n" for n in range(3)))
    labels = read_folder_labels(tmp_path, path, LabelOptions(split_file=parts), for_learning=False)
    assert labels.table.file_names == ("id0", "id1", "id2")
