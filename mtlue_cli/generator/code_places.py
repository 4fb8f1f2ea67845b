"""Where no code lies among the codes of a task: what a victim takes a clean image for, which has none."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

LEAST_FULL = 0.6
"""Entropy of labels, as a share of the largest that so many classes can have, from which a task counts as even."""

COMMON = 1 / 3
"""Share of the power at most that goes into what all images have in common."""

STEPS = 20
"""Steps from the middle of all classes to the rarest."""

MOST_STEPS = 18
"""How many of them no code is moved at most. All the way, the images of a rarest class would be released as they were
where theirs is the only column."""


class Place(NamedTuple):
    """Where no code lies among the codes of a task.

    Attributes:
        misleads: From 0, in the middle of all classes, to 1, with the rarest.
        even: From 0, at the mean over the images, to 1, where ``misleads`` says.
    """

    misleads: float
    even: float


def drawn_codes(
    codes: npt.NDArray[np.float64], shares: npt.NDArray[np.float64], place: Place
) -> npt.NDArray[np.float64]:
    """Codes of a task as they are drawn: about the place of no code, which is what a clean image has.

    *Classes that are about as frequent.* If the rarest has no code, and the codes of the others are orthogonal, a clean
    image passes for the rarest, which is rarely right. In the middle of a simplex it lies between all classes, and what
    it shows decides. *A class that nearly all images have.* All would carry its code, which tells nothing and takes the
    bound away from other tasks; about the mean over the images it is hardly drawn.

    Args:
        codes: ``(C, d)``, ``sqrt(2)`` apart as far as there are axes.
        shares: Of each class among the images, ``(C,)``, all positive.
        place: Of no code.

    Returns:
        ``(C, d)`` in the ``C - 1`` dimensions of the simplex of ``codes``, of lengths for which that simplex has unit
        length. Classes other than the rarest differ as their codes do, at that scale, whatever the place.
    """
    count, rarest = len(codes), int(shares.argmin())
    simplex = codes - codes.mean(axis=0)
    about = simplex - place.misleads * np.outer(_pulled(shares), simplex[rarest])
    drawn: npt.NDArray[np.float64] = math.sqrt(count / max(1, count - 1)) * (
        about - (1 - place.even) * (shares @ about)
    )
    return drawn


def _pulled(shares: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """How much of the rarest vertex of a simplex is taken from each so that the others are orthogonal, ``(C,)``.

    Source:
        Loewdin's orthonormal basis, alike for all, of the vertices but the rarest.
    """
    pulled = np.full(len(shares), 1 / (1 + math.sqrt(len(shares))))
    pulled[shares.argmin()] = 1.0
    return pulled


def places(shares: Sequence[npt.NDArray[np.float64]]) -> list[Place]:
    """Where no code lies among the codes of each task: as misleading as :data:`COMMON` allows.

    What all images have in common tells nothing, and takes power away from what does. If the rarest of two classes has
    no code, it is half; with more classes less, for their codes are orthogonal, unless one of them is frequent. So
    columns of many classes have no code near the rarest, columns of two between that and the middle. How many columns
    there are plays no part: they are orthogonal too.

    Args:
        shares: Of each class among the images, ``(C,)``, all positive, a task each.

    Returns:
        A place a task: ``misleads`` one figure for all; ``even`` in proportion to the entropy of its labels, up to
        :data:`LEAST_FULL` of the largest, or more if the limit asks for it.
    """
    assert all((own > 0).all() for own in shares)
    full, step = LEAST_FULL, MOST_STEPS
    while True:
        found = [Place(step / STEPS, min(1.0, evenness(own) / full)) for own in shares]
        power = common = 0.0
        for own, place in zip(shares, found, strict=True):
            in_common, in_all = _powers(own, place)
            common += in_common
            power += in_all
        if not common > COMMON * power:
            return found
        if step:
            step -= 1
        else:
            full *= 1.1


def _powers(shares: npt.NDArray[np.float64], place: Place) -> tuple[float, float]:
    """Power of the mean over the images of codes as they are drawn, and of all of it: of :func:`drawn_codes`, loud."""
    count, rarest = len(shares), int(shares.argmin())
    length = 1 - 1 / count
    products = np.full(count, -1 / count)
    products[rarest] = length
    pulled = place.misleads * _pulled(shares)
    mean = float(shares @ pulled)
    common = float(shares @ shares) - 1 / count - 2 * mean * (shares[rarest] - 1 / count) + mean**2 * length
    whole = float(shares @ (length - 2 * pulled * products + np.square(pulled) * length))
    loud = evenness(shares) ** 2 * count / max(1, count - 1)
    return loud * place.even**2 * common, loud * (whole - (1 - place.even**2) * common)


def evenness(shares: npt.NDArray[np.float64]) -> float:
    """Entropy of a task's labels as a share of the largest that so many classes can have.

    Args:
        shares: Of each class among the images, ``(C,)``, all positive.
    """
    return float(-(shares @ np.log(shares)) / np.log(max(2, len(shares))))
