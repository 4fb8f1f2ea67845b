"""Codes of tasks and classes, drawn from a key: orthogonal within a task and between tasks.

Numpy only. A code is a direction in a space of a given dimension. Where it comes from is fixed here for good, so that a
key gives the same codes anywhere:

1. *Stream.* HMAC-SHA256 under the key, of the words of its name (``"mtlue code v1"``, then ``"axis"``, task, number, or
   ``"class"``, task, class), each as UTF-8 after its length in bytes as 8 big-endian bytes, seeds SHAKE-256.
2. *Normal numbers.* The stream as little-endian 32-bit words ``w``; ``u = (w + 0.5) / 2**32``; Box-Muller on pairs
   (first ``u`` of a pair: radius, second: angle; cosine, then sine), rounded to multiples of ``2**-20``, so that what
   differs between libraries in the last bit of a logarithm differs no more.
3. *Axes.* A task with ``C`` classes reserves ``S`` axes, the next power of two from ``C`` up, at least 2. Its axes are
   made orthogonal, one after the other, to each other and to those of the tasks before it. When the space is full, a
   new frame begins, with the axes that the task at hand has so far: tasks of one frame are orthogonal exactly, those of
   different frames nearly, as random directions are. A task never has more axes than the space has dimensions.
4. *Codes.* Class number ``i`` is drawn on the task's first ``max(2, next power of two from i + 1)`` axes and made
   orthogonal to the classes before it. Classes beyond the axes are random directions among them, nearly orthogonal.
5. *Simplex.* Orthonormal codes less their mean form a simplex: every two classes have the cosine ``-1 / (C - 1)``. What
   is subtracted when codes are drawn says :func:`~.code_places.drawn_codes`.

So a class that is added at the end of a list leaves the codes of the classes before it as they were. What is drawn
differs between these as before, up to its scale, but for the rarest class, of whose code more or less may be left. The
other tasks do not change while the list stays within its reserve; when it outgrows it, the axes of the tasks after it
are drawn anew.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from mtlue_cli.keys import Key
from mtlue_cli.tasks.spec import TaskSet

LEAST_AXES = 2

_DOMAIN = "mtlue code v1"
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
        """Refuse a space that holds no two directions.

        Raises:
            ValueError: It has fewer than two dimensions.
        """
        if self.dimension < LEAST_AXES:
            raise ValueError(f"codes need at least {LEAST_AXES} dimensions, not {self.dimension}")

    def of_task(self, name: str) -> Numbers:
        """Unit codes of a task's classes, ``(C, dimension)``."""
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
        """Unit codes on a task's axes, ``(C, axes)``."""
        codes = np.zeros((len(classes), axes))
        for start in range(0, len(classes), _CLASSES_AT_A_TIME):
            part = classes[start : start + _CLASSES_AT_A_TIME]
            codes[start : start + len(part)] = _normal_rows(self.key, (("class", task, name) for name in part), axes)
        for index in range(min(len(classes), axes)):
            codes[index, min(reserved_axes(index + 1), axes) :] = 0.0
            codes[index] = _orthonormal(codes[index], codes[:index])
        codes[axes:] /= np.linalg.norm(codes[axes:], axis=1, keepdims=True)
        return codes


def reserved_axes(classes: int) -> int:
    """Axes that a task with so many classes reserves: a power of two."""
    return max(LEAST_AXES, 1 << (classes - 1).bit_length())


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
