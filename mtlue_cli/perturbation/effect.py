"""The one owner of the least effect: what was changed in an image, and whether it counts as protected.

The *promised* perturbation is that of the weights for the image at the release's epsilon, scaled to the photo, before
it is averaged over the colours of a grey photo, rounded or cut off at the ends of the range. The *arrived* one is the
decoded released pixels minus the original. Both are ``(H, W, 3)`` in 255ths; a grey image has three equal channels.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

import numpy as np
import numpy.typing as npt

from mtlue_cli.perturbation.bound import LEVELS, Pixels, is_grey
from mtlue_cli.perturbation.resize import STRIP_PIXELS, scaled_strips
from mtlue_cli.perturbation.shared import computed_once

LEAST_STRENGTH = 0.125
"""Least root mean square of the promised perturbation, as a part of epsilon. Most labels get 0.6 to 0.9; the weights
``default`` give an image of rarest classes 0.15 to 0.2 on purpose (:mod:`mtlue_cli.generator.codebook`)."""

LEAST_SHARE = 0.25
"""Least share of the promised perturbation that the file carries."""

LEAST_CORRELATION = 0.5
"""Least cosine between the arrived and the promised perturbation."""

LEAST_MEAN_CHANGE = 0.05
"""Least mean absolute change of a colour value, as a part of epsilon: what can be measured without the weights."""

LEAST_OPACITY = 0.05
"""Least mean opacity of a photo: with less, hardly anything of the perturbation can be seen."""

SAMPLE_PIXELS = 1 << 14
"""The effect of a larger photo is measured on every k-th row, k odd, so that about so many pixels are compared."""

_NOTHING = 1e-6
"""Variance in squared 255ths below which nothing but rounding is left."""
_DECODING, _ROUNDING = 0.9, 0.05
"""A measured mean change may fall below its record by a tenth and so many 255ths: decoders of JPEG files differ."""


@dataclass(frozen=True)
class Change:
    """How far saved pixels are from their original, in 255ths per colour value.

    ``largest`` and ``mean`` are of the absolute difference, ``spread`` is the standard deviation of the signed one: 0
    if the image is brighter or darker as a whole. ``psnr`` is in dB; None if nothing differs.
    """

    largest: float
    psnr: float | None
    mean: float = 0.0
    spread: float = 0.0


@dataclass(frozen=True)
class Effect:
    """How much the weights promise for an image, and how much of it a file carries.

    Attributes:
        strength: Root mean square of the promised perturbation, as a part of epsilon.
        share: ``<arrived, promised> / <promised, promised>``; 1: everything arrived.
        correlation: Cosine between the two.
    """

    strength: float
    share: float
    correlation: float


class Shortfall(Enum):
    """Why images have less than the least effect; the value says it in words."""

    UNLABELLED = "they have no label"
    TRANSPARENT = "they are (nearly) transparent"
    WEAK = "the weights add too little"
    GREY = "they are grey and the weights write in colour"
    NO_ROOM = "nearly all pixels are black or white"
    ROUNDED = "rounding leaves too little"
    """Or compression removes what the weights add."""


@dataclass(frozen=True)
class Measurement:
    """Change of all pixels, effect, and why the image does not count as protected; None if it does."""

    change: Change
    effect: Effect
    lacking: Shortfall | None


def measure(
    original: Pixels,
    saved: Pixels,
    delta: npt.NDArray[np.float32],
    epsilon: int,
    alpha: npt.NDArray[np.uint8] | None = None,
    *,
    labelled: bool = True,
) -> Measurement:
    """Change and effect of an image, and whether it counts as protected.

    Args:
        original: ``(H, W)`` or ``(H, W, 3)``, uint8, uint16, or floating point in [0, 1].
        saved: The same shape and type: the released file, decoded.
        delta: ``(3, S, S)`` float in 255ths, at the release's epsilon.
        epsilon: Bound in 255ths.
        alpha: ``(H, W)`` opacity; None: opaque.
        labelled: Whether the perturbation stands for any label of the image.

    Raises:
        ValueError: Shape or type differ.
    """
    change = measure_change(original, saved)
    effect = measure_effect(original, saved, delta, epsilon, alpha)
    if not labelled:
        lacking: Shortfall | None = Shortfall.UNLABELLED
    elif alpha is not None and alpha.mean() < LEAST_OPACITY * LEVELS:
        lacking = Shortfall.TRANSPARENT
    else:
        lacking = _shortfall(effect, change, original, delta, epsilon)
    return Measurement(change, effect, lacking)


def _shortfall(
    effect: Effect, change: Change, original: Pixels, delta: npt.NDArray[np.float32], epsilon: int
) -> Shortfall | None:
    if effect.strength < LEAST_STRENGTH:
        return Shortfall.WEAK
    arrived = effect.share >= LEAST_SHARE and effect.correlation >= LEAST_CORRELATION
    if arrived and is_changed(change, epsilon):
        return None
    if is_grey(original) and float(delta.mean(axis=0).var()) < LEAST_SHARE * float(delta.var()):
        return Shortfall.GREY
    white = 1 if np.issubdtype(original.dtype, np.floating) else np.iinfo(original.dtype).max
    at_ends = np.count_nonzero(original == 0) + np.count_nonzero(original == white)
    return Shortfall.NO_ROOM if 2 * at_ends > original.size else Shortfall.ROUNDED


def measure_change(original: Pixels, saved: Pixels) -> Change:
    """Measure saved pixels against their original.

    Raises:
        ValueError: Shape or type differ.
    """
    if original.shape != saved.shape or original.dtype != saved.dtype:
        raise ValueError(
            f"saved pixels are {saved.shape} {saved.dtype}, the original's {original.shape} {original.dtype}"
        )
    changes = _float_change if np.issubdtype(original.dtype, np.floating) else _integer_change
    largest, error, mean, shift = changes(original, saved)
    if error == 0:
        return Change(0.0, None)
    return Change(largest, 10 * math.log10(LEVELS**2 / error), mean, math.sqrt(max(0.0, error - shift**2)))


def _strips(pixels: Pixels) -> Iterator[slice]:
    """Rows of an image, about a million values at a time."""
    rows = max(1, (1 << 20) // max(1, pixels[0].size))
    return (slice(start, start + rows) for start in range(0, len(pixels), rows))


def _float_change(original: Pixels, saved: Pixels) -> tuple[float, float, float, float]:
    """As :func:`_integer_change`, of floating-point pixels: all at once they would take 90 bytes per pixel."""
    largest = total = absolute = signed = 0.0
    for strip in _strips(original):
        difference = (saved[strip].astype(np.float64) - original[strip]) * LEVELS
        largest = max(largest, float(np.abs(difference).max()))
        total += float(np.square(difference).sum())
        absolute += float(np.abs(difference).sum())
        signed += float(difference.sum())
    count = original.size
    # Rounded where double precision ends, so that a change of exactly the bound measures as the bound.
    return round(largest, 9), total / count, absolute / count, signed / count


def _integer_change(original: Pixels, saved: Pixels) -> tuple[float, float, float, float]:
    """Largest, mean squared, mean absolute and mean signed difference, in 255ths, a strip of rows at a time."""
    scale = np.iinfo(original.dtype).max // LEVELS
    largest, total, absolute, signed = 0, 0.0, 0.0, 0
    for strip in _strips(original):
        # The absolute difference, within the type: a quarter of the memory traffic of wider integers.
        difference = np.maximum(original[strip], saved[strip])
        difference -= np.minimum(original[strip], saved[strip])
        difference = difference.ravel()
        largest = max(largest, int(difference.max(initial=0)))
        floating = difference.astype(np.float32 if scale == 1 else np.float64)
        total += float(np.dot(floating, floating))
        absolute += float(floating.sum())
        signed += int(saved[strip].sum(dtype=np.int64)) - int(original[strip].sum(dtype=np.int64))
    count = original.size
    return largest / scale, total / count / scale**2, absolute / count / scale, signed / count / scale


def measure_effect(
    original: Pixels,
    saved: Pixels,
    delta: npt.NDArray[np.float32],
    epsilon: int,
    alpha: npt.NDArray[np.uint8] | None = None,
) -> Effect:
    """The effect of a file, measured on a sample of its rows (:data:`SAMPLE_PIXELS`).

    Both perturbations count without their mean: an image that is brighter or darker as a whole teaches nothing wrong.
    Opacity weighs the pixels: a change under transparency is not seen. Arguments as :func:`measure`.
    """
    height, width = original.shape[:2]
    step = min(height, -(-height * width // SAMPLE_PIXELS) | 1)
    unit = 1.0 if np.issubdtype(original.dtype, np.floating) else float(np.iinfo(original.dtype).max)
    # Sums over all values: of each, of their squares and of their product.
    promised_sum = arrived_sum = promised_power = arrived_power = product = count = 0.0
    for rows, promised in _promised(delta, height, width, step):
        arrived = saved[rows].astype(np.float32)
        arrived -= original[rows]
        arrived *= LEVELS / unit
        if arrived.ndim == 2:
            arrived = np.repeat(arrived[..., None], 3, axis=2)
        weight, visible = None, float(promised.size)
        if alpha is not None:
            weight = (alpha[rows].astype(np.float32) / np.float32(LEVELS))[..., None]
            arrived *= weight
            promised = promised * weight
            visible = 3 * float(np.vdot(weight, weight))
        promised_sum += _total(promised, weight)
        arrived_sum += _total(arrived, weight)
        promised_power += float(np.vdot(promised, promised))
        arrived_power += float(np.vdot(arrived, arrived))
        product += float(np.vdot(arrived, promised))
        count += visible
    if count:
        promised_power -= promised_sum**2 / count
        arrived_power -= arrived_sum**2 / count
        product -= promised_sum * arrived_sum / count
    if not promised_power > _NOTHING * count:
        return Effect(0.0, 0.0, 0.0)
    correlation = product / math.sqrt(promised_power * arrived_power) if arrived_power > _NOTHING * count else 0.0
    return Effect(math.sqrt(promised_power / count) / epsilon, product / promised_power, correlation)


def _promised(
    delta: npt.NDArray[np.float32], height: int, width: int, step: int
) -> Iterator[tuple[slice, npt.NDArray[np.float32]]]:
    """:func:`~.resize.scaled_strips`, kept where the image is small enough to be one strip."""
    if height * width > STRIP_PIXELS:
        return scaled_strips(delta, height, width, step)

    def whole() -> tuple[npt.NDArray[np.float32]]:
        return (np.concatenate([values for _, values in scaled_strips(delta, height, width, step)]),)

    return iter([(slice(0, height, step), *computed_once(delta, ("promised", height, width, step), whole))])


def _total(values: npt.NDArray[np.float32], weight: npt.NDArray[np.float32] | None) -> float:
    return float((values if weight is None else values * weight).sum(dtype=np.float64))


def least_mean_change(epsilon: int) -> float:
    """:data:`LEAST_MEAN_CHANGE` in 255ths, as epsilon is; a mean that reaches it does so rounded to thousandths too."""
    return round(LEAST_MEAN_CHANGE * epsilon, 2)


def is_changed(change: Change, epsilon: int) -> bool:
    """Whether a file differs from its original by :func:`least_mean_change`, and not by one shift of all values."""
    return change.largest > 0 and min(change.mean, change.spread) >= least_mean_change(epsilon)


def is_less_than_recorded(mean: float, recorded: float) -> bool:
    """Whether a measured mean change, in 255ths, is clearly below the recorded one."""
    return mean < _DECODING * recorded - _ROUNDING
