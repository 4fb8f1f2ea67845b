"""The one owner of epsilon: a smooth bound for training, an exact one for what is written. Grey stays grey."""

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from torch import Tensor

from mtlue_cli.perturbation.resize import STRIP_PIXELS, computed_once, scaled_bytes, scaled_strips

Pixels = npt.NDArray[Any]
"""uint8, uint16, or floating point in [0, 1]."""

LEVELS = 255
"""Levels of an 8-bit image; epsilon counts in units of one of these."""

GREY_LEVELS, COLOURED_PIXELS = 2, 0.001
"""A photo is grey if the colours differ by more than so many 255ths (as JPEG decoding leaves) in at most such a part of
the pixels."""

STEPS_A_LEVEL = 8
"""Of perturbations as bytes: eighths of a 255th, so that what scaling rounds is little beside rounding to levels."""

_LARGEST_IN_STEPS, _NO_STEP = 15, 128
_SHIFT = STEPS_A_LEVEL.bit_length() - 1
_INTERLEAVED = 16


def soft_bound(unbounded: "Tensor", epsilon: int) -> "Tensor":
    """Squash into the open interval of +-``epsilon``/255 with a gradient everywhere.

    The reference implementation clamps; nearly every value then saturates at the first step and gets no gradient.
    """
    return unbounded.tanh() * (epsilon / LEVELS)


def with_chroma(delta: "Tensor", chroma: float) -> "Tensor":
    """Keep a share, ``chroma``, of the difference of the channels of ``(B, 3, H, W)`` from their mean.

    Colour is what people see most of a coarse perturbation. A weighted mean of values within the bound is within it.
    """
    if chroma == 1.0:
        return delta
    return delta.mean(dim=1, keepdim=True).expand_as(delta).lerp(delta, chroma)


def add_to_training_images(images: "Tensor", delta: "Tensor") -> "Tensor":
    """Add ``delta`` and clamp to [0, 1]; the gradient towards ``delta`` is the identity also where the clamp acts."""
    shifted = images + delta
    return shifted + (shifted.detach().clamp(0, 1) - shifted.detach())


def protect_pixels(pixels: Pixels, delta: npt.NDArray[np.float32], epsilon: int) -> Pixels:
    """Scale a perturbation to a photo and add it within the bound: no value changes by more than ``epsilon`` 255ths.

    For a photo of 8 bits and ordinary size the perturbation is scaled as bytes, else as numbers: a rounding apart.

    Args:
        pixels: ``(H, W)`` grey or ``(H, W, 3)`` RGB, uint8 or uint16, or floating point in [0, 1].
        delta: ``(3, S, S)`` float in 255ths; averaged over the colours for a grey photo (:func:`is_grey`).
        epsilon: Bound in 255ths.

    Raises:
        ValueError: ``delta`` holds values that are not finite.
    """
    grey, shape = is_grey(pixels), pixels.shape

    def mean_or_all() -> npt.NDArray[np.float32]:
        low: npt.NDArray[np.float32] = np.asarray(delta).mean(axis=0) if grey else np.asarray(delta)
        return np.broadcast_to(low, delta.shape) if len(shape) > low.ndim else low

    if pixels.dtype == np.uint8 and shape[0] * shape[1] <= STRIP_PIXELS and epsilon <= _LARGEST_IN_STEPS:

        def changes() -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
            return up_and_down(scaled_bytes(as_steps(mean_or_all(), epsilon), shape[0], shape[1]), epsilon)

        return add_up_and_down(pixels, *computed_once(delta, ("changes", grey, shape, epsilon), changes))
    low = mean_or_all()
    protected = np.empty_like(pixels)
    for rows, values in scaled_strips(low, pixels.shape[0], pixels.shape[1]):
        protected[rows] = add_bounded(pixels[rows], values, epsilon)
    return protected


def add_bounded(original: Pixels, delta: npt.NDArray[np.float32], epsilon: int) -> Pixels:
    """Add a perturbation, in 255ths, to pixels on integers: round, clip to epsilon, add, clip to the range of the type.

    The result has shape and type of ``original`` (uint8, uint16, or floating point in [0, 1]) and differs from it by at
    most ``epsilon`` 255ths at every pixel, exactly. Floating-point pixels are not rounded to levels; where the sum is,
    in their type, it is rounded towards the original.

    Raises:
        ValueError: The shapes differ, or a value of ``delta`` is not finite.
    """
    if original.shape != delta.shape:
        raise ValueError(f"image of shape {original.shape} and delta of shape {delta.shape} do not match")
    if not np.isfinite(delta).all():
        raise ValueError("the perturbation holds values that are not finite")
    if np.issubdtype(original.dtype, np.floating):
        return _add_to_floats(original, delta, epsilon)
    limit = np.iinfo(original.dtype).max
    scale = limit // LEVELS
    bound = epsilon * scale
    steps = np.rint(delta if scale == 1 else delta * scale)
    np.clip(steps, -bound, bound, out=steps)
    total = original.astype(np.float32)  # whole numbers below 2**24, of which it holds each
    total += steps
    np.clip(total, 0, limit, out=total)
    return total.astype(original.dtype)


def as_steps(delta: npt.NDArray[np.float32], epsilon: int) -> npt.NDArray[np.uint8]:
    """A perturbation as bytes: clipped to epsilon, in steps of one :data:`STEPS_A_LEVEL`-th of a 255th, 128 for none.

    Raises:
        ValueError: A value of ``delta`` is not finite, or epsilon is too large for bytes.
    """
    if epsilon > _LARGEST_IN_STEPS:
        raise ValueError(f"epsilon is {epsilon}, and {_LARGEST_IN_STEPS} is the largest whose steps fit into bytes")
    if not np.isfinite(delta).all():
        raise ValueError("the perturbation holds values that are not finite")
    reach = epsilon * STEPS_A_LEVEL
    steps: npt.NDArray[np.float32] = np.rint(delta * np.float32(STEPS_A_LEVEL))
    np.clip(steps, -reach, reach, out=steps)
    steps += _NO_STEP
    return steps.astype(np.uint8)


def up_and_down(steps: npt.NDArray[np.uint8], epsilon: int) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """A perturbation as bytes (:func:`as_steps`) in whole levels: how much up and how much down, at most epsilon each.

    Up and down apart, everything stays within bytes, at the ends of the range too, and both round alike.
    """
    reach, half = epsilon * STEPS_A_LEVEL, STEPS_A_LEVEL // 2
    up = steps.clip(_NO_STEP, _NO_STEP + reach)
    up -= np.uint8(_NO_STEP - half)
    up >>= np.uint8(_SHIFT)
    down = steps.clip(_NO_STEP - reach, _NO_STEP)
    np.subtract(np.uint8(_NO_STEP + half), down, out=down)
    down >>= np.uint8(_SHIFT)
    return up, down


def add_up_and_down(
    original: npt.NDArray[np.uint8], up: npt.NDArray[np.uint8], down: npt.NDArray[np.uint8]
) -> npt.NDArray[np.uint8]:
    """:func:`add_bounded` of a perturbation in levels (:func:`up_and_down`): a fifth of the time.

    Raises:
        ValueError: The shapes differ.
    """
    if original.shape != up.shape:
        raise ValueError(f"image of shape {original.shape} and steps of shape {up.shape} do not match")
    total: npt.NDArray[np.uint8] = np.subtract(np.uint8(np.iinfo(np.uint8).max), up)
    np.minimum(original, total, out=total)
    total += up
    np.maximum(total, down, out=total)
    total -= down
    return total


def is_grey(pixels: Pixels) -> bool:
    """Whether a photo is grey: ``(H, W)``, or ``(H, W, 3)`` with few coloured pixels (:data:`GREY_LEVELS`)."""
    if pixels.ndim == 2:
        return True
    most = COLOURED_PIXELS * pixels.shape[0] * pixels.shape[1]
    is_float = np.issubdtype(pixels.dtype, np.floating)
    limit = GREY_LEVELS / LEVELS if is_float else GREY_LEVELS * (np.iinfo(pixels.dtype).max // LEVELS)
    coloured = 0
    # Interleaved rows: a colour photo shows what it is in the first.
    for first in range(min(_INTERLEAVED, len(pixels))):
        red, green, blue = np.moveaxis(pixels[first::_INTERLEAVED], 2, 0)
        spread = np.maximum(np.maximum(red, green), blue) - np.minimum(np.minimum(red, green), blue)
        coloured += int(np.count_nonzero(spread > limit))
        if coloured > most:
            return False
    return True


def _add_to_floats(original: Pixels, delta: npt.NDArray[np.float32], epsilon: int) -> Pixels:
    exact = original.astype(np.float64)
    wanted = exact + np.clip(delta.astype(np.float64), -epsilon, epsilon) / LEVELS
    total = np.clip(wanted, 0, 1).astype(original.dtype)
    # A step of the type towards the original is more than rounding had added.
    beyond = np.abs(total.astype(np.float64) - exact) > epsilon / LEVELS
    return np.where(beyond, np.nextafter(total, original), total).astype(original.dtype)
