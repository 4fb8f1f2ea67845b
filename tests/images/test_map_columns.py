"""Columns of maps, understood by their files; the faults are those of the documentation."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mtlue_cli.choices import LabelFormat, TaskKind
from mtlue_cli.errors import InputError
from mtlue_cli.images.folder import match_labels
from mtlue_cli.images.labelled import read_folder_labels
from mtlue_cli.tasks.declared import parse_declarations
from mtlue_cli.tasks.label_options import LabelOptions
from mtlue_cli.tasks.labels import LabelFile, read_label_file, released_options
from mtlue_cli.tasks.released import released_labels
from mtlue_cli.tasks.spec import numbered_classes
from tests.tasks.label_files import DOCUMENT, write

CLASSES = np.array([[0, 1], [2, 3]], dtype=np.uint8)


def folder_of(path: Path, maps: Mapping[str, Any], cells: list[str], column: str = "m") -> Path:
    """Grey 8 x 6 photos ``a.png``, ``b.png``, ... with a column of ``cells``, and the files of ``maps`` beside them."""
    rows = [f"{chr(97 + index)}.png,{index % 2},{cell}\n" for index, cell in enumerate(cells)]
    for row in rows:
        Image.new("L", (8, 6), 90).save(path / row.split(",")[0])
    (path / "m").mkdir(exist_ok=True)
    for name, content in maps.items():
        if isinstance(content, np.ndarray) and name.endswith(".npy"):
            np.save(path / name, content, allow_pickle=content.dtype == object)
        else:
            Image.fromarray(content).save(path / name)
    return write(path, "".join([f"file_name,t,{column}\n", *rows]))


def read(folder: Path, *kinds: str, learning: bool = True) -> LabelFile:
    options = LabelOptions(declarations=parse_declarations(kinds))
    return read_folder_labels(folder, folder / "labels.csv", options, for_learning=learning)


def faults(folder: Path, *kinds: str) -> tuple[str, ...]:
    with pytest.raises(InputError) as caught:
        read(folder, *kinds)
    return caught.value.faults


def test_masks_are_told_by_their_files(tmp_path: Path) -> None:
    folder_of(tmp_path, {"m/a.png": CLASSES, "m/c.png": CLASSES * 0 + 5}, ["m/a.png", "", "./m/c.png"])
    labels = read(tmp_path)
    task = labels.table.tasks["m"]
    assert (task.kind, task.classes, task.ignore) == (TaskKind.SEGMENTATION, numbered_classes(6), ())
    assert labels.table.maps == {"m": ("m/a.png", None, "m/c.png")}
    assert labels.table.columns.keys() == {"t"}
    assert labels.table.maps_folder == tmp_path
    assert "--task m=segmentation:classes=6" in labels.notes[0]


def test_255_is_no_class_where_all_others_are_far_below(tmp_path: Path) -> None:
    folder_of(tmp_path, {"m/a.png": CLASSES, "m/b.png": np.where(CLASSES == 3, 255, CLASSES)}, ["m/a.png", "m/b.png"])
    task = read(tmp_path).table.tasks["m"]
    assert (task.classes, task.ignore) == (numbered_classes(4), (255,))
    declared = read(tmp_path, "m=segmentation:ignore=255,3").table.tasks["m"]
    assert (declared.classes, declared.ignore) == (numbered_classes(3), (3, 255))


@pytest.mark.parametrize(
    ("maps", "declaration"),
    [
        (np.array([[0.5]]), "m=depth"),
        (np.zeros((2, 2, 3)), "m=normals"),
        (np.array([[9000]], dtype=np.uint16), "m=depth:scale=0.001"),
        (np.arange(256, dtype=np.uint8).reshape(16, 16), "m=segmentation"),
        (np.array([[0, 255]], dtype=np.uint8), "m=segmentation:ignore=255"),
    ],
)
def test_what_is_not_sure_must_be_declared_and_the_message_says_how(
    maps: np.ndarray, declaration: str, tmp_path: Path
) -> None:
    folder_of(tmp_path, {"m/a.npy": maps}, ["m/a.npy", "m/a.npy"])
    (fault,) = faults(tmp_path)
    assert f"--task {declaration}," in fault
    if not declaration.startswith("m=segmentation"):
        assert read(tmp_path, declaration).table.tasks["m"].kind.value == declaration[2:].split(":")[0]
    assert read(tmp_path, "m=categorical", learning=False).table.class_name("m", 0) == "m/a.npy"


def test_paths_that_lead_nowhere_are_text(tmp_path: Path) -> None:
    folder_of(tmp_path, {}, ["x/a.png", "x/b.png"])
    labels = read(tmp_path)
    assert labels.table.tasks["m"].kind is TaskKind.BINARY
    assert labels.left_out == {"m": f"holds file names, but none of them is in {tmp_path}"}
    assert labels.notes == ()
    assert read(tmp_path, "m=categorical").notes == ()


def test_image_level_kinds_can_be_forced(tmp_path: Path) -> None:
    folder_of(tmp_path, {}, ["x", "y", "z"])
    assert read(tmp_path, "t=categorical").table.tasks["t"].kind is TaskKind.CATEGORICAL
    assert faults(tmp_path, "m=binary") == ("--task m=binary: the column holds 3 classes, 'x', 'y', 'z'",)
    assert faults(tmp_path, "n=depth") == ("--task n=depth: there is no column 'n'",)


@pytest.mark.parametrize("size", [(12, 16), (3, 4), (4, 5), (7, 7), (600, 800)])
def test_a_map_may_have_another_size_in_the_same_proportion(size: tuple[int, int], tmp_path: Path) -> None:
    folder_of(tmp_path, {"m/a.npy": np.eye(*size, dtype=np.uint8)}, ["m/a.npy"] * 2)
    assert read(tmp_path).table.tasks["m"].num_classes == 2


FAULTY: dict[str, tuple[dict[str, Any], str, str]] = {
    "no such map": ({"m/a.png": CLASSES}, "m/b.png", "m=segmentation"),
    "a map outside the folder": ({"m/a.png": CLASSES}, "../m.png", "m=segmentation"),
    "another class": ({"m/a.png": CLASSES + 4}, "m/a.png", "m=segmentation:classes=4:ignore=4,5,6"),
    "another proportion": ({"m/a.png": np.zeros((6, 10), np.uint8)}, "m/a.png", "m=segmentation:classes=4"),
    "another type": ({"m/a.png": np.zeros((6, 8, 3), np.uint8)}, "m/a.png", "m=segmentation"),
    "an array of objects": ({"m/a.npy": np.array([[None]])}, "m/a.npy", "m=depth"),
    "a photo in place of a map": ({}, "a.png", "m=segmentation"),
    "depth without a scale": ({"m/a.png": np.full((6, 8), 9, np.uint8)}, "m/a.png", "m=depth"),
    "the kind is not clear": ({"m/a.npy": np.zeros((6, 8))}, "m/a.npy", ""),
}


def test_every_documented_fault_of_a_map_is_tried() -> None:
    section = DOCUMENT.split("| fault in a map |", 1)[1].split("\n\n", 1)[0]
    assert re.findall(r"^\| (.*?) \| `", section, re.MULTILINE) == list(FAULTY)


@pytest.mark.parametrize("fault", FAULTY)
def test_a_fault_of_a_map_has_the_documented_message(fault: str, tmp_path: Path) -> None:
    maps, cell, kind = FAULTY[fault]
    folder_of(tmp_path, maps, [cell, cell, ""])
    documented = re.search(rf"\| {re.escape(fault)} \| `(.*)` \|", DOCUMENT)
    assert documented is not None
    assert documented[1] in faults(tmp_path, *([kind] if kind else []))[0]


def test_faults_of_all_columns_are_told_together_with_their_rows(tmp_path: Path) -> None:
    folder_of(tmp_path, {"m/a.png": CLASSES + 9}, ["m/a.png", "m/none.png", "/m.png"])
    found = faults(tmp_path, "m=segmentation:classes=4", "x=depth")
    assert [fault.split(":")[0] for fault in found] == ["--task x=depth", "row 4", "row 3", "row 2"]


def test_a_map_behind_a_link_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    inside = tmp_path / "inside"
    inside.mkdir()
    Image.fromarray(CLASSES).save(tmp_path / "secret.png")
    folder_of(inside, {}, ["m/a.png", "m/a.png"])
    (inside / "m" / "a.png").symlink_to(tmp_path / "secret.png")
    assert "leaves the folder of the label file by a symbolic link" in faults(inside, "m=segmentation")[0]


def test_masks_among_the_images_are_no_images_without_a_row(tmp_path: Path) -> None:
    folder_of(tmp_path, {"m/a.png": CLASSES, "m/stray.png": CLASSES}, ["m/a.png", ""])
    table = read(tmp_path).table
    assert match_labels(tmp_path, table).unlabelled == ("m/stray.png",)


def test_labels_elsewhere_lead_to_maps_beside_them(tmp_path: Path) -> None:
    images, beside = tmp_path / "images", tmp_path / "labels"
    images.mkdir()
    beside.mkdir()
    folder_of(beside, {"m/a.png": CLASSES}, ["m/a.png", ""])
    for name in ("a.png", "b.png"):
        (beside / name).rename(images / name)
    labels = read_folder_labels(images, beside / "labels.csv")
    assert labels.table.maps_folder == beside
    assert match_labels(tmp_path, labels.table.take([])).unlabelled == (
        "images/a.png",
        "images/b.png",
        "labels/m/a.png",
    )


def test_the_released_labels_name_the_maps_and_read_back_as_text(tmp_path: Path) -> None:
    folder_of(tmp_path, {"m/a.png": CLASSES, "m/=b.png": CLASSES}, ["m/a.png", "", "m/=b.png"])
    (tmp_path / "out").mkdir()
    path = tmp_path / "out" / "labels.csv"
    path.write_bytes(released_labels(read(tmp_path), {0: "a.png", 1: "b.png", 2: "c.png"}))
    assert path.read_text() == "file_name,t,m\na.png,0,m/a.png\nb.png,1,\nc.png,0,m/=b.png\n"
    table = read_label_file(path, released_options(None), for_learning=False).table
    assert [table.class_name("m", row) for row in range(3)] == ["m/a.png", None, "m/=b.png"]


def test_a_mask_of_one_class_teaches_nothing(tmp_path: Path) -> None:
    folder_of(tmp_path, {"m/a.png": CLASSES * 0}, ["m/a.png", "m/a.png"])
    assert "hold only one class" in faults(tmp_path)[0]
    assert read(tmp_path, learning=False).table.tasks["m"].num_classes == 1


def arrays(folder: Path, name: str, array: np.ndarray) -> None:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    np.save(folder / name, array)


def test_the_folders_of_nyuv2_are_columns(tmp_path: Path) -> None:
    for part in ("train", "val"):
        for index in range(2):
            arrays(tmp_path, f"{part}/image/{index}.npy", np.full((6, 8, 3), 0.5, np.float32))
            arrays(tmp_path, f"{part}/label/{index}.npy", np.full((6, 8), index * 12 - 1 + index, np.float32))
            arrays(tmp_path, f"{part}/normal/{index}.npy", np.tile([0.0, 0.0, 1.0], (6, 8, 1)))
    arrays(tmp_path, "train/depth/1.npy", np.full((6, 8, 1), 2.5))
    table = read_folder_labels(tmp_path, tmp_path, LabelOptions(LabelFormat.NYUV2)).table
    assert table.file_names == ("train/image/0.npy", "train/image/1.npy", "val/image/0.npy", "val/image/1.npy")
    assert [task.kind for task in table.tasks] == [TaskKind.SEGMENTATION, TaskKind.DEPTH, TaskKind.NORMALS]
    assert table.tasks["segmentation"].num_classes == 13
    assert table.maps["depth"] == (None, "train/depth/1.npy", None, None)
    assert table.maps["normals"][2] == "val/normal/0.npy"
    assert match_labels(tmp_path, table).unlabelled == ()
