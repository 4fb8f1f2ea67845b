"""CamVid as a user has it: its label file just works, and its masks reach the release."""

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest

from mtlue_cli.choices import ExitCode, TaskKind
from mtlue_cli.images.dataset import load_labels
from mtlue_cli.images.folder import match_labels
from mtlue_cli.images.labelled import read_folder_labels
from mtlue_cli.metrics.dense import dense_floor
from mtlue_cli.tasks.declared import parse_declarations
from mtlue_cli.tasks.label_options import LabelOptions
from mtlue_cli.tasks.spec import Task, TaskSet
from mtlue_cli.workflows.inspect import inspect_release
from mtlue_cli.workflows.progress import SilentProgress
from mtlue_cli.workflows.protect.config import ProtectConfig
from mtlue_cli.workflows.protect.run import protect_folder
from tests.small_set import write_checkpoint

STREETS = Path(__file__).parents[3] / "shared" / "data" / "camvid"
READING = LabelOptions(declarations=parse_declarations(["segmentation=segmentation:ignore=11"]))

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not STREETS.is_dir(), reason="the real images of ../shared/data are not here"),
]


@pytest.mark.parametrize(("part", "count"), [("train", 367), ("val", 101)])
def test_the_label_file_is_understood(part: str, count: int) -> None:
    folder = STREETS / part
    labels = read_folder_labels(folder, folder / "labels.csv", for_learning=part == "train")
    assert [task.kind.value for task in labels.table.tasks][1] == "segmentation"
    assert labels.table.tasks["segmentation"].num_classes == 12
    assert len(labels.table) == count
    assert match_labels(folder, labels.table).unlabelled == ()
    declared = read_folder_labels(folder, folder / "labels.csv", READING, for_learning=part == "train")
    assert declared.table.tasks["segmentation"].num_classes == 11
    assert [note.split(";")[0] for note in declared.notes] == [
        "column 'segmentation' is read as segmentation, 11 classes by number, ignoring 11"
    ]


def test_the_floor_of_its_masks_is_far_below_what_a_network_reaches() -> None:
    sides = []
    for part in ("train", "val"):
        folder = STREETS / part
        table = read_folder_labels(folder, folder / "labels.csv", READING, for_learning=False).table
        sides.append(load_labels(table, 64)["segmentation"])
    task = table.tasks["segmentation"]
    assert [tuple(side.shape) for side in sides] == [(367, 64, 64), (101, 64, 64)]
    assert np.unique(sides[0].numpy()).tolist() == list(range(-1, 11))
    floor, placed = (dense_floor(sides[0], sides[1], task, per_place=per_place) for per_place in (False, True))
    assert floor["miou"] < 0.05
    assert floor["miou"] < placed["miou"] < 0.4


def test_masks_reach_the_release_byte_for_byte(tmp_path: Path) -> None:
    folder = tmp_path / "streets"
    header, *rows = csv.reader((STREETS / "train" / "labels.csv").read_text().splitlines())
    chosen = rows[::30]
    for row in chosen:
        for name in (row[0], row[2]):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(STREETS / "train" / name, folder / name)
    with (folder / "labels.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([header, *chosen])
    sequences = tuple(sorted({row[1] for row in rows}))
    weights = write_checkpoint(
        tmp_path / "weights.safetensors", TaskSet((Task("sequence", TaskKind.CATEGORICAL, sequences),))
    )
    config = ProtectConfig(folder, folder / "labels.csv", weights=str(weights), device="cpu")
    result = protect_folder(config, SilentProgress())
    assert (result.exit_code, result.protected, result.maps) == (ExitCode.SUCCESS, len(chosen), len(chosen))
    for row in chosen:
        assert (result.release / row[2]).read_bytes() == (folder / row[2]).read_bytes()
    report = inspect_release(result.release, SilentProgress(), folder, 2)
    assert report.faults == ()
    assert report.max_change is not None
    assert report.max_change <= 8
