"""Codes of tasks and classes, drawn from a key: equally far apart within a task, and orthogonal between tasks.

Then where the origin lies among the codes of a task, which is what a clean image has: no code.

Numpy only. A code is a point in a space of a given dimension. Where it comes from is fixed here for good, so that a
key gives the same codes anywhere (:data:`CODE_VERSION` is the number of the construction):

1. *Stream.* HMAC-SHA256 under the key, of the words of its name (``"mtlue code v2"``, then ``"axis"``, task, number, or
   ``"class"``, task, class), each as UTF-8 after its length in bytes as 8 big-endian bytes, seeds SHAKE-256.
2. *Normal numbers.* The stream as little-endian 32-bit words ``w``; ``u = (w + 0.5) / 2**32``; Box-Muller on pairs
   (first ``u`` of a pair: radius, second: angle; cosine, then sine), rounded to multiples of ``2**-20``, so that what
   differs between libraries in the last bit of a logarithm differs no more.
3. *Axes.* A task with ``C`` classes reserves ``S`` axes, the next power of two from ``C - 1`` up, at least 1: a simplex
   of two is a line, one of three a triangle. Its axes are made orthogonal, one after the other, to each other and to
   those of the tasks before it. When the space is full, a new frame begins, with the axes that the task at hand has so
   far: tasks of one frame are orthogonal exactly, those of different frames nearly, as random directions are. A task
   never has more axes than the space has dimensions.
4. *Codes.* Class number 0 has the code 0. That of class number ``i`` is the centroid of the codes before it and, from
   there, a step of ``sqrt((i + 1) / i)`` in a direction of its own: its numbers, cut to the task's first axes (the next
   power of two from ``i`` up), the first of them 1 if all are 0, made orthogonal to the directions of the classes
   before it. So all are ``sqrt(2)`` apart, a simplex. Classes beyond the axes lie in directions that are left as they
   are drawn, about the centroid of those within and as far from it as they: nearly so.
   Where a simplex has its origin when codes are painted says :func:`centred_codes`.

So a class that is added at the end of a list leaves the codes of the classes before it as they were. What is painted
differs between these as before, up to its scale, but for the rarest class, of whose code more or less may be left. The
other tasks do not change while the list stays within its reserve; when it outgrows it, the axes of the tasks after it
are drawn anew.
"""

import hashlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from mtlue_cli.keys import Key
from mtlue_cli.tasks.spec import TaskSet

CODE_VERSION = 2
"""Number of the construction of codes and of what is painted of them: under another number a key gives other codes."""

_DOMAIN = f"mtlue code v{CODE_VERSION}"
_ROUNDING = float(1 << 20)
_CLASSES_AT_A_TIME = 256

LEAST_FULL = 0.6
"""Entropy of labels, as a share of the largest that so many classes can have, from which a task counts as even."""

COMMON = 1 / 3
"""Share of the power at most that goes into what all images have in common."""

STEPS, MOST_STEPS = 20, 18
"""Steps from the middle of all classes to the rarest, and how many of them the origin is moved at most. All the way,
the images of a rarest class would be released as they were where theirs is the only column."""

Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Codebook:
    """The codes of a task set under a key, in a space of ``dimension``, made orthogonal in the order of the tasks.

    Raises:
        ValueError: The space has no dimension.
    """

    key: Key
    tasks: TaskSet
    dimension: int

    def __post_init__(self) -> None:
        if self.dimension < 1:
            raise ValueError(f"codes need at least one dimension, not {self.dimension}")

    def of_task(self, name: str) -> Numbers:
        """Codes of a task's classes, ``(C, dimension)``: every two ``sqrt(2)`` apart as far as there are axes."""
        axes = self._axes[self.tasks.names.index(name)]
        codes: Numbers = self._coefficients(name, self.tasks[name].classes, len(axes)) @ axes
        return codes

    @cached_property
    def _axes(self) -> list[Numbers]:
        """Orthonormal axes of each task, ``(S, dimension)``, in the order of the tasks."""
        found: list[Numbers] = []
        frame = np.empty((self.dimension, self.dimension))
        used = 0
        for task in self.tasks:
            count = min(reserved_axes(task.num_classes), self.dimension)
            drawn = normal_numbers(self.key, (("axis", task.name, str(axis)) for axis in range(count)), self.dimension)
            for index, row in enumerate(drawn):
                if used == self.dimension:
                    frame[:index] = drawn[:index]
                    used = index
                drawn[index] = frame[used] = _orthonormal(row, frame[:used])
                used += 1
            found.append(drawn)
        return found

    def _coefficients(self, task: str, classes: tuple[str, ...], axes: int) -> Numbers:
        """Codes on a task's axes, ``(C, axes)``."""
        directions = np.zeros((len(classes), axes))
        for start in range(0, len(classes), _CLASSES_AT_A_TIME):
            part = classes[start : start + _CLASSES_AT_A_TIME]
            names = (("class", task, name) for name in part)
            directions[start : start + len(part)] = normal_numbers(self.key, names, axes)
        codes = np.zeros_like(directions)
        exact = min(len(classes), axes + 1)
        for index in range(1, exact):
            directions[index, min(reserved_axes(index + 1), axes) :] = 0.0
            if not directions[index].any():
                directions[index, 0] = 1.0
            directions[index] = _orthonormal(directions[index], directions[1:index])
            codes[index] = codes[:index].mean(axis=0) + math.sqrt((index + 1) / index) * directions[index]
        if exact < len(classes):
            beyond = directions[exact:] / np.linalg.norm(directions[exact:], axis=1, keepdims=True)
            codes[exact:] = codes[:exact].mean(axis=0) + math.sqrt(axes / exact) * beyond
        return codes


def reserved_axes(classes: int) -> int:
    """Axes that a task with so many classes reserves: a power of two."""
    return 1 << max(0, classes - 2).bit_length()


def normal_numbers(key: Key, names: Iterable[tuple[str, ...]], count: int) -> Numbers:
    """Standard normal numbers, ``(names, count)``; steps 1 and 2 of the module's text."""
    pairs = (count + 1) // 2
    streams = [hashlib.shake_256(key.derive(_encoded(name))).digest(8 * pairs) for name in names]
    words = np.frombuffer(b"".join(streams), dtype="<u4").reshape(len(streams), pairs, 2)
    uniform = (words + 0.5) / 2.0**32
    radius = np.sqrt(-2.0 * np.log(uniform[..., 0]))
    angle = 2.0 * np.pi * uniform[..., 1]
    normal = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=-1).reshape(len(streams), 2 * pairs)
    rounded: Numbers = np.rint(normal[:, :count] * _ROUNDING) / _ROUNDING
    return rounded


def _encoded(words: Iterable[str]) -> bytes:
    # Lengths first, so that no two lists of words read alike.
    parts = (word.encode("utf-8", "surrogatepass") for word in (_DOMAIN, *words))
    return b"".join(len(part).to_bytes(8, "big") + part for part in parts)


def _orthonormal(vector: Numbers, basis: Numbers) -> Numbers:
    """``vector`` without its part in the span of the orthonormal rows of ``basis``, at unit length."""
    for _ in range(2):  # two are enough: Giraud et al., Computers & Mathematics with Applications 50, 2005
        vector = vector - (basis @ vector) @ basis
        vector = vector / np.linalg.norm(vector)
    return vector


class Origin(NamedTuple):
    """The origin among the codes of a task: what a victim takes a clean image for, which has no code.

    Attributes:
        towards_rarest: From 0, in the middle of all classes, to 1, at the rarest.
        from_mean: From 0, at the mean over the images, to 1, where ``towards_rarest`` says.
    """

    towards_rarest: float
    from_mean: float


def centred_codes(codes: Numbers, shares: Numbers, origin: Origin) -> Numbers:
    """Codes of a task about the origin, as they are painted.

    If classes are about as frequent, the rarest has no code and the codes of the others are orthogonal, a clean image
    passes for the rarest, which is rarely right. The code of a class that nearly all images have says nothing and takes
    the bound away from other tasks; about the mean over the images it is hardly painted.

    Args:
        codes: ``(C, d)``, ``sqrt(2)`` apart as far as there are axes.
        shares: Of each class among the images, ``(C,)``, all positive.
        origin: Its position.

    Returns:
        ``(C, d)``, scaled so that the simplex of ``codes`` has unit length. Classes other than the rarest differ as
        their codes do, at that scale, wherever the origin is.
    """
    count, rarest = len(codes), int(shares.argmin())
    simplex = codes - codes.mean(axis=0)
    about = simplex - origin.towards_rarest * np.outer(_pulled(shares), simplex[rarest])
    centred: Numbers = math.sqrt(count / max(1, count - 1)) * (about - (1 - origin.from_mean) * (shares @ about))
    return centred


def _pulled(shares: Numbers) -> Numbers:
    """How much of the rarest vertex of a simplex is taken from each so that the others are orthogonal (Loewdin)."""
    pulled = np.full(len(shares), 1 / (1 + math.sqrt(len(shares))))
    pulled[shares.argmin()] = 1.0
    return pulled


def origins(shares: Sequence[Numbers]) -> list[Origin]:
    """The origin among the codes of each task: as misleading as :data:`COMMON` allows.

    What all images have in common says nothing, and takes power away from what does: half of it if the rarest of two
    classes has no code, less with more classes. So columns of many classes have their origin near the rarest, columns
    of two between that and the middle.

    Returns:
        An origin per task: ``towards_rarest`` one figure for all; ``from_mean`` in proportion to the entropy of its
        labels, up to :data:`LEAST_FULL` of the largest, or more if the limit asks for it.
    """
    assert all((own > 0).all() for own in shares)
    full, step = LEAST_FULL, MOST_STEPS
    while True:
        found = [Origin(step / STEPS, min(1.0, evenness(own) / full)) for own in shares]
        power = common = 0.0
        for own, origin in zip(shares, found, strict=True):
            in_common, in_all = _powers(own, origin)
            common += in_common
            power += in_all
        if not common > COMMON * power:
            return found
        step, full = (step - 1, full) if step else (0, full * 1.1)


def _powers(shares: Numbers, origin: Origin) -> tuple[float, float]:
    """Power of the mean over the images of :func:`centred_codes`, times the evenness of the task, and of all of it."""
    count, rarest = len(shares), int(shares.argmin())
    length = 1 - 1 / count
    products = np.full(count, -1 / count)
    products[rarest] = length
    pulled = origin.towards_rarest * _pulled(shares)
    mean = float(shares @ pulled)
    common = float(shares @ shares) - 1 / count - 2 * mean * (shares[rarest] - 1 / count) + mean**2 * length
    whole = float(shares @ (length - 2 * pulled * products + np.square(pulled) * length))
    loud = evenness(shares) ** 2 * count / max(1, count - 1)
    return loud * origin.from_mean**2 * common, loud * (whole - (1 - origin.from_mean**2) * common)


def evenness(shares: Numbers) -> float:
    """Entropy of labels with these shares, ``(C,)``, all positive, over the largest that so many classes can have."""
    return float(-(shares @ np.log(shares)) / np.log(max(2, len(shares))))
