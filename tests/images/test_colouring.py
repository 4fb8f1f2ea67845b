import numpy as np
import pytest

from mtlue_cli.choices import TaskKind
from mtlue_cli.images.colouring import UNKNOWN, coloured, palette
from mtlue_cli.tasks.spec import Task, numbered_classes

MASK = Task("mask", TaskKind.SEGMENTATION, numbered_classes(12))
FAR = Task("far", TaskKind.DEPTH, ())
FACING = Task("facing", TaskKind.NORMALS, ())


def test_a_class_has_one_colour_in_every_picture() -> None:
    colours = palette(20)
    assert len(np.unique(colours, axis=0)) == 20
    assert np.array_equal(palette(5), colours[:5])
    picture = coloured(np.array([[0, 11, -1]]), MASK)
    assert picture.tolist() == [[colours[0].tolist(), colours[11].tolist(), list(UNKNOWN)]]
    assert np.array_equal(coloured(np.array([[0, 11, -1]], dtype=np.int16), MASK), picture)


def test_no_two_classes_of_a_usual_set_look_alike() -> None:
    colours = palette(13).astype(int)
    apart = [np.abs(colours[a] - colours[b]).max() for a in range(13) for b in range(a)]
    assert min(apart) > 20


def test_nearer_is_brighter() -> None:
    depth = np.linspace(1, 9, 50, dtype=np.float32).reshape(5, 10)
    depth[0, 0] = 0
    picture = coloured(depth, FAR)
    brightness = (picture @ np.array([0.299, 0.587, 0.114])).ravel()[1:]
    assert tuple(picture[0, 0]) == UNKNOWN
    assert (np.diff(brightness) <= 0.5).all()
    assert brightness[0] - brightness[-1] > 150
    assert np.array_equal(coloured(depth[None], FAR), picture)
    assert coloured(np.zeros((2, 2)), FAR).tolist() == np.full((2, 2, 3), UNKNOWN).tolist()


def test_normals_are_shifted_into_colours() -> None:
    normals = np.array([[[0, 0, 1], [-1, 0, 0], [0, 0, 0], [0, 1, 0]]], dtype=np.float32)
    picture = coloured(normals, FACING)
    assert picture[0, :2].tolist() == [[128, 128, 255], [0, 128, 128]]
    assert tuple(picture[0, 2]) == UNKNOWN
    assert np.array_equal(coloured(np.moveaxis(normals, 2, 0), FACING), picture)


@pytest.mark.parametrize(
    ("shape", "task"),
    [((4, 4), MASK), ((1, 4, 4), FAR), ((3, 4, 4), FACING)],
    ids=lambda value: str(value)[:12],
)
def test_a_target_of_a_loop_becomes_a_picture(shape: tuple[int, ...], task: Task) -> None:
    assert coloured(np.ones(shape, dtype=np.float32), task).shape == (4, 4, 3)
