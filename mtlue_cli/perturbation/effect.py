"""The one owner of the least effect: how much of a perturbation must arrive for a file to count as protected.

Two images are compared with what the weights give. The *promised* perturbation is what they give for the image at the
release's epsilon, scaled to the photo, before it is averaged over the colours of a grey photo, rounded or cut off at
the ends of the range. The *carried* one is the decoded released pixels minus the original. Both are ``(H, W, 3)`` in
255ths; a grey image counts as three equal channels.
"""

import math
from dataclasses import dataclass
from enum import Enum, auto

import numpy as np
import numpy.typing as npt

from mtlue_cli.perturbation.bound import LEVELS, Pixels
from mtlue_cli.perturbation.resize import scaled_strips

LEAST_STRENGTH = 0.125
"""Least root mean square of the promised perturbation, as a part of epsilon. Below it the weights add too little to
this image: nothing but zeros, say, or no label says anything about it. Most labels get 0.6 to 0.9; the weights
``default`` give an image of rarest classes 0.15 to 0.2 on purpose (:mod:`mtlue_cli.generator.codebook`), and one
without labels 0."""

LEAST_SHARE = 0.25
"""Least share of the promised perturbation that the file carries."""

LEAST_CORRELATION = 0.5
"""Least cosine between the carried and the promised perturbation."""

LEAST_MEAN_CHANGE = 0.05
"""Least mean absolute change of a colour value, as a part of epsilon: what can be measured without the weights."""

GREY_LEVELS = 2
"""Colours of a pixel that differ by at most so many 255ths count as grey: what a JPEG file's decoding leaves."""

COLOURED_PIXELS = 0.001
"""Largest part of the pixels of a grey photo that may be coloured."""

SAMPLE_PIXELS = 1 << 14
"""The effect of a larger photo is measured on every k-th row, k odd, so that about so many pixels are compared."""

_INTERLEAVED = 16
_DECODING = 0.9
_ROUNDING = 0.05
"""A measured mean change may fall below its record by a tenth and so many 255ths: decoders of JPEG files differ."""


@dataclass(frozen=True)
class Change:
    """How far saved pixels are from their original.

    Attributes:
        largest: Largest difference of a colour value, in 255ths.
        psnr: Peak signal-to-noise ratio in dB; None if nothing differs.
        mean: Mean absolute difference of a colour value, in 255ths.
    """

    largest: float
    psnr: float | None
    mean: float = 0.0


@dataclass(frozen=True)
class Effect:
    """How much the weights promise for an image, and how much of it a file carries.

    Attributes:
        strength: Root mean square of the promised perturbation, as a part of epsilon.
        share: ``<carried, promised> / <promised, promised>``: energy and correlation in one number. 1: everything
            arrived.
        correlation: Cosine between the two.
    """

    strength: float
    share: float
    correlation: float


class Shortfall(Enum):
    """Why a file has less than the least effect."""

    WEAK = auto()
    """The weights add too little."""
    GREY = auto()
    """They write in colour, and the photo is grey."""
    NO_ROOM = auto()
    """Most values are black or white already."""
    ROUNDED = auto()
    """What they add is lost when it is rounded, or drowned by compression."""


def measure_effect(
    original: Pixels,
    saved: Pixels,
    delta: npt.NDArray[np.float32],
    epsilon: int,
    alpha: npt.NDArray[np.uint8] | None = None,
) -> Effect:
    """The effect of a file, measured on a sample of its rows (:data:`SAMPLE_PIXELS`).

    Args:
        original: ``(H, W)`` or ``(H, W, 3)``, uint8, uint16, or floating point in [0, 1].
        saved: The same shape and type: the released file, decoded.
        delta: ``(3, S, S)`` float in 255ths, at the release's epsilon.
        epsilon: Bound in 255ths.
        alpha: ``(H, W)`` opacity, which weighs the pixels: a change under transparency is not seen; None: all count.
    """
    height, width = original.shape[:2]
    step = min(height, -(-height * width // SAMPLE_PIXELS) | 1)
    unit = 1.0 if np.issubdtype(original.dtype, np.floating) else float(np.iinfo(original.dtype).max)
    promised_power = carried_power = product = 0.0
    count = 0.0
    for rows, promised in scaled_strips(delta, height, width, step):
        carried = saved[rows].astype(np.float32)
        carried -= original[rows]
        carried *= LEVELS / unit
        if carried.ndim == 2:
            carried = np.repeat(carried[..., None], 3, axis=2)
        visible = float(promised.size)
        if alpha is not None:
            weight = (alpha[rows].astype(np.float32) / np.float32(LEVELS))[..., None]
            carried *= weight
            promised *= weight
            visible = 3 * float(np.vdot(weight, weight))
        promised_power += float(np.vdot(promised, promised))
        carried_power += float(np.vdot(carried, carried))
        product += float(np.vdot(carried, promised))
        count += visible
    if not promised_power > 0:
        return Effect(0.0, 0.0, 0.0)
    return Effect(
        math.sqrt(promised_power / count) / epsilon,
        product / promised_power,
        product / math.sqrt(promised_power * carried_power) if carried_power > 0 else 0.0,
    )


def shortfall(
    effect: Effect, change: Change, original: Pixels, delta: npt.NDArray[np.float32], epsilon: int
) -> Shortfall | None:
    """Why a file with this effect may not be released; None if it may.

    Args:
        effect: Of the file.
        change: Over all its pixels.
        original: As :func:`measure_effect` takes it.
        delta: Likewise.
        epsilon: Bound in 255ths.
    """
    if effect.strength < LEAST_STRENGTH:
        return Shortfall.WEAK
    arrived = effect.share >= LEAST_SHARE and effect.correlation >= LEAST_CORRELATION
    if arrived and is_changed(change, epsilon):
        return None
    luminance = delta.mean(axis=0)
    if is_grey(original) and 3 * float(np.vdot(luminance, luminance)) < LEAST_SHARE * float(np.vdot(delta, delta)):
        return Shortfall.GREY
    white = 1 if np.issubdtype(original.dtype, np.floating) else np.iinfo(original.dtype).max
    at_ends = np.count_nonzero(original == 0) + np.count_nonzero(original == white)
    return Shortfall.NO_ROOM if 2 * at_ends > original.size else Shortfall.ROUNDED


def least_mean_change(epsilon: int) -> float:
    """:data:`LEAST_MEAN_CHANGE` in 255ths, as epsilon is; a mean that reaches it does so rounded to thousandths too."""
    return round(LEAST_MEAN_CHANGE * epsilon, 2)


def is_changed(change: Change, epsilon: int) -> bool:
    """Whether a file differs from its original as much as :func:`least_mean_change` says."""
    return change.largest > 0 and change.mean >= least_mean_change(epsilon)


def is_less_than_recorded(mean: float, recorded: float) -> bool:
    """Whether a measured mean change, in 255ths, is clearly below the recorded one."""
    return mean < _DECODING * recorded - _ROUNDING


def is_grey(pixels: Pixels) -> bool:
    """Whether a photo is grey: ``(H, W)``, or ``(H, W, 3)`` in which at most :data:`COLOURED_PIXELS` have a colour.

    A pixel has a colour if its values differ by more than :data:`GREY_LEVELS`.
    """
    if pixels.ndim == 2:
        return True
    most = COLOURED_PIXELS * pixels.shape[0] * pixels.shape[1]
    limit = GREY_LEVELS / LEVELS if np.issubdtype(pixels.dtype, np.floating) else GREY_LEVELS
    coloured = 0
    # Interleaved rows: a colour photo shows what it is in the first.
    for first in range(min(_INTERLEAVED, len(pixels))):
        red, green, blue = np.moveaxis(pixels[first::_INTERLEAVED], 2, 0)
        spread = np.maximum(np.maximum(red, green), blue) - np.minimum(np.minimum(red, green), blue)
        coloured += int(np.count_nonzero(spread > limit))
        if coloured > most:
            return False
    return True
