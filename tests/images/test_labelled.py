from pathlib import Path

import pytest

from mtlue_cli.choices import LabelFormat
from mtlue_cli.errors import InputError
from mtlue_cli.images.labelled import find_labels, read_folder_labels
from mtlue_cli.tasks.label_options import LabelOptions


@pytest.mark.parametrize("name", ["metadata.csv", "metadata.jsonl", "metadata.parquet"])
def test_metadata_beside_the_images_is_found(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    assert find_labels(tmp_path) == tmp_path / name


def test_several_or_no_label_files_are_not_guessed_at(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        find_labels(tmp_path)
    assert "--label-format utkface" in str(caught.value.hint)
    (tmp_path / "labels.csv").touch()
    with pytest.raises(InputError) as caught:
        find_labels(tmp_path)
    assert caught.value.hint == f"give --labels {tmp_path / 'labels.csv'}"
    for name in ("metadata.csv", "metadata.jsonl"):
        (tmp_path / name).touch()
    with pytest.raises(InputError, match=r"metadata\.csv, metadata\.jsonl"):
        find_labels(tmp_path)


def test_labels_in_file_names_come_from_the_folder(tmp_path: Path) -> None:
    (tmp_path / "26_1_3_20170116.jpg").touch()
    (tmp_path / "readme.txt").touch()
    assert find_labels(tmp_path, LabelFormat.UTKFACE) == tmp_path
    labels = read_folder_labels(tmp_path, tmp_path, LabelOptions(LabelFormat.UTKFACE), for_learning=False)
    assert labels.table.file_names == ("26_1_3_20170116.jpg",)
    assert labels.notes == ()


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
