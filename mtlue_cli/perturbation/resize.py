"""Scaling of a perturbation to a photo by an interpolation that cannot exceed the bound."""

import math
import sys
from collections.abc import Iterator
from functools import lru_cache

import numpy as np
import numpy.typing as npt

STEPS = 16
"""A perturbation is rounded to one part in so many of a 255th before it is scaled up: float noise in the network's
last bits then reaches no pixel, but for the rare value beside a rounding edge."""

STRIP_PIXELS = 1 << 19
"""Pixels of a photo that is scaled as bytes, as a whole; larger ones are scaled as numbers, in strips."""

_STRIP = 1 << 13
"""Pixels that are interpolated as numbers at a time, so that they stay in the processor's cache."""

_CACHED_VALUES = 1 << 14
"""Values that are scaled at a time where they should stay in the processor's cache."""


def quantised(delta: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """``delta``, in 255ths, rounded to multiples of ``1 / STEPS``."""
    rounded: npt.NDArray[np.float32] = np.rint(delta * np.float32(STEPS)) / np.float32(STEPS)
    return rounded


def scaled_strips(
    delta: npt.NDArray[np.float32], height: int, width: int, step: int = 1
) -> Iterator[tuple[slice, npt.NDArray[np.float32]]]:
    """Scale ``(3, S, S)`` or ``(S, S)`` to a photo, or to every ``step``-th row of it, a strip of rows at a time.

    Bilinear where the photo is larger, a triangle filter as wide as the reduction where it is smaller. Every value is a
    mean of values of ``delta`` with weights that are not negative and sum to one, so none can leave their range.

    Yields:
        Rows of the photo, and their values, ``(rows, width, 3)`` or ``(rows, width)`` float32.
    """
    across = _weighted(np.moveaxis(delta, -1, 0), *_taps(delta.shape[-1], width))
    # Now (width, [3,] S): rows first, colour last.
    source = np.ascontiguousarray(np.moveaxis(across, (-1, 0), (0, 1)))
    indices, weights = _taps(delta.shape[-2], height)
    rows = max(1, _STRIP // width) * step
    for start in range(0, height, rows):
        strip = slice(start, min(start + rows, height), step)
        yield strip, _weighted(source, indices[strip], weights[strip])


def scaled_bytes(values: npt.NDArray[np.uint8], height: int, width: int) -> npt.NDArray[np.uint8]:
    """:func:`scaled_strips` of bytes, at once and several times as fast; it rounds by at most one.

    Torch is the faster where it is loaded already; both give the same bytes.

    Returns:
        ``(height, width, 3)`` or ``(height, width)``, C-contiguous.
    """
    scale = _scaled_by_torch if "torch" in sys.modules else _scaled_by_numpy
    return scale(values, height, width)


def _scaled_by_torch(values: npt.NDArray[np.uint8], height: int, width: int) -> npt.NDArray[np.uint8]:
    import torch

    # torch scales bytes with vector instructions where the colour is the last axis in memory; a view, not a new axis,
    # has the strides by which it tells.
    colour_last = torch.from_numpy(np.ascontiguousarray(np.atleast_3d(values.T).swapaxes(0, 1)))
    planes = colour_last.view(1, *colour_last.shape).permute(0, 3, 1, 2)
    scaled = torch.nn.functional.interpolate(planes, size=(height, width), mode="bilinear", antialias=True)
    laid_out: npt.NDArray[np.uint8] = scaled[0].permute(1, 2, 0).contiguous().numpy()
    return laid_out if values.ndim == 3 else laid_out[..., 0]


def _scaled_by_numpy(values: npt.NDArray[np.uint8], height: int, width: int) -> npt.NDArray[np.uint8]:
    """As torch: columns first, then rows, each with whole-number weights and rounded to bytes, of which none is 255.

    Source: ``upsample_avx_bilinear_bicubic_uint8`` of PyTorch, after Pillow-SIMD.
    """
    across = np.moveaxis(values, -1, 0).astype(np.float32)
    if values.shape[-1] != width:
        across = np.floor(_weighted(across, *_byte_taps(values.shape[-1], width)) + np.float32(0.5))
    source = np.ascontiguousarray(np.moveaxis(across, (-1, 0), (0, 1)))
    if values.shape[-2] == height:
        return source.astype(np.uint8)
    indices, weights = _byte_taps(values.shape[-2], height)
    scaled = np.empty((height, *source.shape[1:]), np.uint8)
    rows = max(1, _CACHED_VALUES // source[0].size)
    for start in range(0, height, rows):
        part = slice(start, start + rows)
        total = _weighted(source, indices[part], weights[part])
        total += np.float32(0.5)
        scaled[part] = total
    return scaled


@lru_cache(maxsize=256)
def _byte_taps(source: int, target: int) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.float32]]:
    """:func:`_taps` as torch has them for bytes: weights of so few bits that sums of products with bytes are exact."""
    ratio = source / target
    support = max(ratio, 1.0)
    centre = ratio * (np.arange(target) + 0.5)
    first = np.maximum((centre - support + 0.5).astype(np.intp), 0)
    last = np.minimum((centre + support + 0.5).astype(np.intp), source)
    positions = first[:, None] + np.arange(2 * math.ceil(support) + 1)
    weights = np.clip(1.0 - np.abs((positions - centre[:, None] + 0.5) / support), 0.0, None)
    weights[positions >= last[:, None]] = 0.0
    weights /= weights.sum(axis=1, keepdims=True)
    unit = 1
    while unit < 1 << 22 and int(0.5 + weights.max() * 2 * unit) < 1 << 15:
        unit *= 2
    whole = np.floor(weights * unit + 0.5)
    taps = int(np.flatnonzero(whole.any(axis=0)).max()) + 1
    return positions[:, :taps].clip(0, source - 1), (whole[:, :taps] / unit).astype(np.float32)


def _weighted(
    values: npt.NDArray[np.float32], indices: npt.NDArray[np.intp], weights: npt.NDArray[np.float32]
) -> npt.NDArray[np.float32]:
    """Weighted means over the first axis; ``indices`` and ``weights`` are ``(out, taps)``."""
    shape = (-1,) + (1,) * (values.ndim - 1)
    total = values.take(indices[:, 0], axis=0)
    total *= weights[:, 0].reshape(shape)
    term = np.empty_like(total)
    for tap in range(1, indices.shape[1]):
        values.take(indices[:, tap], axis=0, out=term, mode="clip")
        term *= weights[:, tap].reshape(shape)
        total += term
    return total


@lru_cache(maxsize=256)
def _taps(source: int, target: int) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.float32]]:
    """Source positions and weights of every target position, ``(target, taps)``; pixel centres are aligned."""
    ratio = source / target
    support = max(ratio, 1.0)
    taps = 2 * math.ceil(support)
    centre = (np.arange(target) + 0.5) * ratio - 0.5
    first = np.floor(centre).astype(np.intp) - taps // 2 + 1
    positions = first[:, None] + np.arange(taps)
    weights = np.clip(1.0 - np.abs(positions - centre[:, None]) / support, 0.0, None)
    weights[(positions < 0) | (positions >= source)] = 0.0
    weights /= weights.sum(axis=1, keepdims=True)
    return positions.clip(0, source - 1), weights.astype(np.float32)
