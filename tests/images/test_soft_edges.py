"""Which grey masks have soft edges."""

import io

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image, ImageDraw

from mtlue_cli.images.soft_edges import soft_numbers

Mask = npt.NDArray[np.uint8]


def drawn(levels: list[int], seed: int = 0) -> Mask:
    """Discs and rectangles of some levels on the first of them."""
    rng = np.random.default_rng(seed)
    picture = Image.new("L", (120, 90), levels[0])
    draw = ImageDraw.Draw(picture)
    for index in range(12):
        x, y, side = (int(rng.integers(low, high)) for low, high in ((0, 100), (0, 70), (12, 40)))
        shape = draw.ellipse if index % 2 else draw.rectangle
        shape((x, y, x + side, y + side), fill=levels[1 + index % (len(levels) - 1)])
    return np.asarray(picture)


def resized(mask: Mask, side: int) -> Mask:
    return np.asarray(Image.fromarray(mask).resize((side, side), Image.Resampling.BILINEAR))


def compressed(mask: Mask, quality: int) -> Mask:
    stream = io.BytesIO()
    Image.fromarray(mask).save(stream, "JPEG", quality=quality)
    return np.asarray(Image.open(stream))


CLEAN = {
    "black and white": [0, 255],
    "three levels": [0, 128, 255],
    "indices": list(range(12)),
    "indices and outline": [*range(0, 20), 255],
    "many indices": list(range(0, 180, 17)),
    "two indices": [0, 1],
}


@pytest.mark.parametrize("what", CLEAN)
def test_clean_masks_are_not_soft(what: str) -> None:
    assert soft_numbers([drawn(CLEAN[what], seed) for seed in range(3)]) == ()


@pytest.mark.parametrize("what", ["black and white", "three levels"])
@pytest.mark.parametrize("how", ["larger", "smaller", "jpeg 90", "jpeg 95"])
def test_smoothed_masks_are_soft(what: str, how: str) -> None:
    masks = [drawn(CLEAN[what], seed) for seed in range(3)]
    changed = {
        "larger": [resized(mask, 200) for mask in masks],
        "smaller": [resized(mask, 70) for mask in masks],
        "jpeg 90": [compressed(mask, 90) for mask in masks],
        "jpeg 95": [compressed(mask, 95) for mask in masks],
    }
    soft = soft_numbers(changed[how])
    assert len(soft) > 2
    assert not set(soft) & {0, 255}


def test_thin_lines_and_points_are_classes() -> None:
    lines = np.zeros((60, 80), np.uint8)
    lines[10] = lines[:, 20] = 255
    lines[20, 30::4] = 128
    assert soft_numbers([lines]) == ()
    points = np.zeros((60, 80), np.uint8)
    points[5::10, 5::10] = np.arange(1, 49).reshape(6, 8)
    assert soft_numbers([points]) == ()


def test_photos_depths_and_tiny_masks_are_not_soft_masks() -> None:
    rng = np.random.default_rng(0)
    ramp = np.tile(np.arange(0, 240, 2, dtype=np.uint8), (60, 1))
    assert soft_numbers([rng.integers(0, 256, (60, 80)).astype(np.uint8)]) == ()
    assert soft_numbers([ramp]) == ()
    assert soft_numbers([np.kron(ramp[:20], np.ones((4, 4), np.uint8))]) == ()
    assert soft_numbers([np.array([[0, 9, 255]], np.uint8)]) == ()
