"""What is computed of a perturbation that many images share, kept for the next of them."""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from threading import Lock
from typing import Any, TypeVar, cast

import numpy as np
import numpy.typing as npt

KEPT_BYTES = 32 << 20
"""Of arrays that are kept at most, over all perturbations."""

ArraysT = TypeVar("ArraysT", bound=tuple[npt.NDArray[Any], ...])


class SharedDelta(np.ndarray[Any, np.dtype[np.float32]]):
    """A perturbation that is handed out to many images; nobody may write to it."""


def as_shared(delta: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """``delta`` as a perturbation that many images share; it can no longer be written to."""
    delta.setflags(write=False)
    return delta.view(SharedDelta)


class _Kept:
    """Arrays by perturbation and purpose, the least recently used of which go first; safe to use from threads."""

    def __init__(self) -> None:
        self._arrays: OrderedDict[Hashable, tuple[SharedDelta, tuple[npt.NDArray[Any], ...]]] = OrderedDict()
        self._bytes = 0
        self._lock = Lock()

    def get(self, key: Hashable) -> tuple[npt.NDArray[Any], ...] | None:
        with self._lock:
            if key not in self._arrays:
                return None
            self._arrays.move_to_end(key)
            return self._arrays[key][1]

    def put(self, key: Hashable, delta: SharedDelta, arrays: tuple[npt.NDArray[Any], ...]) -> None:
        with self._lock:
            if key in self._arrays:
                return
            self._arrays[key] = delta, arrays  # which also keeps the number of the perturbation from being given again
            self._bytes += sum(array.nbytes for array in arrays)
            while self._bytes > KEPT_BYTES:
                _, (_, old) = self._arrays.popitem(last=False)
                self._bytes -= sum(array.nbytes for array in old)


_KEPT = _Kept()


def computed_once(delta: npt.NDArray[np.float32], purpose: Hashable, compute: Callable[[], ArraysT]) -> ArraysT:
    """``compute()``, which depends on ``delta`` and ``purpose`` alone; kept where ``delta`` is shared.

    The arrays are not to be written to.
    """
    if not isinstance(delta, SharedDelta) or delta.flags.writeable:
        return compute()
    key = (id(delta), purpose)
    found = _KEPT.get(key)
    if found is None:
        found = compute()
        _KEPT.put(key, delta, found)
    return cast(ArraysT, found)
