"""Grey masks with soft edges: numbers that smoothing or compression has put between the classes."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from mtlue_cli.images.arrays import Array

_LEVELS = 256
_NEAR = 40
"""Distance up to which a number may be a level that compression changed."""
_APART = 16
"""Least distance of levels at which a change by compression is recognised."""
_HALF = 128


def soft_numbers(masks: Sequence[Array]) -> tuple[int, ...]:
    """The numbers of grey masks that smoothing or compression must have made; none if the masks are clean.

    A class fills areas: somewhere all pixels of a square of three are of it. A number that smoothing made stands along
    edges alone. JPEG fills small areas too, but none that is larger than its blocks, and with numbers close to the
    levels of the mask. Most pixels of a mask lie in such squares, which those of a photo or a depth map do not.

    Args:
        masks: ``(h, w)`` whole numbers from 0 to 255.
    """
    filling, blocks = np.zeros(_LEVELS, dtype=bool), np.zeros(_LEVELS, dtype=bool)
    counts, between = np.zeros(_LEVELS, dtype=np.int64), np.zeros(_LEVELS, dtype=np.int64)
    flat = looked_at = 0
    for mask in masks:
        if min(mask.shape) < 3:
            continue
        numbers = mask.astype(np.uint8)
        low, high = _of_squares(numbers, np.minimum), _of_squares(numbers, np.maximum)
        inner = numbers[1:-1, 1:-1]
        filling[inner[low == high]] = True
        counts += np.bincount(inner.ravel(), minlength=_LEVELS)
        between += np.bincount(inner[(low < inner) & (inner < high)], minlength=_LEVELS)
        flat += int((low == high).sum())
        looked_at += inner.size
        for _ in range(3):  # squares of nine
            if min(low.shape) >= 3:
                low, high = _of_squares(low, np.minimum), _of_squares(high, np.maximum)
        blocks[low[low == high]] = True
    present = np.flatnonzero(counts)
    if 2 * flat < looked_at or len(present) < 3:
        return ()
    spread = present[-1] >= _HALF
    areas = np.flatnonzero(filling)
    near = np.abs(present[:, None] - areas).min(axis=1) <= _NEAR
    soft = present[~filling[present] & ((2 * between[present] >= counts[present]) | (near & spread))]
    if len(soft) >= max(2, len(areas)):
        return tuple(soft.tolist())
    levels = np.flatnonzero(blocks)
    others = np.setdiff1d(present, levels)
    if not spread or len(levels) < 2 or np.diff(levels).min() < _APART or len(others) < 2 * len(levels):
        return ()
    near = np.abs(others[:, None] - levels).min(axis=1) <= _NEAR
    compressed = near.all() and ((others >= _HALF) & (others < levels[-1])).any()
    return tuple(others.tolist()) if compressed else ()


def _of_squares(numbers: npt.NDArray[np.uint8], chosen: np.ufunc) -> npt.NDArray[np.uint8]:
    """The least or greatest number of each square of three."""
    rows = chosen(chosen(numbers[:-2], numbers[1:-1]), numbers[2:])
    found: npt.NDArray[np.uint8] = chosen(chosen(rows[:, :-2], rows[:, 1:-1]), rows[:, 2:])
    return found
