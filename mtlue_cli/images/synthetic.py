"""A small labelled image set drawn by program, for the demo and for tests where no photos are at hand."""

import csv
import io
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from mtlue_cli.files import write_atomically

COLOURS: Mapping[str, tuple[int, int, int]] = {
    "red": (158, 114, 112),
    "green": (117, 147, 120),
    "blue": (110, 121, 152),
    "yellow": (146, 138, 100),
    "violet": (132, 110, 142),
}
SHAPES = ("circle", "square", "star", "triangle")
_SPOKES = {
    "square": (4, (1.0,), -math.pi / 4),
    "star": (10, (1.0, 0.42), -math.pi / 2),
    "triangle": (3, (1.0,), -math.pi / 2),
}
"""Number of corners, their distances from the centre in turn, and the angle of the first."""
TEXTURES = ("checks", "plain", "stripes")
LABELS_FILE = "labels.csv"

_OVERSAMPLING = 2
_NOISE = 3.6
_CONTRAST = 0.18
"""Share of the drawn contrast that is left, as in fog. At full contrast, plain colours are learned faster than any
perturbation of 8/255: nothing could protect them."""
_COLOUR_JITTER = 8
_LUMINANCE_JITTER = 80
_LARGEST_TURN = math.radians(12)
_LARGEST_SHIFT = 0.1


@dataclass(frozen=True)
class DrawnImage:
    """One drawn image with what is known of it.

    Attributes:
        pixels: ``(S, S, 3)`` uint8 RGB.
        inside: ``(S, S)`` bool, true where the shape covers the whole pixel.
        labels: Class names of the tasks ``shape``, ``colour`` and ``texture``.
    """

    pixels: npt.NDArray[np.uint8]
    inside: npt.NDArray[np.bool_]
    labels: Mapping[str, str]


def draw_image(rng: np.random.Generator, size: int = 64) -> DrawnImage:
    """One coloured shape on a textured background, ``size`` pixels wide and high.

    Classes are drawn uniformly and independently. Position, size, angle, exact colour, background colours, small grey
    distractors, brightness and noise vary.
    """
    shape = SHAPES[rng.integers(len(SHAPES))]
    colour = tuple(COLOURS)[rng.integers(len(COLOURS))]
    texture = TEXTURES[rng.integers(len(TEXTURES))]
    side = size * _OVERSAMPLING

    canvas = Image.fromarray(_background(rng, texture, side))
    pen = ImageDraw.Draw(canvas)
    for _ in range(rng.integers(1, 4)):
        x, y = rng.uniform(0, side, 2)
        reach = rng.uniform(0.02, 0.05) * side
        grey = int(rng.integers(30, 226))
        pen.rectangle((x - reach, y - reach, x + reach, y + reach), fill=(grey, grey, grey))

    stencil = Image.new("L", (side, side))
    pen = ImageDraw.Draw(stencil)
    (pen.ellipse if shape == "circle" else pen.polygon)(_outline(rng, shape, side), fill=255)
    shade = np.array(COLOURS[colour]) + rng.integers(-_COLOUR_JITTER, _COLOUR_JITTER + 1, 3)
    shade = np.clip(shade + rng.integers(-_LUMINANCE_JITTER, _LUMINANCE_JITTER + 1), 0, 255)
    canvas.paste(tuple(int(value) for value in shade), mask=stencil)

    small = np.asarray(canvas.resize((size, size), Image.Resampling.BOX), dtype=np.float32)
    faded = rng.uniform(110.0, 145.0) + _CONTRAST * (small - 128.0)
    noisy = faded + rng.normal(0.0, _NOISE, small.shape)
    inside = np.asarray(stencil.resize((size, size), Image.Resampling.BOX)) == 255
    return DrawnImage(
        np.clip(np.rint(noisy), 0, 255).astype(np.uint8),
        inside,
        {"shape": shape, "colour": colour, "texture": texture},
    )


def draw_set(
    folder: Path, count: int, *, size: int = 64, seed: int = 0, on_image: Callable[[], None] | None = None
) -> Path:
    """Draw ``count`` PNG files of ``size`` pixels into ``folder`` and write their labels, last, beside them.

    Image ``i`` depends on ``size``, ``i`` and ``seed``, a whole number from 0. ``on_image`` is called after each image.

    Returns:
        The label file.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rows: list[list[str]] = []
    for index in range(count):
        drawn = draw_image(np.random.default_rng([seed, index]), size)
        name = f"{index:05d}.png"
        Image.fromarray(drawn.pixels).save(folder / name, compress_level=1)
        rows.append([name, *drawn.labels.values()])
        if on_image is not None:
            on_image()
    return write_labels(folder, ("file_name", "shape", "colour", "texture"), rows)


def write_labels(folder: Path, header: Sequence[str], rows: Iterable[Sequence[str]]) -> Path:
    """Write the label file of a drawn set atomically; where it stands, the set is whole."""
    table = io.StringIO(newline="")
    csv.writer(table).writerows([header, *rows])
    labels = folder / LABELS_FILE
    write_atomically(labels, table.getvalue().encode())
    return labels


def _outline(rng: np.random.Generator, shape: str, side: int) -> list[tuple[float, float]]:
    """Corners of ``shape`` in oversampled pixels, turned and moved at random within the canvas.

    A circle has but two: those of the square around it.
    """
    radius = rng.uniform(0.26, 0.38) * side
    x, y = rng.uniform((0.5 - _LARGEST_SHIFT) * side, (0.5 + _LARGEST_SHIFT) * side, 2)
    if shape == "circle":
        return [(x - radius, y - radius), (x + radius, y + radius)]
    corners, lengths, upright = _SPOKES[shape]
    turn = upright + rng.uniform(-_LARGEST_TURN, _LARGEST_TURN)
    reach = radius * np.resize(lengths, corners)
    angles = turn + 2.0 * math.pi * np.arange(corners) / corners
    outline: list[tuple[float, float]] = list(zip(x + reach * np.cos(angles), y + reach * np.sin(angles), strict=True))
    return outline


def _background(rng: np.random.Generator, texture: str, side: int) -> npt.NDArray[np.uint8]:
    """``(side, side, 3)`` uint8: two muted colours in a turned, shifted pattern."""
    first = rng.uniform(100, 160) + rng.uniform(-20, 20, 3)
    second = first + rng.choice([-1.0, 1.0]) * rng.uniform(50, 90) + rng.uniform(-12, 12, 3)
    turn = rng.uniform(-0.35, 0.35)
    period = rng.uniform(0.2, 0.3) * side
    shift = rng.uniform(0.0, period, 2)
    rows, columns = np.mgrid[0:side, 0:side].astype(np.float32)
    along = (columns * math.cos(turn) + rows * math.sin(turn) + shift[0]) / period % 1.0
    across = (rows * math.cos(turn) - columns * math.sin(turn) + shift[1]) / period % 1.0
    on = {"stripes": along < 0.5, "checks": (along < 0.5) ^ (across < 0.5), "plain": along < 0}[texture]
    mixed = np.where(on[..., None], first, second)
    return np.clip(np.rint(mixed), 0, 255).astype(np.uint8)
