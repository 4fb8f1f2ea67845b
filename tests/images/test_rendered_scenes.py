"""What is said of a scene's pixels holds together: depth and normals are two views of one geometry."""

from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mtlue_cli.choices import TaskKind
from mtlue_cli.images.labelled import read_folder_labels
from mtlue_cli.images.rendered_scenes import (
    BOX,
    CLASSES,
    DEPTH_UNIT,
    FARTHEST,
    GROUND,
    SCENE_TASKS,
    SKY,
    SPHERE,
    RenderedScene,
    camera_rays,
    render_scene,
    write_scenes,
)
from mtlue_cli.images.targets import read_target
from mtlue_cli.tasks.declared import parse_declarations
from mtlue_cli.tasks.label_options import LabelOptions

SIZE = 64


@dataclass(frozen=True)
class Scenes:
    """Several scenes: ``(N, S, S)`` and ``(N, S, S, 3)``."""

    images: np.ndarray
    classes: np.ndarray
    depth: np.ndarray
    normals: np.ndarray


def render(count: int, size: int, seed: int) -> Scenes:
    made = [render_scene(np.random.default_rng([seed, index]), size) for index in range(count)]
    return Scenes(*(np.stack([getattr(scene, part.name) for scene in made]) for part in fields(RenderedScene)))


@pytest.fixture(scope="module")
def scenes() -> Scenes:
    return render(30, SIZE, 3)


def points(scenes: Scenes) -> np.ndarray:
    """``(N, S, S, 3)`` what each pixel shows, in space."""
    seen: np.ndarray = camera_rays(SIZE).astype(np.float64)[None] * scenes.depth[..., None]
    return seen


def inner(scenes: Scenes) -> np.ndarray:
    """Pixels whose neighbours on the right and below are of the same flat surface."""
    same = np.ones((len(scenes.classes), SIZE - 1, SIZE - 1), dtype=bool)
    here = np.s_[:, :-1, :-1]
    for there in (np.s_[:, :-1, 1:], np.s_[:, 1:, :-1]):
        same &= scenes.classes[here] == scenes.classes[there]
        same &= (scenes.normals[here] * scenes.normals[there]).sum(axis=3) > 0.9999
    return same


def test_shapes_types_and_what_is_unknown(scenes: Scenes) -> None:
    found = [(part.dtype.name, part.shape) for part in (scenes.images, scenes.classes, scenes.depth, scenes.normals)]
    assert found == [
        ("uint8", (30, SIZE, SIZE, 3)),
        ("uint8", (30, SIZE, SIZE)),
        ("float32", (30, SIZE, SIZE)),
        ("float32", (30, SIZE, SIZE, 3)),
    ]
    sky = scenes.classes == SKY
    assert (scenes.depth[sky] == 0).all()
    assert (scenes.normals[sky] == 0).all()
    seen = scenes.depth[~sky]
    assert seen.min() > 0.5
    assert seen.max() < FARTHEST
    lengths = np.linalg.norm(scenes.normals, axis=3)[~sky]
    assert np.allclose(lengths, 1, atol=1e-3)


def test_every_class_is_common(scenes: Scenes) -> None:
    shares = np.bincount(scenes.classes.ravel(), minlength=len(CLASSES)) / scenes.classes.size
    assert shares.min() > 0.05


def test_what_is_seen_faces_the_camera(scenes: Scenes) -> None:
    facing = (scenes.normals * points(scenes)).sum(axis=3)[scenes.classes != SKY]
    assert facing.max() < 1e-3


def test_neighbouring_points_of_flat_surfaces_lie_across_their_normal(scenes: Scenes) -> None:
    place, normals = points(scenes), scenes.normals.astype(np.float64)
    flat = inner(scenes) & np.isin(scenes.classes[:, :-1, :-1], (GROUND, BOX))
    across = np.cross(place[:, 1:, :-1] - place[:, :-1, :-1], place[:, :-1, 1:] - place[:, :-1, :-1])[flat]
    across /= np.linalg.norm(across, axis=1, keepdims=True)
    cosines = (across * normals[:, :-1, :-1][flat]).sum(axis=1)
    # Two faces of one box can be neighbours with one normal only where another object hides the edge between them.
    assert flat.sum() > 10_000
    assert np.quantile(cosines, 0.002) > 0.999


def test_the_points_of_a_sphere_lie_on_one(scenes: Scenes) -> None:
    """Going back along the normal by the radius leads to one centre from every point."""
    place, normals = points(scenes), scenes.normals.astype(np.float64)
    checked = 0
    for scene in range(len(scenes.classes)):
        ball = scenes.classes[scene] == SPHERE
        row, column = (int(np.median(axis)) for axis in np.nonzero(ball)) if ball.sum() > 150 else (0, 0)
        if not ball[row, column]:
            continue
        window = np.s_[max(row - 2, 0) : row + 3, max(column - 2, 0) : column + 3]
        if not ball[window].all():
            continue
        spots, outward = place[scene][window].reshape(-1, 3), normals[scene][window].reshape(-1, 3)
        spread, turn = spots - spots.mean(axis=0), outward - outward.mean(axis=0)
        radius = (spread * turn).sum() / (turn**2).sum()
        left = np.linalg.norm(spread - radius * turn, axis=1).max()
        checked += left < 1e-3 * radius
        assert 0.25 < radius < 0.85 or left > 0.1
    assert checked >= 8


def test_a_scene_depends_on_seed_and_place_alone() -> None:
    few, many = render(3, 24, 5), render(70, 24, 5)
    for part in ("images", "classes", "depth", "normals"):
        assert np.array_equal(getattr(few, part), getattr(many, part)[:3])
    assert not np.array_equal(few.images, render(3, 24, 6).images)
    assert len({image.tobytes() for image in many.images}) == 70


def test_written_scenes_are_read_as_they_were_rendered(tmp_path: Path) -> None:
    labels = write_scenes(tmp_path / "set", 3, size=32, seed=1)
    rendered = render(3, 32, 1)
    kinds = parse_declarations(SCENE_TASKS)
    table = read_folder_labels(tmp_path / "set", labels, LabelOptions(declarations=kinds)).table
    assert [task.kind for task in table.tasks] == [TaskKind.SEGMENTATION, TaskKind.DEPTH, TaskKind.NORMALS]
    assert table.tasks["segmentation"].num_classes == len(CLASSES)
    for row in range(3):
        found = {
            task.name: read_target(table.maps_folder / str(table.maps[task.name][row]), task) for task in table.tasks
        }
        assert np.array_equal(found["segmentation"], rendered.classes[row])
        assert np.allclose(found["depth"], rendered.depth[row], atol=0.51 * DEPTH_UNIT)
        assert np.allclose(found["normals"], rendered.normals[row], atol=1e-3)
        with Image.open(tmp_path / "set" / table.file_names[row]) as photo:
            assert np.array_equal(np.asarray(photo), rendered.images[row])
