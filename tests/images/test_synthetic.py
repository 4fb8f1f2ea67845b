import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mtlue_cli.images.synthetic import COLOURS, SHAPES, TEXTURES, DrawnImage, draw_image, draw_set


@pytest.fixture(scope="module")
def drawn() -> list[DrawnImage]:
    return [draw_image(np.random.default_rng([5, index]), 48) for index in range(200)]


def test_every_class_of_every_task_occurs(drawn: list[DrawnImage]) -> None:
    assert {image.labels["shape"] for image in drawn} == set(SHAPES)
    assert {image.labels["colour"] for image in drawn} == set(COLOURS)
    assert {image.labels["texture"] for image in drawn} == set(TEXTURES)


def test_mean_colour_inside_the_shape_is_nearest_to_its_label(drawn: list[DrawnImage]) -> None:
    names = list(COLOURS)
    palette = np.array([COLOURS[name] for name in names], dtype=float)
    palette -= palette.mean(axis=1, keepdims=True)
    palette /= np.linalg.norm(palette, axis=1, keepdims=True)
    nearest: list[bool] = []
    for image in drawn:
        mean = image.pixels[image.inside].mean(axis=0)
        nearest.append(names[int(np.argmax(palette @ (mean - mean.mean())))] == image.labels["colour"])
    assert np.mean(nearest) > 0.9


def test_area_over_squared_reach_tells_the_shape(drawn: list[DrawnImage]) -> None:
    # Area of each outline inscribed in a circle of radius 1: pi, 2, 1.30 (triangle), 1.23 (star).
    expected = {"circle": 3.14, "square": 2.0, "triangle": 1.30, "star": 1.23}
    ratios: dict[str, list[float]] = {shape: [] for shape in SHAPES}
    for image in drawn:
        rows, columns = np.nonzero(image.inside)
        # The centroid of all four is the centre of their circle.
        reach = np.hypot(rows - rows.mean(), columns - columns.mean()).max() + 0.7
        ratios[image.labels["shape"]].append(len(rows) / reach**2)
    for shape, values in ratios.items():
        assert np.median(values) == pytest.approx(expected[shape], rel=0.12), shape


def test_shape_lies_within_the_image(drawn: list[DrawnImage]) -> None:
    for image in drawn:
        edge = np.concatenate([image.inside[0], image.inside[-1], image.inside[:, 0], image.inside[:, -1]])
        assert not edge.all()
        assert image.inside.sum() > 40


def test_two_images_of_the_same_labels_differ(drawn: list[DrawnImage]) -> None:
    by_labels: dict[tuple[str, ...], list[DrawnImage]] = {}
    for image in drawn:
        by_labels.setdefault(tuple(image.labels.values()), []).append(image)
    pairs = [images[:2] for images in by_labels.values() if len(images) > 1]
    assert pairs
    for first, second in pairs:
        assert np.abs(first.pixels.astype(int) - second.pixels.astype(int)).mean() > 5


def test_set_is_the_same_under_the_same_seed(tmp_path: Path) -> None:
    first = draw_set(tmp_path / "a", 6, size=32, seed=3)
    again = draw_set(tmp_path / "b", 6, size=32, seed=3)
    other = draw_set(tmp_path / "c", 6, size=32, seed=4)
    names = sorted(path.name for path in first.parent.glob("*.png"))
    assert len(names) == 6
    for name in names:
        assert (first.parent / name).read_bytes() == (again.parent / name).read_bytes()
        assert (first.parent / name).read_bytes() != (other.parent / name).read_bytes()
    assert first.read_bytes() == again.read_bytes()


def test_label_file_describes_the_images_beside_it(tmp_path: Path) -> None:
    calls: list[int] = []
    labels = draw_set(tmp_path, 5, size=40, seed=1, on_image=lambda: calls.append(1))
    with labels.open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == len(calls) == 5
    for index, row in enumerate(rows):
        expected = draw_image(np.random.default_rng([1, index]), 40)
        with Image.open(tmp_path / row["file_name"]) as image:
            assert image.mode == "RGB"
            assert np.array_equal(np.asarray(image), expected.pixels)
        assert {name: row[name] for name in ("shape", "colour", "texture")} == expected.labels
