"""How visible a change is to a viewer who flips between the two images: FLIP."""

import math
from collections.abc import Iterable
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
from msgspec import Meta

from mtlue_cli.documents import Document

PIXELS_PER_DEGREE = 67
"""Pixels in a degree of the viewer's sight: a 4K monitor, 0.7 m wide, seen from 0.7 m."""

SAMPLE = 24
"""Images that a mean runs over."""

TILE = 128
"""Side of a tile in pixels."""

GRID = 4
"""Tiles along each side of an image."""

WHOLE = GRID * GRID * TILE * TILE
"""Pixels of the largest image that is judged whole, as many as all tiles have."""

SCALE = "0 = identical, uniform noise of 8 levels 0.05"
"""How to read the figure."""


class MeanFlip(Document, frozen=True, forbid_unknown_fields=True):
    """Mean FLIP of a sample.

    Attributes:
        mean: Mean over the images, from 0 (identical) to 1.
        files: Images that were measured; one that cannot be read, or has another size than its original, is left out.
        pixels_per_degree: Pixels per degree of visual angle.
    """

    mean: Annotated[float, Meta(ge=0, lt=1e9)]
    files: Annotated[int, Meta(ge=0, lt=10**9)]
    pixels_per_degree: Annotated[int, Meta(ge=0, lt=10**9)] | Annotated[float, Meta(ge=0, lt=1e9)] = PIXELS_PER_DEGREE

    def described(self, how: str = "mean") -> str:
        """The figure in words; ``how`` says which mean it is."""
        return f"{self.mean:.3f} ({how} of {self.files} files; {SCALE})"


def flip(original: npt.NDArray[Any], released: npt.NDArray[Any]) -> float:
    """Mean FLIP over the pixels of an image, in [0, 1]; 0 for equal images.

    An image of more than :data:`WHOLE` pixels is judged at full resolution on 16 tiles of at most 128 x 128 pixels,
    on a grid of four by four. Grey counts as three equal channels.

    Args:
        original: ``(H, W)`` or ``(H, W, 3)``, uint8 or uint16, or floating point in [0, 1]; sRGB.
        released: The same shape and type.

    Raises:
        ValueError: The images differ in shape or type.

    Source: Andersson, Nilsson, Akenine-Möller, Oskarsson, Åström and Fairchild, "FLIP: A Difference Evaluator for
    Alternating Images", HPG 2020, as the authors' package computes it. The tiles are ours: on a photo of 12 megapixels
    they take 0.4 seconds of one core, the whole takes half a minute.
    """
    import flip_evaluator

    if original.shape != released.shape or original.dtype != released.dtype:
        raise ValueError(f"{released.shape} of {released.dtype}, the original is {original.shape} of {original.dtype}")
    options = {"applyMagma": False, "computeMeanError": False, "parameters": {"ppd": float(PIXELS_PER_DEGREE)}}
    means: list[float] = []
    for tile in tiles(*original.shape[:2]):
        pair = _as_colour(original[tile]), _as_colour(released[tile])
        means.append(float(np.mean(flip_evaluator.evaluate(*pair, "LDR", **options)[0], dtype=np.float64)))
    return sum(means) / len(means)


def tiles(height: int, width: int) -> list[tuple[slice, slice]]:
    """Rows and columns of what is judged of an image: all of it, or a grid of tiles."""
    if height * width <= WHOLE:
        return [(slice(height), slice(width))]
    return [(rows, columns) for rows in _middles(height) for columns in _middles(width)]


def sampled(names: Iterable[str], most: int = SAMPLE) -> list[str]:
    """At most ``most`` of ``names``, evenly spaced in sorted order: the same names give the same sample."""
    ordered = sorted(names)
    kept = min(len(ordered), most)
    return [ordered[number * len(ordered) // kept] for number in range(kept)]


def mean_flip(pairs: Iterable[tuple[npt.NDArray[Any], npt.NDArray[Any]]]) -> MeanFlip | None:
    """Mean over pairs of an original and its released version; None if there is no pair."""
    values = [flip(original, released) for original, released in pairs]
    return MeanFlip(math.fsum(values) / len(values), len(values)) if values else None


def _middles(length: int) -> list[slice]:
    """Along one side of an image: a tile in the middle of each of :data:`GRID` equal parts."""
    tile = min(TILE, max(length // GRID, 1))
    middles = (length * (2 * part + 1) // (2 * GRID) for part in range(GRID))
    starts = dict.fromkeys(min(max(middle - tile // 2, 0), length - tile) for middle in middles)
    return [slice(start, start + tile) for start in starts]


def _as_colour(pixels: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """``(H, W, 3)`` float32 in [0, 1], contiguous."""
    limit = np.iinfo(pixels.dtype).max if pixels.dtype.kind == "u" else 1
    scaled = pixels.astype(np.float32) / np.float32(limit)
    return np.ascontiguousarray(np.broadcast_to(scaled[..., None], (*scaled.shape, 3)) if scaled.ndim == 2 else scaled)
