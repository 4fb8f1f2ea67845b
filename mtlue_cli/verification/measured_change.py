"""How far a saved image is from its original, measured on decoded pixels."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mtlue_cli.errors import ImageError
from mtlue_cli.images.decode import decode_image
from mtlue_cli.images.encode import comparable_pixels, same_alpha
from mtlue_cli.perturbation.apply import measure_change


@dataclass(frozen=True)
class FileChange:
    """What a release did to one image.

    Attributes:
        largest: Largest absolute difference of a colour value, in 255ths.
        source_format: Pillow's name of the original's file format.
    """

    largest: float
    source_format: str


def compare_files(original: Path, released: Path) -> FileChange:
    """Compare two images, both upright.

    Raises:
        ImageError: A file cannot be decoded.
        ValueError: The images differ in size, depth or alpha, so that there is nothing to compare.
    """
    before = decode_image(original)
    try:
        after = decode_image(released)
    except ImageError as error:
        raise ImageError(f"the released file {error}") from error
    # A format without grey repeats it in three channels.
    pixels = comparable_pixels(before.pixels, after.pixels)
    if pixels.shape != after.pixels.shape or pixels.dtype != after.pixels.dtype:
        raise ValueError(f"{_described(after.pixels)}, its original {_described(before.pixels)}")
    if not same_alpha(before.alpha, after.alpha):
        raise ValueError("its alpha is not the original's")
    return FileChange(measure_change(pixels, after.pixels).largest, before.format)


def _described(pixels: np.ndarray[tuple[int, ...], np.dtype[np.generic]]) -> str:
    colour = "grey" if pixels.ndim == 2 else "colour"
    return f"{pixels.shape[1]} x {pixels.shape[0]} pixels of {pixels.dtype.itemsize * 8}-bit {colour}"
