"""How large the photos are that are read: a limit of the running call, which the threads that read for it share."""

import contextlib
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import ContextVar, copy_context
from functools import partial
from typing import ParamSpec, TypeVar

from mtlue_cli.choices import MAX_PIXELS

ParametersT = ParamSpec("ParametersT")
ResultT = TypeVar("ResultT")

MAX_SIDE = 65_535
"""Longest side in pixels, JPEG's own limit. A line of a hundred million pixels is a small file, but the perturbation is
interpolated across whole rows."""

_BYTES_A_PIXEL = 8
"""Four channels of 16 bits: no photo takes more, uncompressed."""
_SPARE_BYTES = 64 << 20
"""For metadata."""

_limit = ContextVar("max_pixels", default=MAX_PIXELS)


def max_pixels() -> int:
    """Pixels that a photo may have at present."""
    return _limit.get()


def max_bytes() -> int:
    """Bytes that a photo's file may have at present."""
    return max_pixels() * _BYTES_A_PIXEL + _SPARE_BYTES


@contextlib.contextmanager
def photos_up_to(limit: int) -> Iterator[None]:
    """Within it photos of up to ``limit`` pixels, height times width, are read.

    It holds for the calling thread and for :class:`ReadingThreads`; calls in other threads keep their own limit.
    """
    token = _limit.set(limit)
    try:
        yield
    finally:
        _limit.reset(token)


class ReadingThreads(ThreadPoolExecutor):
    """Threads that read photos under the limit of whoever submits the work."""

    def submit(
        self, fn: Callable[ParametersT, ResultT], /, *args: ParametersT.args, **kwargs: ParametersT.kwargs
    ) -> Future[ResultT]:
        """Run ``fn`` in a thread, in a copy of the caller's context."""
        return super().submit(partial(copy_context().run, fn, *args, **kwargs))
