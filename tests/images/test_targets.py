import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from mtlue_cli.budget import Budget, limited_to
from mtlue_cli.choices import TaskKind
from mtlue_cli.errors import ImageError, InputError
from mtlue_cli.images.dataset import load_labels
from mtlue_cli.images.metadata import TURNS
from mtlue_cli.images.targets import (
    read_target,
    single_channel,
    stored_array,
    to_size,
    turned,
    turned_map,
)
from mtlue_cli.tasks.kinds import KINDS
from mtlue_cli.tasks.label_tensors import as_labels, empty_maps
from mtlue_cli.tasks.spec import LabelTable, Task, TaskSet, numbered_classes

MASK = Task("mask", TaskKind.SEGMENTATION, numbered_classes(4), ignore=(9,))
FAR = Task("far", TaskKind.DEPTH, (), scale=0.001)
FACING = Task("facing", TaskKind.NORMALS, ())
CLASSES = np.array([[0, 1, 2, 2], [3, 9, 1, 0]])
INDICES = [[0, 1, 2, 2], [3, -1, 1, 0]]


def save(folder: Path, content: Any, name: str) -> Path:  # noqa: ANN401 - a picture or an array
    path = folder / name
    if isinstance(content, Image.Image):
        content.save(path)
    else:
        np.save(path, content)
    return path


def palette(indices: np.ndarray) -> Image.Image:
    picture = Image.fromarray(indices.astype(np.uint8), mode="L")
    picture.putpalette([255 - value % 256 for value in range(768)])
    assert picture.mode == "P"
    return picture


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (Image.fromarray(CLASSES.astype(np.uint8)), "grey.png"),
        (Image.fromarray(CLASSES.astype(np.uint16)), "deep.png"),
        (Image.fromarray(CLASSES.astype(np.uint8)), "grey.tif"),
        (Image.fromarray(CLASSES.astype(np.float32)), "float.tif"),
        (CLASSES, "a.npy"),
        (CLASSES.astype(np.uint8)[..., None], "last.npy"),
        (CLASSES.astype(np.float64)[None], "first.npy"),
    ],
)
def test_a_mask_is_read_from_every_kind_of_file(content: Any, name: str, tmp_path: Path) -> None:  # noqa: ANN401
    found = read_target(save(tmp_path, content, name), MASK)
    assert found.dtype == np.int64
    assert found.tolist() == INDICES


@pytest.mark.filterwarnings("ignore:'mode' parameter:DeprecationWarning")
def test_the_index_of_a_palette_is_the_class(tmp_path: Path) -> None:
    assert read_target(save(tmp_path, palette(CLASSES), "p.png"), MASK).tolist() == INDICES


def test_minus_one_and_nan_are_no_class(tmp_path: Path) -> None:
    assert read_target(save(tmp_path, np.array([[-1, 2]]), "a.npy"), MASK).tolist() == [[-1, 2]]
    assert read_target(save(tmp_path, np.array([[np.nan, 2.0]]), "b.npy"), MASK).tolist() == [[-1, 2]]


def test_depth_is_scaled_and_zero_where_it_was_not_measured(tmp_path: Path) -> None:
    levels = save(tmp_path, Image.fromarray(np.array([[0, 1500], [65535, 1]], dtype=np.uint16)), "d.png")
    assert read_target(levels, FAR) == pytest.approx(np.array([[0, 1.5], [65.535, 0.001]]), rel=1e-6)
    metres = np.array([[np.nan, np.inf], [2.5, 1e300]])
    found = read_target(save(tmp_path, metres[..., None], "d.npy"), Task("far", TaskKind.DEPTH, ()))
    assert found.dtype == np.float32
    assert found.tolist() == [[0, 0], [2.5, 0]]


def test_floating_point_tiff_holds_depth(tmp_path: Path) -> None:
    picture = Image.fromarray(np.array([[0.0, 1.25, 3.0]], dtype=np.float32))
    assert picture.mode == "F"
    assert read_target(save(tmp_path, picture, "d.tiff"), Task("far", TaskKind.DEPTH, ())).tolist() == [[0, 1.25, 3]]


@pytest.mark.parametrize("first", [False, True])
def test_normals_are_unit_vectors_or_nothing(first: bool, tmp_path: Path) -> None:
    vectors = np.array([[[0, 0, 1], [0.6, 0, 0.5]], [[0, 0, 0], [np.nan, 0, 1]]])
    found = read_target(save(tmp_path, np.moveaxis(vectors, 2, 0) if first else vectors, "n.npy"), FACING)
    assert found.shape == (2, 2, 3)
    assert np.linalg.norm(found, axis=2) == pytest.approx(np.array([[1, 1], [0, 0]]), abs=1e-6)
    assert found[0, 1] == pytest.approx(np.array([0.6, 0, 0.5]) / np.hypot(0.6, 0.5), abs=1e-6)


def test_eight_bit_normals_are_decoded(tmp_path: Path) -> None:
    encoded = np.array([[[128, 128, 255], [0, 127, 127]], [[127, 128, 127], [0, 0, 0]]], dtype=np.uint8)
    found = read_target(save(tmp_path, Image.fromarray(encoded), "n.png"), FACING)
    assert found[0] == pytest.approx(np.array([[0, 0, 1], [-1, 0, 0]]), abs=0.01)
    assert not found[1].any()


HOSTILE: dict[str, tuple[Any, Task, str]] = {
    "another class": (np.array([[0, 4, 5]]), MASK, r"holds 4, 5, expected classes from 0 to 3 \(ignored: 9\)"),
    "fractions": (np.array([[0.5]]), MASK, "holds fractions"),
    "infinite": (np.array([[np.inf]]), MASK, "holds fractions"),
    "far beyond": (np.array([[2**40]]), MASK, "holds numbers up to"),
    "colours": (Image.new("RGB", (2, 2), "red"), MASK, "is a colour picture"),
    "alpha": (Image.new("LA", (2, 2)), MASK, "has LA pixels"),
    "negative depth": (np.array([[-1.0, 2.0]]), FAR, "holds the negative depth"),
    "colours for depth": (np.zeros((2, 2, 3)), FAR, "is a colour picture"),
    "no direction": (np.zeros((2, 2)), FACING, "expected three, a unit vector"),
    "no unit vectors": (np.full((2, 2, 3), 5.0), FACING, "a vector of the length 8.66"),
    "whole vectors": (np.zeros((2, 2, 3), np.int64), FACING, "expected floating point or 8-bit RGB"),
    "four channels": (np.zeros((5, 5, 4)), FACING, "expected height x width"),
    "one number": (np.float64(1), FAR, "expected height x width"),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_what_is_no_target_ends_in_a_reason(what: str, tmp_path: Path) -> None:
    content, task, reason = HOSTILE[what]
    path = save(tmp_path, content, "a.png" if isinstance(content, Image.Image) else "a.npy")
    with pytest.raises(ImageError, match=reason):
        read_target(path, task)


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"", "is empty"), (b"text", "is not a supported image"), (b"\x89PNG\r\n\x1a\n" + bytes(40), "is")],
)
def test_a_file_that_is_no_map_ends_in_a_reason(content: bytes, reason: str, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(ImageError, match=reason):
        read_target(tmp_path / "a.png", MASK)


def test_a_truncated_mask_ends_in_a_reason(tmp_path: Path) -> None:
    path = save(tmp_path, Image.effect_noise((64, 64), 50), "a.png")
    path.write_bytes(path.read_bytes()[:-600])
    with pytest.raises(ImageError, match="is damaged"):
        read_target(path, MASK)


def test_maps_have_the_limit_of_photos(tmp_path: Path) -> None:
    for path in (save(tmp_path, Image.new("L", (40, 30)), "a.png"), save(tmp_path, np.zeros((30, 40), int), "a.npy")):
        with limited_to(Budget(1000)), pytest.raises(ImageError, match="the limit is 1,000"):
            read_target(path, MASK)


def test_several_pages_are_refused(tmp_path: Path) -> None:
    page = Image.new("L", (4, 4))
    page.save(tmp_path / "a.tif", save_all=True, append_images=[page])
    with pytest.raises(ImageError, match="several frames or pages"):
        read_target(tmp_path / "a.tif", MASK)


def test_resizing_mixes_nothing() -> None:
    target = np.array([[0, 3], [-1, 2]])
    assert to_size(target, MASK, 4).tolist() == [[0, 0, 3, 3], [0, 0, 3, 3], [-1, -1, 2, 2], [-1, -1, 2, 2]]
    assert to_size(np.arange(36).reshape(6, 6), MASK, 2).tolist() == [[7, 10], [25, 28]]
    assert to_size(np.arange(6, dtype=np.float32).reshape(2, 3), FAR, 3).shape == (1, 3, 3)
    vectors = np.arange(12, dtype=np.float32).reshape(2, 2, 3)
    assert to_size(vectors, FACING, 2).tolist() == np.moveaxis(vectors, 2, 0).tolist()


def maps_of(folder: Path) -> LabelTable:
    save(folder, CLASSES, "m.npy")
    save(folder, np.full((4, 4), 2000.0), "d.npy")
    save(folder, np.tile([0.0, 0.0, 1.0], (4, 4, 1)), "n.npy")
    maps = {"mask": (None, "m.npy"), "far": ("d.npy", None), "facing": ("n.npy", None)}
    return LabelTable(("a", "b"), {}, TaskSet((MASK, FAR, FACING)), ("row 2", "row 3"), maps, folder)


def test_a_column_of_maps_becomes_one_tensor(tmp_path: Path) -> None:
    table = maps_of(tmp_path)
    found = load_labels(table, 6)
    assert {name: (value.shape, value.dtype) for name, value in found.items()} == {
        "mask": ((2, 6, 6), torch.int16),
        "far": ((2, 1, 6, 6), torch.float32),
        "facing": ((2, 3, 6, 6), torch.float16),
    }
    for task in table.tasks:
        known = KINDS[task.kind].known(as_labels(found[task.name]))
        unlabelled = 0 if task is MASK else 1
        assert not known[unlabelled].any()
        assert torch.equal(found[task.name][unlabelled], empty_maps(task, 1, 6)[0])
    assert (found["far"][0] == 2).all()
    assert as_labels(found["mask"])[1, 0].tolist() == [0, 1, 1, 2, 2, 2]
    assert as_labels(found["mask"]).dtype is torch.int64
    assert as_labels(found["facing"])[0, :, 0, 0].tolist() == [0, 0, 1]


def test_all_maps_that_cannot_be_read_are_listed_with_their_rows(tmp_path: Path) -> None:
    table = maps_of(tmp_path)
    save(tmp_path, np.array([[7]]), "m.npy")
    (tmp_path / "d.npy").unlink()
    with pytest.raises(InputError) as caught:
        load_labels(table, 6)
    assert [fault.split(":")[0] for fault in caught.value.faults] == ["row 2", "row 3"]
    assert "'d.npy' cannot be read" in caught.value.faults[0]
    assert "'m.npy' holds 7, expected classes from 0 to 3" in caught.value.faults[1]


@pytest.mark.parametrize("orientation", range(2, 9))
def test_a_map_is_turned_as_its_photo_is(orientation: int, tmp_path: Path) -> None:
    numbers = np.arange(48, dtype=np.uint8).reshape(6, 8)
    picture = Image.fromarray(numbers)
    upright = np.asarray(picture.transpose(TURNS[orientation]))
    assert np.array_equal(turned(numbers, orientation), upright)
    indices = palette(numbers)
    for name, image in {"a.png": picture, "b.tif": picture, "c.bmp": picture, "d.png": indices}.items():
        released = turned_map(save(tmp_path, image, name).read_bytes(), orientation)
        assert np.array_equal(stored_array(released), upright)
        with Image.open(tmp_path / name) as before, Image.open(io.BytesIO(released)) as after:
            assert (before.format, before.mode, before.getpalette()) == (after.format, after.mode, after.getpalette())
    deep = Image.fromarray(numbers.astype(np.uint16) * 257)
    assert np.array_equal(
        stored_array(turned_map(save(tmp_path, deep, "e.png").read_bytes(), orientation)),
        upright.astype(np.uint16) * 257,
    )
    for index, array in enumerate((numbers, numbers[..., None], np.stack([numbers] * 3))):
        path = save(tmp_path, array, f"{index}.npy")
        released = turned_map(path.read_bytes(), orientation)
        assert np.array_equal(single_channel(stored_array(released)), upright)
        assert np.load(io.BytesIO(released)).ndim == array.ndim


def test_grey_in_three_channels_is_a_mask(tmp_path: Path) -> None:
    three = np.repeat(CLASSES.astype(np.uint8)[..., None], 3, axis=2)
    assert read_target(save(tmp_path, Image.fromarray(three), "a.png"), MASK).tolist() == INDICES
    opaque = Image.fromarray(three).convert("RGBA")
    assert read_target(save(tmp_path, opaque, "b.png"), MASK).tolist() == INDICES
