"""The sides of a verification, as its labels divide them."""

from pathlib import Path

import pytest

from mtlue_cli.errors import InputError
from mtlue_cli.images.labelled import read_folder_labels
from mtlue_cli.tasks.label_options import LabelOptions
from mtlue_cli.workflows.verify.config import VerifyConfig
from mtlue_cli.workflows.verify.images import read_test_side
from mtlue_cli.workflows.verify.plan import plan_verification, settings_to_json
from tests.tasks.label_files import write

ROWS = "file_name,t\na.jpg,x\nb.jpg,y\nc.jpg,z\nd.jpg,x\n"


@pytest.fixture
def config(tmp_path: Path) -> VerifyConfig:
    for name in "abcd":
        (tmp_path / f"{name}.jpg").touch()
    split = write(tmp_path, "a.jpg 0\nb.jpg 0\nc.jpg 2\nd.jpg 1\n", "list_eval_partition.txt")
    return VerifyConfig(tmp_path, write(tmp_path, ROWS), weights="w", reading=LabelOptions(split_file=split))


def test_a_split_gives_both_sides_the_same_classes(config: VerifyConfig) -> None:
    train = read_folder_labels(config.clean, config.labels, config.reading, for_learning=False)
    assert train.table.file_names == ("a.jpg", "b.jpg")
    assert train.other_parts == {"c.jpg", "d.jpg"}
    test = read_test_side(config, train.table)
    assert test is not None
    assert test.folder == config.clean
    assert test.table.file_names == ("c.jpg",)
    assert test.table.class_name("t", 0) == "z"
    assert config.has_own_test


def test_a_split_is_of_the_clean_images_alone(config: VerifyConfig, tmp_path: Path) -> None:
    assert config.whole_reading == LabelOptions()
    other = tmp_path / "other"
    other.mkdir()
    (other / "e.jpg").touch()
    labels = write(other, "file_name,t\ne.jpg,q\n")
    own = VerifyConfig(config.clean, config.labels, weights="w", test=other, test_labels=labels, reading=config.reading)
    train = read_folder_labels(own.clean, own.labels, own.reading, for_learning=False).table
    with pytest.raises(InputError) as caught:
        read_test_side(own, train)
    assert caught.value.faults == ("column 't' has unknown classes 'q' (row 2); known: 'x', 'y', 'z'",)


def test_how_labels_are_read_is_recorded(config: VerifyConfig) -> None:
    recorded = settings_to_json(config, plan_verification(config))["reading"]
    assert recorded["split"] == "train"
    assert recorded["split_file"] == str(config.reading.split_file)
    assert recorded["bins"] == []
