"""How much of a perturbation is left in a copy of a released photo: a matched filter, band by band."""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

Planes = npt.NDArray[np.float32]
"""``(3, h, w)`` in 255ths."""

BANDS = (0.5, 1.5, 3.0, 6.0, 12.0, 24.0, math.inf)
"""Edges of the bands in cycles per photo. What is slower than the first is the brightness of the photo as a whole."""

NORMAL_95 = 1.96
"""Standard deviations on either side of a mean that hold 95 % of a normal distribution."""

_OPPONENT = np.array([[1, 1, 1], [1, -1, 0], [1, 1, -2]], np.float32)
_OPPONENT /= np.linalg.norm(_OPPONENT, axis=1, keepdims=True)
"""Brightness and two colours, orthonormal: energies in them add up."""

_LEAST_SLOPE = 0.1
"""Least local contrast of a copy, relative to its contrast as a whole, that the perturbation is compared with."""

_NOTHING = 1e-3
"""Energy in squared 255ths per value below which there is no perturbation."""


@dataclass(frozen=True)
class Surviving:
    """The share of the perturbation that a copy carries, and the standard error of that figure.

    1 is all of it, 0 none. Sharpening gives more than 1. Noise of the measurement may take it below 0.
    """

    share: float
    error: float

    @property
    def low(self) -> float:
        """Lower end of the 95 % interval."""
        return self.share - NORMAL_95 * self.error

    @property
    def high(self) -> float:
        """Upper end of the 95 % interval."""
        return self.share + NORMAL_95 * self.error


def surviving_share(
    copy: Planes,
    clean: Planes,
    delta: Planes,
    weight: npt.NDArray[np.float32] | None = None,
    covered: tuple[float, float] = (1.0, 1.0),
) -> Surviving | None:
    """Share of ``delta`` in ``copy``, a changed copy of ``clean + delta`` on the same grid.

    The copy is modelled as the clean picture under an unknown change of tone and colour, plus in every band of
    frequencies and every colour channel an unknown gain times the perturbation, plus noise. The gains are fitted by
    least squares; the share is their mean, weighted by the energy of the perturbation. It is relative to the contrast
    of the copy: a copy of half the contrast that holds half the perturbation has all of it. The standard error is
    that of least squares with noise of unequal variance (White, Econometrica 1980).

    Args:
        copy: ``(3, h, w)``.
        clean: Likewise.
        delta: Likewise.
        weight: Opacity of the pixels, ``(h, w)`` in [0, 1]; None: all are opaque.
        covered: Height and width of the grid as shares of the photo's.

    Returns:
        None if there is no perturbation to look for.
    """
    if float(np.square(delta).mean()) < _NOTHING:
        return None
    height, width = clean.shape[1:]
    visible = np.ones((height, width), np.float32) if weight is None else weight
    seen, pattern = (np.tensordot(_OPPONENT, planes, 1) for planes in (copy, delta))
    bright = clean.mean(axis=0) / 255 - 0.5
    powers = np.stack([np.ones_like(bright), bright, bright**2, bright**3])
    tone = _fitted([*powers, pattern[0]], seen[0], visible)
    slope = (tone[1] + 2 * tone[2] * bright + 3 * tone[3] * bright**2) / (255 * math.sqrt(3))
    pattern = pattern * np.maximum(slope, _LEAST_SLOPE * max(float(slope.mean()), 0.0)) * visible
    basis = np.concatenate([powers, clean / 255 - 0.5, (clean / 255 - 0.5) ** 2])
    bands = _bands(height, width, *covered)
    product = energy = variance = 0.0
    for channel in range(len(_OPPONENT)):
        fit = _fitted([*basis, pattern[channel]], seen[channel], visible)
        predicted = np.tensordot(fit[:-1], basis, 1) * visible
        found, base, wanted = (_dct(each) for each in (seen[channel] * visible, predicted, pattern[channel]))
        for band in range(1, len(BANDS)):
            where = bands == band
            b, own, error = _gain(found[where], base[where], wanted[where])
            product += b * own
            energy += own
            variance += error * own**2
    if not energy > 0:
        return Surviving(0.0, math.inf)
    return Surviving(product / energy, math.sqrt(variance) / energy)


def _gain(
    found: npt.NDArray[np.float64], base: npt.NDArray[np.float64], wanted: npt.NDArray[np.float64]
) -> tuple[float, float, float]:
    """Gain of ``wanted`` in ``found`` beside a multiple of ``base``, the energy of ``wanted``, the gain's variance."""
    own, power = float(wanted @ wanted), float(base @ base)
    if own == 0:
        return 0.0, 0.0, 0.0
    rest = wanted - base * (float(base @ wanted) / power) if power > 1e-6 * own else wanted
    alone = float(rest @ rest)
    if alone < 1e-3 * own:
        return 0.0, 0.0, 0.0  # the picture itself looks like the perturbation here: nothing can be said
    gain = float(found @ rest) / alone
    left = found - gain * wanted
    if power > 1e-6 * own:
        left = left - base * (float(base @ left) / power)
    spare = max(1, len(found) - 2)
    return gain, own, float(np.square(left * rest).sum()) / alone**2 * len(found) / spare


def _fitted(basis: "list[Planes]", values: Planes, weight: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """Least-squares coefficients of ``basis`` in ``values``, pixels weighted."""
    matrix = np.stack([(each * weight).ravel() for each in basis], axis=1).astype(np.float64)
    scale = np.sqrt(np.square(matrix).sum(axis=0))
    scale[scale == 0] = 1.0
    found: npt.NDArray[np.float64] = np.linalg.lstsq(matrix / scale, (values * weight).ravel(), rcond=1e-6)[0]
    coefficients: npt.NDArray[np.float64] = found / scale
    return coefficients


def _dct(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """Orthonormal two-dimensional cosine transform (DCT-II), which has no seam at the border."""
    height, width = values.shape
    found: npt.NDArray[np.float64] = cosines(height) @ values.astype(np.float64) @ cosines(width).T
    return found


@lru_cache(maxsize=64)
def cosines(size: int) -> npt.NDArray[np.float64]:
    """The matrix of the orthonormal cosine transform (DCT-II) of ``size`` values."""
    rows, columns = np.arange(size)[:, None], np.arange(size)[None]
    matrix: npt.NDArray[np.float64] = np.cos(math.pi * rows * (2 * columns + 1) / (2 * size)) * math.sqrt(2 / size)
    matrix[0] /= math.sqrt(2)
    return matrix


def frequencies(height: int, width: int, down: float = 1.0, across: float = 1.0) -> npt.NDArray[np.float64]:
    """Cycles per photo of every cosine, ``(height, width)``, on a grid over so much of the photo's height and width."""
    found: npt.NDArray[np.float64] = np.hypot(
        np.arange(height)[:, None] / (2 * down), np.arange(width)[None] / (2 * across)
    )
    return found


@lru_cache(maxsize=64)
def _bands(height: int, width: int, down: float, across: float) -> npt.NDArray[np.intp]:
    return np.digitize(frequencies(height, width, down, across), BANDS)
