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
from mtlue_cli.images.targets import read_target
from mtlue_cli.tasks.declared import parse_declarations
from mtlue_cli.tasks.label_options import LabelOptions
from mtlue_cli.tasks.labels import LabelFile, read_label_file, released_labels, released_options
from mtlue_cli.tasks.spec import numbered_classes
from tests.tasks.label_files import DOCUMENT, write

CLASSES = np.array([[0, 1], [2, 3]], dtype=np.uint8)
COLOURED = np.tile(np.array([[0, 0, 0], [128, 64, 128]], np.uint8), (6, 4, 1))
SOFT = np.tile(np.array([0] * 12 + [40, 120, 200] + [255] * 9, np.uint8), (24, 1))


def folder_of(path: Path, maps: Mapping[str, Any], cells: list[str], column: str = "m") -> Path:
    """Grey 8 x 6 photos ``a.png``, ``b.png``, ... with a column of ``cells``, and the files of ``maps`` beside them."""
    rows = [f"{chr(97 + index)}.png,{index % 2},{cell}\n" for index, cell in enumerate(cells)]
    for row in rows:
        Image.new("L", (8, 6), 90).save(path / row.split(",")[0])
    (path / "m").mkdir(exist_ok=True)
    for name, content in maps.items():
        if isinstance(content, np.ndarray) and name.endswith(".npy"):
            np.save(path / name, content, allow_pickle=content.dtype == object)
        elif isinstance(content, str):
            (path / name).write_text(content)
        elif name.endswith(".jpg"):
            Image.fromarray(content).save(path / name, quality=80)
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


def test_masks_are_recognised_by_their_files(tmp_path: Path) -> None:
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
    "another type": ({"m/a.png": COLOURED}, "m/a.png", "m=segmentation:classes=4"),
    "colours without a palette file": ({"m/a.png": COLOURED}, "m/a.png", ""),
    "a colour that the palette file does not name": (
        {"m/a.png": COLOURED, "label_colors.txt": "0 0 0 sky\n9 9 9 road\n"},
        "m/a.png",
        "m=segmentation:colours=label_colors.txt",
    ),
    "soft edges": ({"m/a.png": SOFT}, "m/a.png", ""),
    "a mask in JPEG": ({"m/a.jpg": np.full((6, 8), [9, 200] * 4, np.uint8)}, "m/a.jpg", ""),
    "levels with gaps and 255": ({"m/a.png": np.array([[0, 100, 255]] * 2, np.uint8)}, "m/a.png", ""),
    "text among paths": ({}, "nan", "m=segmentation"),
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


def test_faults_of_all_columns_are_reported_together_with_their_rows(tmp_path: Path) -> None:
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
    match = match_labels(tmp_path, table)
    assert match.unlabelled == ()
    assert match.notes == ("1 file that no row names lies where the maps are and is left out: m/stray.png",)


def test_a_mask_beside_its_photo_is_no_image_without_a_row_either(tmp_path: Path) -> None:
    folder_of(tmp_path, dict.fromkeys(("a_mask.png", "b_mask.png", "c_mask.png", "d.png"), CLASSES), ["a_mask.png"])
    for name in ("c.png", "b.png"):
        Image.new("L", (8, 6)).save(tmp_path / name)
    match = match_labels(tmp_path, read(tmp_path, learning=False).table)
    assert match.unlabelled == ("b.png", "c.png", "d.png")
    assert "2 files that no row names" in match.notes[0]


def test_masks_of_a_column_that_is_declared_to_be_text_are_no_images(tmp_path: Path) -> None:
    folder_of(tmp_path, {"m/a.png": CLASSES, "m/b.png": CLASSES}, ["m/a.png", "m/b.png"])
    labels = read(tmp_path, "m=categorical", learning=False)
    assert match_labels(tmp_path, labels.table, labels.other_parts).unlabelled == ()


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
    assert "holds only one class, '0'" in faults(tmp_path)[0]
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


@pytest.mark.parametrize("suffix", ["bmp", "gif", "webp", "pgm", "tga", "tif", "png"])
def test_masks_in_any_lossless_format_are_maps(suffix: str, tmp_path: Path) -> None:
    folder_of(tmp_path, {}, [f"m/a.{suffix}", f"m/b.{suffix}"])
    options: dict[str, Any] = {"lossless": True} if suffix == "webp" else {}
    for name in "ab":
        Image.fromarray(np.kron(CLASSES, np.ones((3, 3), np.uint8))).save(
            tmp_path / "m" / f"{name}.{suffix}", **options
        )
    labels = read(tmp_path)
    assert labels.table.tasks["m"].classes == numbered_classes(4)
    assert labels.table.maps["m"] == (f"m/a.{suffix}", f"m/b.{suffix}")


@pytest.mark.parametrize(("suffix", "options"), [("jpg", {"quality": 80}), ("webp", {"quality": 90})])
def test_masks_with_loss_are_taken_if_no_number_changed(suffix: str, options: dict[str, Any], tmp_path: Path) -> None:
    folder_of(tmp_path, {}, [f"m/a.{suffix}", f"m/b.{suffix}"])
    clean = np.zeros((48, 64), np.uint8)
    clean[:, 32:] = 255
    soft = np.asarray(Image.fromarray(clean).rotate(30))
    for name, mask in (("a", clean), ("b", clean)):
        Image.fromarray(mask).save(tmp_path / f"m/{name}.{suffix}", **options)
    assert read(tmp_path).table.tasks["m"].classes == ("0", "255")
    Image.fromarray(soft).save(tmp_path / f"m/b.{suffix}", **options)
    (fault,) = faults(tmp_path)
    assert fault.startswith(f"row 3: column 'm': 'm/b.{suffix}' is compressed with loss")
    (declared,) = faults(tmp_path, "m=segmentation:classes=0|255")
    assert declared == fault


@pytest.mark.parametrize("kind", ["m=depth:scale=1", "m=normals"])
def test_other_maps_with_loss_are_refused(kind: str, tmp_path: Path) -> None:
    folder_of(tmp_path, {"m/a.jpg": np.arange(48, dtype=np.uint8).reshape(6, 8)}, ["m/a.jpg", ""])
    assert "is compressed with loss (JPEG)" in faults(tmp_path, kind)[0]


@pytest.mark.parametrize("cell", ["nan", "None", "NA", "rain", "0", "m/none.png", "/m/a.png", "m", ""])
def test_one_bad_cell_does_not_turn_maps_into_classes(cell: str, tmp_path: Path) -> None:
    folder_of(tmp_path, {"m/a.png": CLASSES, "m/b.png": CLASSES}, ["m/a.png", cell, "m/b.png"])
    if not cell:
        assert read(tmp_path).table.maps["m"] == ("m/a.png", None, "m/b.png")
        return
    (fault,) = faults(tmp_path)
    assert fault.startswith("row 3: column 'm': ")
    if cell.lower() in ("nan", "none", "na"):
        assert fault.endswith(f"add --missing-value {cell}")
        options = LabelOptions(missing_values=(cell,))
        table = read_folder_labels(tmp_path, tmp_path / "labels.csv", options).table
        assert table.maps["m"] == ("m/a.png", None, "m/b.png")


def test_paths_out_of_the_folder_are_bookkeeping(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    Image.fromarray(CLASSES).save(tmp_path / "a.png")
    for cell in (str(tmp_path / "a.png"), "../a.png"):
        folder_of(tmp_path / "set", {}, [cell, cell, cell])
        assert "m" in read_folder_labels(tmp_path / "set", tmp_path / "set" / "labels.csv").left_out


def test_a_cell_that_leads_to_a_picture_is_never_a_class(tmp_path: Path) -> None:
    folder_of(tmp_path, {"m/a.png": CLASSES}, ["rain", "sun", "m/a.png", "sun"])
    (fault,) = faults(tmp_path)
    assert "'m/a.png' (row 4) leads to a file, but most of the other cells are text" in fault
    assert read(tmp_path, "m=categorical").table.tasks["m"].classes == ("m/a.png", "rain", "sun")


def test_paths_that_lead_from_the_image_folder_are_no_classes(tmp_path: Path) -> None:
    folder_of(tmp_path, {"m/a.jpg": CLASSES}, ["m/a.jpg", "m/a.jpg"])
    (tmp_path / "tables").mkdir()
    (tmp_path / "labels.csv").rename(tmp_path / "tables" / "labels.csv")
    with pytest.raises(InputError) as caught:
        read_folder_labels(tmp_path, tmp_path / "tables" / "labels.csv")
    assert "names files of the image folder" in caught.value.faults[0]


@pytest.mark.parametrize(
    ("levels", "classes", "ignore"),
    [
        ([0, 255], ("0", "255"), ()),
        ([0, 128, 255], ("0", "128", "255"), ()),
        ([0, 85, 170, 255], ("0", "85", "170", "255"), ()),
        ([0, 50, 100], ("0", "50", "100"), ()),
        ([10, 20], ("10", "20"), ()),
        ([0, 5, 15, 255], ("0", "5", "15"), (255,)),
        ([0, 1, 255], ("0", "1"), (255,)),
        ([0, 1, 2, 4], ("0", "1", "2", "3", "4"), ()),
    ],
)
@pytest.mark.parametrize("declared", [(), ("m=segmentation",)])
def test_grey_levels_are_numbered_by_what_is_there(
    levels: list[int], classes: tuple[str, ...], ignore: tuple[int, ...], declared: tuple[str, ...], tmp_path: Path
) -> None:
    masks = np.repeat(np.array([levels], np.uint8), len(levels), axis=0)
    folder_of(tmp_path, {"m/a.npy": masks, "m/b.npy": masks[:, ::-1].copy()}, ["m/a.npy", "m/b.npy"])
    labels = read(tmp_path, *declared)
    task = labels.table.tasks["m"]
    assert (task.classes, task.ignore) == (classes, ignore)
    (note,) = labels.notes
    assert f"{len(classes)} classes" in note
    again = read(tmp_path, note.partition("--task ")[2].strip("'")).table.tasks["m"]
    assert (again.classes, again.ignore) == (classes, ignore)
    known = [classes.index(str(level)) if level not in ignore else -1 for level in levels]
    assert read_target(tmp_path / "m/a.npy", task)[0].tolist() == known


def test_black_and_white_in_sixteen_bits_is_two_classes(tmp_path: Path) -> None:
    folder_of(tmp_path, {"m/a.png": np.array([[0, 65535]] * 2, np.uint16)}, ["m/a.png", "m/a.png"])
    assert read(tmp_path).table.tasks["m"].classes == ("0", "65535")


def test_a_mask_that_ignores_all_but_one_class_says_so(tmp_path: Path) -> None:
    folder_of(tmp_path, {"m/a.png": np.array([[0, 255]] * 2, np.uint8)}, ["m/a.png", "m/a.png"])
    (note,) = read(tmp_path, "m=segmentation:ignore=255", learning=False).notes
    assert note.endswith("1 class, ignoring 255: nothing of it can be protected")
    assert "holds only one class, '0'" in faults(tmp_path, "m=segmentation:ignore=255")[0]


def test_a_palette_file_beside_the_masks_is_found(tmp_path: Path) -> None:
    palette = "0 0 0\tVoid\n128 64 128\tRoad\n70 70 70\tBuilding\n"
    coloured = COLOURED.copy()
    coloured[0, 0] = 70
    folder_of(tmp_path, {"m/a.png": coloured, "m/label_colors.txt": palette}, ["m/a.png", "m/a.png"])
    labels = read(tmp_path)
    task = labels.table.tasks["m"]
    assert (task.classes, task.ignore, len(task.colours)) == (("Road", "Building"), (2,), 3)
    assert "2 classes by the colours of" in labels.notes[0]
    assert "ignoring 1 colour: 'Road', 'Building'" in labels.notes[0]
    assert read_target(tmp_path / "m/a.png", task)[0, :3].tolist() == [1, 0, -1]
    named = read(tmp_path, "m=segmentation:colours=m/label_colors.txt").table.tasks["m"]
    assert (named.classes, named.colours) == (task.classes, task.colours)
    (tmp_path / "palette.csv").write_text("name,r,g,b\na,0,0,0\nb,128,64,128\nc,70,70,70\n")
    assert "several palette files fit" in faults(tmp_path)[0]
    assert "cannot be read" in faults(tmp_path, "m=segmentation:colours=none.txt")[0]


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P"])
def test_colours_count_however_a_picture_stores_them(mode: str, tmp_path: Path) -> None:
    folder_of(tmp_path, {"palette.txt": "0 0 0 sky\n128 64 128 road\n"}, ["m/a.png", "m/b.gif"])
    Image.fromarray(COLOURED).convert(mode, palette=Image.Palette.ADAPTIVE).save(tmp_path / "m/a.png")
    Image.fromarray(COLOURED).save(tmp_path / "m/b.gif")
    task = read(tmp_path, "m=segmentation:colours=palette.txt").table.tasks["m"]
    for name in ("m/a.png", "m/b.gif"):
        assert read_target(tmp_path / name, task)[0].tolist() == [0, 1] * 4


def test_colour_coded_masks_are_never_normals(tmp_path: Path) -> None:
    folder_of(tmp_path, {"m/a.png": COLOURED}, ["m/a.png", "m/a.png"])
    assert "normals" not in faults(tmp_path)[0]
    assert "--task m=segmentation:colours=FILE" in faults(tmp_path)[0]
    assert "is not a map of normals" in faults(tmp_path, "m=normals")[0]
    facing = np.tile(np.array([[128, 128, 255], [255, 128, 128], [0, 0, 0]], np.uint8), (6, 3, 1))[:, :8]
    Image.fromarray(facing).save(tmp_path / "m/a.png")
    assert "--task m=normals" in faults(tmp_path)[0]
    assert read(tmp_path, "m=normals").table.tasks["m"].kind is TaskKind.NORMALS


def test_what_means_no_depth_can_be_declared_and_is_pointed_out(tmp_path: Path) -> None:
    depths = np.full((6, 8), 1500, np.uint16)
    depths[0] = 65535
    folder_of(tmp_path, {"m/a.png": depths, "m/b.png": depths}, ["m/a.png", "m/b.png"])
    assert "--task m=depth:scale=0.001:ignore=65535," in faults(tmp_path)[0]
    assert "--task m=depth:scale=0.001:ignore=65535 " in faults(tmp_path, "m=depth")[0]
    (note,) = read(tmp_path, "m=depth:scale=0.001").notes
    assert "17% of its depths are 65535" in note
    assert note.endswith("--task m=depth:ignore=65535:scale=0.001")
    labels = read(tmp_path, "m=depth:ignore=65535:scale=0.001")
    assert labels.notes == ()
    found = read_target(tmp_path / "m/a.png", labels.table.tasks["m"])
    assert np.unique(found).tolist() == [0, pytest.approx(1.5)]


def turned_folder(path: Path, orientations: list[int], mask: np.ndarray, column: str = "m") -> Path:
    """Photos 8 x 6 with these EXIF orientations, and a mask of each."""
    folder_of(path, {}, [f"m/{index}.png" for index in range(len(orientations))], column)
    for index, orientation in enumerate(orientations):
        exif = Image.Exif()
        exif[0x0112] = orientation
        Image.new("RGB", (8, 6), (90, 9, 9)).save(path / f"{chr(97 + index)}.png", exif=exif)
        Image.fromarray(mask).save(path / f"m/{index}.png")
    return path


def test_maps_are_turned_with_their_photos(tmp_path: Path) -> None:
    mask = (np.arange(48, dtype=np.uint8) % 5).reshape(6, 8)
    turned_folder(tmp_path, [1, 2, 3, 4, 5, 6, 7, 8], mask)
    labels = read(tmp_path)
    assert labels.table.turns == {f"m/{index}.png": index + 1 for index in range(1, 8)}
    assert "7 photos turned upright by an EXIF orientation: the maps are turned with them" in labels.notes[1]
    assert labels.table.take([0, 1]).turns == labels.table.recoded(labels.table.tasks).turns == labels.table.turns


def test_maps_of_upright_photos_stay_as_they_are(tmp_path: Path) -> None:
    turned_folder(tmp_path, [6, 3, 6], np.zeros((6, 8), np.uint8))
    for index in (0, 2):
        Image.fromarray(np.eye(8, 6, dtype=np.uint8)).save(tmp_path / f"m/{index}.png")
    labels = read(tmp_path)
    assert labels.table.turns == {}
    assert "3 photos turned by an EXIF orientation; the maps fit the upright photos" in labels.notes[1]


@pytest.mark.parametrize("what", ["both", "shared", "normals"])
def test_maps_that_cannot_be_turned_are_refused_with_the_word_exif(what: str, tmp_path: Path) -> None:
    turned_folder(tmp_path, [6, 6], np.eye(6, 8, dtype=np.uint8))
    kind: tuple[str, ...] = ()
    if what == "both":
        Image.fromarray(np.eye(8, 6, dtype=np.uint8)).save(tmp_path / "m/1.png")
    elif what == "shared":
        Image.new("RGB", (8, 6)).save(tmp_path / "b.png")
        path = tmp_path / "labels.csv"
        path.write_text(path.read_text().replace("m/1.png", "m/0.png"))
    else:
        for index in range(2):
            Image.new("RGB", (8, 6), (128, 128, 255)).save(tmp_path / f"m/{index}.png")
        kind = ("m=normals",)
    assert all("EXIF orientation" in fault for fault in faults(tmp_path, *kind))


def test_masks_that_are_called_as_their_photos_are_masks(tmp_path: Path) -> None:
    names = ("a.png", "b.png")
    for name in names:
        (tmp_path / "images").mkdir(exist_ok=True)
        (tmp_path / "masks").mkdir(exist_ok=True)
        Image.fromarray(np.full((*CLASSES.shape, 3), 9, dtype=np.uint8)).save(tmp_path / "images" / name)
        Image.fromarray(CLASSES).save(tmp_path / "masks" / name)
    write(tmp_path, "file_name,m,own,gone\n" + "".join(f"images/{n},masks/{n},images/{n},old/{n}\n" for n in names))
    labels = read(tmp_path, learning=False)
    assert labels.table.maps == {"m": ("masks/a.png", "masks/b.png")}
    assert {column.name for column in labels.columns if column.left_out is not None} == {"own", "gone"}
