"""From a generator's perturbation to protected pixels, and the measurement of what was saved."""

import math

import numpy as np
import numpy.typing as npt

from mtlue_cli.perturbation.bound import LEVELS, Pixels, add_bounded, add_bounded_steps, as_steps
from mtlue_cli.perturbation.effect import Change, is_grey
from mtlue_cli.perturbation.resize import STRIP_PIXELS, scaled_bytes, scaled_strips


def protect_pixels(pixels: Pixels, delta: npt.NDArray[np.float32], epsilon: int) -> Pixels:
    """Scale a perturbation to a photo and add it within the bound.

    For a photo of 8 bits and ordinary size the perturbation is scaled as bytes, else as numbers: a rounding apart.

    Args:
        pixels: ``(H, W)`` grey or ``(H, W, 3)`` RGB, uint8 or uint16, or floating point in [0, 1].
        delta: ``(3, S, S)`` float in 255ths; averaged over the colours for a grey photo, whose colours may stand for
            grey in three channels too (:func:`~.effect.is_grey`): grey stays grey.
        epsilon: Bound in 255ths.

    Returns:
        Pixels of the same shape and type, each within ``epsilon`` 255ths of its original.

    Raises:
        ValueError: ``delta`` holds values that are not finite.
    """
    low = delta.mean(axis=0) if is_grey(pixels) else delta
    if pixels.ndim > low.ndim:
        low = np.broadcast_to(low, delta.shape)
    if pixels.dtype == np.uint8 and pixels.shape[0] * pixels.shape[1] <= STRIP_PIXELS:
        steps = as_steps(low, epsilon)
        if steps is not None:
            return add_bounded_steps(pixels, scaled_bytes(steps, pixels.shape[0], pixels.shape[1]), epsilon)
    protected = np.empty_like(pixels)
    for rows, values in scaled_strips(low, pixels.shape[0], pixels.shape[1]):
        protected[rows] = add_bounded(pixels[rows], values, epsilon)
    return protected


def measure_change(original: Pixels, saved: Pixels) -> Change:
    """Measure saved pixels against their original.

    Raises:
        ValueError: Shape or type differ.
    """
    if original.shape != saved.shape or original.dtype != saved.dtype:
        raise ValueError(
            f"saved pixels are {saved.shape} {saved.dtype}, the original's {original.shape} {original.dtype}"
        )
    if np.issubdtype(original.dtype, np.floating):
        return _measure_floats(original, saved)
    scale = np.iinfo(original.dtype).max // LEVELS
    largest, total, absolute = 0, 0.0, 0.0
    rows = max(1, (1 << 20) // max(1, original[0].size))
    for start in range(0, len(original), rows):
        strip = slice(start, start + rows)
        # The absolute difference, within the type: a quarter of the memory traffic of wider integers.
        difference = np.maximum(original[strip], saved[strip])
        difference -= np.minimum(original[strip], saved[strip])
        difference = difference.ravel()
        if difference.size:
            largest = max(largest, int(difference.max()))
        floating = difference.astype(np.float32 if scale == 1 else np.float64)
        total += float(np.dot(floating, floating))
        absolute += float(floating.sum())
    if total == 0:
        return Change(0.0, None)
    error = total / original.size / scale**2
    return Change(largest / scale, 10 * math.log10(LEVELS**2 / error), absolute / original.size / scale)


def _measure_floats(original: Pixels, saved: Pixels) -> Change:
    difference = (saved.astype(np.float64) - original) * LEVELS
    if not difference.any():
        return Change(0.0, None)
    # Rounded where double precision ends, so that a change of exactly the bound measures as the bound.
    absolute = np.abs(difference)
    largest = round(float(absolute.max()), 9)
    return Change(largest, 10 * math.log10(LEVELS**2 / float((difference**2).mean())), float(absolute.mean()))
