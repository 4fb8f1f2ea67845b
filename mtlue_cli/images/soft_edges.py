"""Grey masks with soft edges: numbers that smoothing or compression has put between the classes."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from mtlue_cli.images.arrays import Array

_LEVELS = 256
_COMMON = 0.01
"""Share of the pixels that makes a number one of the levels of a mask."""
_FEW = 4
_NEAR = 24
"""Distance up to which a rare number may be a level that compression changed."""
_HALF = 128


def soft_numbers(masks: Sequence[Array]) -> tuple[int, ...]:
    """The numbers of grey masks that smoothing or compression must have made; none if the masks are clean.

    A class fills areas: somewhere all pixels of a square of three are of it. A number that smoothing made stands along
    edges alone. Most pixels of a mask lie in such squares, which those of a photo or a depth map do not.

    Args:
        masks: ``(h, w)`` whole numbers from 0 to 255.
    """
    filling = np.zeros(_LEVELS, dtype=bool)
    counts, between = np.zeros(_LEVELS, dtype=np.int64), np.zeros(_LEVELS, dtype=np.int64)
    flat = looked_at = 0
    for mask in masks:
        if min(mask.shape) < 3:
            continue
        numbers = mask.astype(np.uint8)
        low, high = (_of_squares(numbers, chosen) for chosen in (np.minimum, np.maximum))
        inner = numbers[1:-1, 1:-1]
        filling[inner[low == high]] = True
        counts += np.bincount(inner.ravel(), minlength=_LEVELS)
        between += np.bincount(inner[(low < inner) & (inner < high)], minlength=_LEVELS)
        flat += int((low == high).sum())
        looked_at += inner.size
    present = counts > 0
    if 2 * flat < looked_at or present.sum() < 3:
        return ()
    soft = present & ~filling & ((2 * between >= counts) | (np.flatnonzero(present)[-1] >= _HALF))
    if soft.sum() >= max(2, int((present & filling).sum())):
        return tuple(np.flatnonzero(soft).tolist())
    levels = np.flatnonzero(counts >= _COMMON * looked_at)
    rare = np.setdiff1d(np.flatnonzero(present), levels)
    if len(levels) > _FEW or levels[-1] < _HALF or len(rare) < 2 or not ((rare >= _HALF) & (rare < levels[-1])).any():
        return ()
    near = np.abs(rare[:, None] - levels).min(axis=1) <= _NEAR
    return tuple(rare.tolist()) if near.all() else ()


def _of_squares(numbers: npt.NDArray[np.uint8], chosen: np.ufunc) -> npt.NDArray[np.uint8]:
    """The least or greatest number of each square of three."""
    rows = chosen(chosen(numbers[:-2], numbers[1:-1]), numbers[2:])
    found: npt.NDArray[np.uint8] = chosen(chosen(rows[:, :-2], rows[:, 1:-1]), rows[:, 2:])
    return found
