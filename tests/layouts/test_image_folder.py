"""A folder per class: the release is loaded by torchvision and by ``datasets``."""

import json
from pathlib import Path

import pytest
from torchvision.datasets import ImageFolder

from mtlue_cli.choices import ExitCode, LabelFormat
from mtlue_cli.errors import InputError
from mtlue_cli.images.labelled import read_folder_labels
from mtlue_cli.release.records import read_manifest
from mtlue_cli.tasks.label_options import LabelOptions
from tests.layouts.sample import draw, hub_rows, mtlue, pixels_differ, protect, weights_for
from tests.tasks.label_files import cells_of

NAMES = ("cat/1.jpg", "cat/2.png", "dog/1.jpg", "fox/1.jpg")
CLASSES = ("cat", "dog", "fox")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    draw(tmp_path / "photos", *NAMES)
    return tmp_path / "photos"


def rows(found: ImageFolder) -> list[tuple[str, str]]:
    root = Path(found.root)
    stems = [Path(path).relative_to(root).with_suffix("").as_posix() for path, _ in found.samples]
    return [(stem, found.classes[index]) for stem, (_, index) in zip(stems, found.samples, strict=True)]


def test_torchvision_and_datasets_load_the_release(photos: Path, tmp_path: Path) -> None:
    release, said = protect(photos, weights_for(tmp_path, label=CLASSES))
    assert f"labels: a folder per class in {photos} (--label-format imagefolder)" in said
    assert "column 'label' is the folder of each image: cat (2), dog (1), fox (1)" in said
    before, after = ImageFolder(str(photos)), ImageFolder(str(release))
    assert (after.classes, after.class_to_idx) == (before.classes, before.class_to_idx)
    assert rows(after) == rows(before)
    for (original, _), (image, _) in zip(before.samples, after, strict=True):
        assert pixels_differ(Path(original), image)
    sets = [
        hub_rows("imagefolder", tmp_path / f"{folder.name}-cache", data_dir=str(folder)) for folder in (photos, release)
    ]
    assert sets[0].features == sets[1].features
    assert sets[0]["label"] == sets[1]["label"]


def test_the_records_stand_beside_the_release(photos: Path, tmp_path: Path) -> None:
    weights = weights_for(tmp_path, label=CLASSES)
    release, _ = protect(photos, weights)
    assert (release / ".mtlue").read_text() == "photos-protected.mtlue\n"
    assert sorted(path.name for path in release.iterdir()) == [".mtlue", "cat", "dog", "fox", "labels.csv"]
    assert {record.file_name for record in read_manifest(release).files} == {
        *("cat/1.png", "cat/2.png", "dog/1.png", "fox/1.png")
    }
    mtlue("inspect", release, "--against", photos)
    again = mtlue("protect", photos, "--weights", weights, "--device", "cpu")
    assert "0 protected, 4 already done" in again.stdout
    # A release is recognised as one, so that it is not protected twice.
    twice = mtlue("protect", release, "--weights", weights, "--out", tmp_path / "twice", code=ExitCode.INPUT)
    assert "protected already" in twice.stderr
    verified = mtlue("verify", photos, "--protected", release, "--dry-run", "--tier", "smoke", "--size", "16")
    assert "label" in verified.stdout
    draw(tmp_path / "test", *NAMES)
    words = ("--test", tmp_path / "test", "--dry-run", "--tier", "smoke", "--size", "16", "--json", "-", "--quiet")
    planned = json.loads(mtlue("verify", photos, "--protected", release, *words).stdout)
    assert planned["train_images"] == len(NAMES)  # none is held out
    records = tmp_path / "photos-protected.mtlue"
    records.rename(tmp_path / "lost")
    lost = mtlue("inspect", release, code=ExitCode.INPUT)
    assert "photos-protected.mtlue/run.json is missing" in " ".join(lost.stderr.split())
    (tmp_path / "lost").rename(records)
    moved = tmp_path / "moved"
    release.rename(moved)  # the file in it still names its records
    mtlue("inspect", moved)
    refused = mtlue("protect", photos, "--weights", weights, code=ExitCode.INPUT)
    assert "photos-protected.mtlue is there already" in " ".join(refused.stderr.split())
    for elsewhere in ("../elsewhere", "photos", ".mtlue"):
        (moved / ".mtlue").write_text(f"{elsewhere}\n")
        assert "is damaged" in mtlue("inspect", moved, code=ExitCode.INPUT).stderr


def test_levels_of_folders_are_tasks_on_request(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    draw(photos, "france/paris/1.jpg", "france/lyon/2.jpg", "italy/rome/3.jpg", "italy/4.jpg", "5.jpg")

    def read(*levels: str) -> dict[str, dict[str, str | None]]:
        options = LabelOptions(LabelFormat.IMAGEFOLDER, levels=levels)
        return cells_of(read_folder_labels(photos, photos, options, for_learning=False))

    both = read("country", "city")
    assert both["france/paris/1.jpg"] == {"country": "france", "city": "paris"}
    assert both["italy/4.jpg"] == {"country": "italy", "city": None}
    assert "5.jpg" not in both
    assert read("-", "city")["italy/rome/3.jpg"] == {"city": "rome"}
    with pytest.raises(InputError, match="1 to 2 folders deep") as caught:
        read()
    assert "--levels country,city" in str(caught.value.hint)
    words = ("--label-format", "imagefolder", "--levels", "country,city")
    weights = weights_for(tmp_path, country=("france", "italy"), city=("lyon", "paris", "rome"))
    release, said = protect(photos, weights, *words)
    assert "5.jpg" in said
    saved = (release / "labels.csv").read_text().splitlines()
    assert saved[:2] == ["file_name,country,city", "france/lyon/2.png,france,lyon"]
    assert ImageFolder(str(release)).classes == ["france", "italy"]


def test_a_class_that_is_a_link_is_named(photos: Path, tmp_path: Path) -> None:
    draw(tmp_path / "elsewhere", "1.jpg")
    (photos / "bear").symlink_to(tmp_path / "elsewhere")
    release, said = protect(photos, weights_for(tmp_path, label=CLASSES))
    assert "1 link to a folder not followed, what is in it is left out: bear" in " ".join(said.split())
    assert not (release / "bear").exists()


def test_a_class_called_as_the_label_file_is_refused_before_work_starts(photos: Path, tmp_path: Path) -> None:
    (photos / "fox").rename(photos / "labels.csv")
    weights = weights_for(tmp_path, label=("cat", "dog", "labels.csv"))
    release, said = protect(photos, weights, code=ExitCode.INPUT)
    assert "where the release has its label file" in " ".join(said.split())
    assert not release.exists()
