"""How far a saved image is from its original: measured on decoded pixels, and as a manifest says."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mtlue_cli.errors import ImageError
from mtlue_cli.images.decode import decode_image
from mtlue_cli.images.encode import comparable_pixels, same_alpha
from mtlue_cli.manifest import FileRecord
from mtlue_cli.perturbation.effect import (
    LEAST_SHARE,
    Change,
    is_changed,
    is_less_than_recorded,
    least_mean_change,
    measure_change,
)


@dataclass(frozen=True)
class FileChange:
    """What a release did to one image.

    Attributes:
        change: How far it is from its original.
        source_format: Pillow's name of the original's file format.
    """

    change: Change
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
    return FileChange(measure_change(pixels, after.pixels), before.format)


def record_faults(record: FileRecord, epsilon: int) -> list[str]:
    """Why a file is not protected by its own record, a line each; epsilon in 255ths."""
    name = record.file_name
    if record.max_change == 0 or record.psnr is None or record.sha256 == record.source_sha256:
        return [f"{name}: is its original, unchanged: protect it again"]
    faults: list[str] = []
    if record.share is not None and record.share < LEAST_SHARE:
        faults.append(f"{name}: carries {record.share:.0%} of its perturbation, at least {LEAST_SHARE:.0%} is needed")
    if record.mean_change is not None and record.mean_change < least_mean_change(epsilon):
        faults.append(_too_little(name, record.mean_change, epsilon))
    return faults


def change_faults(record: FileRecord, change: Change, epsilon: int) -> list[str]:
    """Why a file is not protected by what was measured of it, a line each; epsilon in 255ths."""
    name = record.file_name
    if change.largest == 0:
        return [f"{name}: is its original, unchanged: protect it again"]
    faults = [] if is_changed(change, epsilon) else [_too_little(name, change.mean, epsilon)]
    if record.mean_change is not None and is_less_than_recorded(change.mean, record.mean_change):
        faults.append(f"{name}: changed by {change.mean:.2f}/255 on average, {record.mean_change:.2f} is recorded")
    return faults


def _too_little(name: str, mean: float, epsilon: int) -> str:
    least = least_mean_change(epsilon)
    return f"{name}: changed by {mean:.2f}/255 on average, at least {least:.2f} is needed: protect it again"


def _described(pixels: np.ndarray[tuple[int, ...], np.dtype[np.generic]]) -> str:
    colour = "grey" if pixels.ndim == 2 else "colour"
    return f"{pixels.shape[1]} x {pixels.shape[0]} pixels of {pixels.dtype.itemsize * 8}-bit {colour}"
