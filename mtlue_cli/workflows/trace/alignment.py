"""Where in a released photo a copy lies: which way up, mirrored or not, and which part of the photo it shows."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image

from mtlue_cli.workflows.trace.surviving import cosines, frequencies

ScalarT = TypeVar("ScalarT", bound=np.generic)

Grey = npt.NDArray[np.float32]
"""``(h, w)`` brightness."""
Box = tuple[float, float, float, float]
"""Left, top, right and bottom edge as shares of the released photo's width and height."""

SEEN = 192
"""Longer side in pixels in which a released photo is compared with copies."""

SAME_PICTURE = 0.75
"""Least correlation of two aligned pictures, between :data:`LOWEST` and :data:`HIGHEST` cycles per photo, for one to be
a copy of the other."""

LOWEST, HIGHEST = 2.5, 20.0

SMALLEST_PART = 0.3
"""Part of a photo's width or height that a copy must show to be found."""

WHOLE: Box = (0.0, 0.0, 1.0, 1.0)
"""All of a photo."""

_COARSE, _FINE = 48, 96
_SURE = 0.9
_STEP = 0.93
_STARTS = 4
_ROUNDS = 12


@dataclass(frozen=True)
class Alignment:
    """How a copy lies in a released photo.

    Attributes:
        turn: Number of :func:`turned` that makes the copy upright.
        box: The part of the photo that it shows.
        correlation: Of the two, where both are seen.
    """

    turn: int
    box: Box
    correlation: float

    @property
    def covered(self) -> float:
        """Share of the photo's area that the copy shows."""
        return _width(self.box) * _height(self.box)


@dataclass(frozen=True)
class Seen:
    """A picture as it is compared: brightness and, unless all of it is opaque, opacity in [0, 1]; ``(h, w)`` each."""

    grey: Grey
    opacity: Grey | None = None

    def reduced(self) -> "Seen":
        """The same in the size in which pictures are compared."""
        return Seen(reduced(self.grey), None if self.opacity is None else reduced(self.opacity))

    def turned(self, turn: int) -> "Seen":
        """The same after :func:`turned`."""
        return Seen(turned(self.grey, turn), None if self.opacity is None else turned(self.opacity, turn))


def turned(values: npt.NDArray[ScalarT], turn: int) -> npt.NDArray[ScalarT]:
    """``(h, w, ...)`` values in one of eight ways: ``turn % 4`` quarter turns after a mirroring from 4 on."""
    found = values[:, ::-1] if turn >= 4 else values
    return np.ascontiguousarray(np.rot90(found, turn % 4))


def part(values: Grey, box: Box, height: int, width: int) -> Grey:
    """What ``box`` shows of a picture, ``(height, width)``: bilinear, or a filter as wide as the reduction."""
    rows, columns = values.shape
    left, top, right, bottom = box
    edges = (left * columns, top * rows, right * columns, bottom * rows)
    edges = (max(0.0, edges[0]), max(0.0, edges[1]), min(float(columns), edges[2]), min(float(rows), edges[3]))
    resized = Image.fromarray(values).resize((width, height), Image.Resampling.BILINEAR, box=edges)
    return np.asarray(resized)


def reduced(values: Grey, most: int = SEEN) -> Grey:
    """A picture whose longer side has at most ``most`` pixels."""
    scale = most / max(values.shape)
    if scale >= 1:
        return values
    height, width = (max(1, round(side * scale)) for side in values.shape)
    return part(values, WHOLE, height, width)


def align(released: Seen, copy: Seen, hint: Alignment | None = None, *, thorough: bool = True) -> Alignment:
    """The best alignment of a copy with a released photo; its correlation says whether there is one.

    The whole photo is tried first, then all eight ways of turning it, then, by normalised cross-correlation at every
    scale, the parts of it; each is refined by Gauss-Newton steps on the four edges.

    Args:
        released: The photo, of any size.
        copy: Likewise.
        hint: A rough alignment to try first.
        thorough: Whether anything but the hint is tried where that does not fit.
    """
    released, copy = released.reduced(), copy.reduced()
    best = _refined(released, copy, hint or Alignment(0, WHOLE, 0.0))
    if best.correlation >= _SURE or not thorough:
        return best
    others = [_refined(released, copy, Alignment(turn, WHOLE, 0.0)) for turn in range(8)]
    best = max([best, *others], key=lambda found: found.correlation)
    if best.correlation >= _SURE:
        return best
    starts = sorted(_searched(released.grey, copy.grey), key=lambda found: -found.correlation)[:_STARTS]
    return max([best, *(_refined(released, copy, one) for one in starts)], key=lambda found: found.correlation)


def _width(box: Box) -> float:
    return box[2] - box[0]


def _height(box: Box) -> float:
    return box[3] - box[1]


def _refined(released: Seen, copy: Seen, start: Alignment) -> Alignment:
    """``start`` with its edges moved to where the correlation is largest nearby, from coarse to fine."""
    upright = copy.turned(start.turn)
    box, correlation = start.box, -1.0
    for side, highest in ((_COARSE, HIGHEST / 2), (_FINE, HIGHEST)):
        height, width = max(8, round(side * _height(box))), max(8, round(side * _width(box)))
        box, correlation = _descended(released, upright, box, (height, width), highest)
        if correlation < 0.2:
            break
    return Alignment(start.turn, box, correlation)


def _descended(released: Seen, copy: Seen, box: Box, size: tuple[int, int], highest: float) -> tuple[Box, float]:
    """Damped Gauss-Newton steps on the distance of two normalised pictures, over the edges of ``box``.

    What is transparent in one of them is left out of both.
    """
    down, across = _height(box), _width(box)
    opaque = np.ones(size, np.float32) if copy.opacity is None else part(copy.opacity, WHOLE, *size)
    if released.opacity is not None:
        opaque = opaque * part(released.opacity, box, *size)
    wanted = _band(part(copy.grey, WHOLE, *size), opaque, down, across, highest)

    def seen(edges: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        left, top, right, bottom = edges.tolist()
        return _band(part(released.grey, (left, top, right, bottom), *size), opaque, down, across, highest)

    edges, damping = np.array(box), 1e-3
    now = seen(edges)
    correlation = float(now @ wanted)
    for _ in range(_ROUNDS):
        step = 0.25 / max(size)
        slopes = []
        for edge in range(4):
            move = np.zeros(4)
            # Inward, so that the part stays within the photo.
            move[edge] = step if edge < 2 else -step
            slopes.append((seen(edges + move) - now) / move[edge])
        matrix = np.stack(slopes, axis=1)
        normal, right_side = matrix.T @ matrix, matrix.T @ (wanted - now)
        better = False
        while damping < 1e3:
            change = np.linalg.solve(normal + damping * np.diag(np.diag(normal) + 1e-9), right_side)
            moved = (edges + np.clip(change, -0.1, 0.1)).clip(0.0, 1.0)
            if min(moved[2] - moved[0], moved[3] - moved[1]) >= SMALLEST_PART:
                then = seen(moved)
                if float(then @ wanted) > correlation:
                    better = True
                    break
            damping *= 10
        if not better:
            break
        gain, shift = float(then @ wanted) - correlation, float(np.abs(moved - edges).max())
        edges, now, correlation, damping = moved, then, correlation + gain, max(damping / 10, 1e-6)
        if gain < 1e-6 or shift < 0.02 / max(size):
            break
    left, top, right, bottom = edges.tolist()
    return (left, top, right, bottom), correlation


def _band(values: Grey, opaque: Grey, down: float, across: float, highest: float) -> npt.NDArray[np.float64]:
    """The cosines of a picture between two frequencies, flattened by their frequency, as a vector of length 1."""
    height, width = values.shape
    shown = values.astype(np.float64)
    total = float(opaque.sum())
    shown = (shown - float((shown * opaque).sum()) / total) * opaque if total > 0 else 0 * shown
    where, cycles = _between(height, width, round(down, 3), round(across, 3), highest)
    found = (cosines(height) @ shown @ cosines(width).T)[where] * cycles[where]
    length = float(np.linalg.norm(found))
    return found / length if length > 1e-6 else np.zeros_like(found)


@lru_cache(maxsize=256)
def _between(
    height: int, width: int, down: float, across: float, highest: float
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.float64]]:
    cycles = frequencies(height, width, down, across)
    # A part shows the slow changes of the whole as a slope, which has no frequency of its own.
    return (cycles >= max(LOWEST, 0.75 / min(down, across))) & (cycles <= highest), cycles


def _searched(released: Grey, copy: Grey) -> Iterator[Alignment]:
    """Places of the largest normalised cross-correlation, one for every way of turning and every scale."""
    photo = _flattened(reduced(released, 2 * _COARSE))
    rows, columns = photo.shape
    shape = tuple(1 << (side - 1).bit_length() for side in photo.shape)
    spectrum = np.fft.rfft2(photo, shape)
    # Of all rectangles from the corner.
    sums = np.pad(np.square(photo).cumsum(axis=0).cumsum(axis=1), ((1, 0), (1, 0)))
    for turn in range(8):
        upright = turned(copy, turn)
        ratio = upright.shape[0] / upright.shape[1]
        across = min(1.0, rows / (columns * ratio))
        while across >= SMALLEST_PART and across * columns * ratio >= SMALLEST_PART * rows:
            width, height = round(across * columns), round(across * columns * ratio)
            width, height = min(max(width, 8), columns), min(max(height, 8), rows)
            template = _flattened(part(upright, WHOLE, height, width))
            length = float(np.linalg.norm(template))
            matched = np.fft.irfft2(spectrum * np.conj(np.fft.rfft2(template, shape)), shape)
            matched = matched[: rows - height + 1, : columns - width + 1]
            energy = (
                sums[height:, width:] - sums[:-height, width:] - sums[height:, :-width] + sums[:-height, :-width]
            )[: rows - height + 1, : columns - width + 1]
            score = matched / (np.sqrt(np.maximum(energy, 1e-6)) * max(length, 1e-6))
            top, left = np.unravel_index(int(score.argmax()), score.shape)
            box = (left / columns, top / rows, (left + width) / columns, (top + height) / rows)
            yield Alignment(turn, tuple(map(float, box)), float(score.max()))  # type: ignore[arg-type]  # four of them
            across *= _STEP


def _flattened(values: Grey) -> npt.NDArray[np.float64]:
    """A picture without its slow changes, in its own size."""
    height, width = values.shape
    side = max(2, round(max(height, width) / 12))
    small = part(values, WHOLE, max(1, math.ceil(height / side)), max(1, math.ceil(width / side)))
    found: npt.NDArray[np.float64] = values.astype(np.float64) - part(small, WHOLE, height, width)
    level: npt.NDArray[np.float64] = found - found.mean()
    return level
