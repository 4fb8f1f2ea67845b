"""Codes of tasks and classes, drawn from a key: equally far apart within a task, and orthogonal between tasks.

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
   Where a simplex has its origin when codes are drawn says :func:`~.code_places.drawn_codes`.

So a class that is added at the end of a list leaves the codes of the classes before it as they were. What is drawn
differs between these as before, up to its scale, but for the rarest class, of whose code more or less may be left. The
other tasks do not change while the list stays within its reserve; when it outgrows it, the axes of the tasks after it
are drawn anew.
"""

import hashlib
import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from mtlue_cli.keys import Key
from mtlue_cli.tasks.spec import TaskSet

CODE_VERSION = 2
"""Number of the construction of codes and of what is drawn of them: under another number a key gives other codes."""

_DOMAIN = f"mtlue code v{CODE_VERSION}"
_ROUNDING = float(1 << 20)
_CLASSES_AT_A_TIME = 256

Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Codebook:
    """The codes of a task set under a key.

    Attributes:
        key: The secret.
        tasks: Tasks and classes, in the order in which codes are made orthogonal.
        dimension: Of the space.
    """

    key: Key
    tasks: TaskSet
    dimension: int

    def __post_init__(self) -> None:
        """Refuse a space that holds nothing.

        Raises:
            ValueError: It has no dimension.
        """
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
            drawn = _normal_rows(self.key, (("axis", task.name, str(axis)) for axis in range(count)), self.dimension)
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
            directions[start : start + len(part)] = _normal_rows(
                self.key, (("class", task, name) for name in part), axes
            )
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


def normal_numbers(key: Key, words: Iterable[str], count: int) -> Numbers:
    """Standard normal numbers, ``(count,)``, from a key and a name; steps 1 and 2 of the module's text."""
    row: Numbers = _normal_rows(key, [tuple(words)], count)[0]
    return row


def _normal_rows(key: Key, names: Iterable[tuple[str, ...]], count: int) -> Numbers:
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
    """``vector`` without its part in the span of the orthonormal rows of ``basis``, at unit length.

    Source:
        Gram-Schmidt, twice: Giraud et al., Computers & Mathematics with Applications 50, 2005: two are enough.
    """
    for _ in range(2):
        vector = vector - (basis @ vector) @ basis
        vector = vector / np.linalg.norm(vector)
    return vector
