import json
from dataclasses import replace

import numpy as np
import pytest

from mtlue_cli.choices import TaskKind
from mtlue_cli.tasks.spec import LabelTable, Task, TaskSet, numbered_classes

COLOUR = Task("colour", TaskKind.CATEGORICAL, ("blue", "red"))
MASK = Task("mask", TaskKind.SEGMENTATION, numbered_classes(11), ignore=(11,))
FAR = Task("far", TaskKind.DEPTH, (), scale=0.001)
FACING = Task("facing", TaskKind.NORMALS, ())
ALL = TaskSet((COLOUR, MASK, FAR, FACING))


def test_an_image_level_task_is_written_as_before_there_were_dense_ones() -> None:
    written = json.dumps(TaskSet((COLOUR,)).to_json())
    assert written == '[{"name": "colour", "kind": "categorical", "classes": ["blue", "red"]}]'


def test_every_kind_is_read_as_it_was_written() -> None:
    assert TaskSet.from_json(json.loads(json.dumps(ALL.to_json()))) == ALL


def test_channels_are_the_width_of_a_head() -> None:
    assert [task.channels for task in ALL] == [2, 11, 1, 3]


def test_a_set_is_parted_by_what_its_labels_are() -> None:
    assert ALL.image_level.names == ("colour",)
    assert ALL.dense.names == ("mask", "far", "facing")


@pytest.mark.parametrize(
    ("task", "column", "expected"),
    [
        (MASK, replace(MASK, classes=numbered_classes(4), ignore=()), None),
        (MASK, replace(MASK, classes=numbered_classes(12), ignore=()), None),
        (MASK, replace(MASK, classes=numbered_classes(13), ignore=()), "has unknown classes 12 to 12; known: 0 to 10"),
        (MASK, FAR, "is read as depth, expected segmentation: declare it with --task mask=segmentation"),
        (FAR, replace(FAR, kind=TaskKind.NORMALS), "expected depth"),
        (COLOUR, FAR, "expected categorical"),
        (FAR, COLOUR, "is read as categorical, expected depth"),
        (replace(MASK, classes=("sky", "road")), replace(MASK, classes=numbered_classes(2)), None),
        (
            replace(MASK, classes=("sky", "road")),
            replace(MASK, classes=("road", "sky")),
            "class 0 is 'road', expected 'sky'",
        ),
    ],
)
def test_a_column_of_maps_serves_a_task_of_its_kind_and_classes(task: Task, column: Task, expected: str | None) -> None:
    found = TaskSet((task,)).unmet_by(TaskSet((replace(column, name=task.name),)))
    assert len(found) == (expected is not None)
    assert expected is None or expected in found[0]


def table() -> LabelTable:
    columns = {"colour": np.array([0, 1, -1])}
    maps = {"mask": ("m/a.png", None, "m/b.png"), "far": ("f/a.png", "m/b.png", "m/b.png")}
    return LabelTable(("a", "b", "c"), columns, TaskSet((COLOUR, MASK, FAR)), ("row 2", "row 3", "row 4"), maps)


def test_maps_go_with_their_rows() -> None:
    taken = table().take([2, 0])
    assert taken.maps == {"mask": ("m/b.png", "m/a.png"), "far": ("m/b.png", "f/a.png")}
    assert taken.map_files(0) == ("m/b.png",)
    assert taken.map_files(1) == ("m/a.png", "f/a.png")
    grown = table().with_unlabelled(["d"])
    assert grown.maps["mask"] == ("m/a.png", None, "m/b.png", None)
    assert grown.class_name("mask", 3) is None
    assert grown.class_name("far", 1) == "m/b.png"
    assert table().all_map_files == {"m/a.png", "m/b.png", "f/a.png"}


def test_another_task_set_keeps_what_the_table_knows_of_its_files() -> None:
    known = TaskSet((replace(MASK, classes=numbered_classes(5), ignore=(9,)), replace(FAR, scale=1.0)))
    recoded = table().recoded(known)
    assert recoded.tasks["mask"].num_classes == 5
    assert recoded.tasks["mask"].ignore == (9, 11)
    assert recoded.tasks["far"].scale == 0.001
    assert recoded.maps.keys() == {"mask", "far"}
    assert recoded.columns == {}
    with_ids = replace(MASK, ids={"m/a.png": {70000: 0}})
    by_id = replace(table(), tasks=TaskSet((COLOUR, with_ids, FAR))).recoded(known)
    assert by_id.tasks["mask"].ids == with_ids.ids
    assert by_id.tasks["mask"].ignore == MASK.ignore  # numbers are the reader's, not those of the weights' masks
