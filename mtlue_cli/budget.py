"""What a single file may cost: limits of the running call, which the threads that read for it share."""

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import ContextVar, copy_context
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, ParamSpec, TypeVar

from mtlue_cli.choices import MAX_PIXELS
from mtlue_cli.errors import ImageError, InputError
from mtlue_cli.options import LIMITS, Option

ParametersT = ParamSpec("ParametersT")
ResultT = TypeVar("ResultT")

MAX_SIDE = 65_535
"""Longest side in pixels, JPEG's own limit. A line of a hundred million pixels is a small file, but the perturbation is
interpolated across whole rows."""

BYTES_A_PIXEL = 8
"""Four channels of 16 bits: no photo takes more, uncompressed."""
_SPARE_BYTES = 64 << 20
"""For metadata."""


@dataclass(frozen=True)
class Budget:
    """What a single file may cost to read; one that costs more is refused before memory is set aside for it.

    Attributes:
        max_pixels: Refuse photos of more pixels, width times height; protecting one takes up to 30 bytes per pixel.
        max_scans: Refuse JPEG photos of more scans, each of which is decoded over the whole photo.
        max_seconds: Refuse photos that take longer to decode.
        max_label_bytes: Refuse label files of more bytes.
        max_rows: Refuse label files of more rows.
        max_columns: Refuse label files of more columns, including those that lists of labels make.
        max_cells: Refuse label files of more cells, rows times columns.
        max_network_bytes: Refuse weights whose network takes more memory for one call, by the sizes that they state.
    """

    max_pixels: Annotated[int, Option(panel=LIMITS, metavar="N", minimum=1, shared=True)] = MAX_PIXELS
    max_scans: Annotated[int, Option(panel=LIMITS, metavar="N", minimum=1, shared=True)] = 500
    max_seconds: Annotated[float, Option(panel=LIMITS, metavar="SECONDS", minimum=1, shared=True)] = 120.0
    max_label_bytes: Annotated[int, Option(panel=LIMITS, metavar="N", minimum=1, shared=True)] = 1 << 30
    max_rows: Annotated[int, Option(panel=LIMITS, metavar="N", minimum=1, shared=True)] = 4_000_000
    max_columns: Annotated[int, Option(panel=LIMITS, metavar="N", minimum=1, shared=True)] = 10_000
    max_cells: Annotated[int, Option(panel=LIMITS, metavar="N", minimum=1, shared=True)] = 50_000_000
    max_network_bytes: Annotated[int, Option(panel=LIMITS, metavar="N", minimum=1, shared=True)] = 2 << 30

    @property
    def photo_bytes(self) -> int:
        """Bytes that a photo's file may have."""
        return self.max_pixels * BYTES_A_PIXEL + _SPARE_BYTES


DEFAULT = Budget()
_current = ContextVar("budget", default=DEFAULT)
_stopped: ContextVar[threading.Event | None] = ContextVar("stopped", default=None)


def budget() -> Budget:
    """The limits at present."""
    return _current.get()


@contextlib.contextmanager
def limited_to(limits: Budget) -> Iterator[None]:
    """Within it files are read within ``limits``.

    It holds for the calling thread and for :class:`ReadingThreads`; calls in other threads keep their own limits.
    """
    token = _current.set(limits)
    try:
        yield
    finally:
        _current.reset(token)


def check_table(path: Path, rows: int, columns: int) -> None:
    """Refuse a label file of more rows, columns or cells than the budget has.

    Raises:
        InputError: It is so; says which option sets another limit.
    """
    limits = budget()
    for number, limit, what, option in (
        (rows, limits.max_rows, "rows", "--max-rows"),
        (columns, limits.max_columns, "columns", "--max-columns"),
        (rows * columns, limits.max_cells, f"cells, {rows:,} rows of {columns:,} columns", "--max-cells"),
    ):
        if number > limit:
            raise InputError(
                f"{path} has {number:,} {what}, the limit is {limit:,}", hint=f"set another one with {option}"
            )


def deadline() -> Callable[[], None]:
    """A check to be made between the steps of decoding a photo that begins now.

    It raises an ImageError once the photo has taken too long, and KeyboardInterrupt once its threads are shut down.
    """
    limit, stopped = budget().max_seconds, _stopped.get()
    end = time.monotonic() + limit

    def check() -> None:
        if time.monotonic() > end:
            raise ImageError(f"takes more than {limit:g} s to decode; set another limit with --max-seconds")
        if stopped is not None and stopped.is_set():
            raise KeyboardInterrupt

    return check


class ReadingThreads(ThreadPoolExecutor):
    """Threads that read photos under the limits of whoever submits the work, and end early if that is interrupted."""

    def __init__(self, *arguments: Any, **options: Any) -> None:  # noqa: ANN401 - those of any such pool
        super().__init__(*arguments, **options)
        self._interrupted = threading.Event()

    def submit(
        self, fn: Callable[ParametersT, ResultT], /, *args: ParametersT.args, **kwargs: ParametersT.kwargs
    ) -> Future[ResultT]:
        """Run ``fn`` in a thread, in a copy of the caller's context."""
        context = copy_context()
        context.run(_stopped.set, self._interrupted)
        return super().submit(partial(context.run, fn, *args, **kwargs))

    def map(
        self,
        fn: Callable[..., ResultT],
        *iterables: Iterable[Any],
        timeout: float | None = None,  # noqa: ARG002 - part of the signature
        chunksize: int = 1,
    ) -> Iterator[ResultT]:
        """Results in order, ``chunksize`` of them by one thread in a row.

        Only as much work is begun as keeps the threads busy until the caller takes the next result: what waits in
        memory does not grow with the number of results.
        """
        rows = zip(*iterables, strict=False)
        waiting: deque[Future[list[ResultT]]] = deque()
        while chunk := list(islice(rows, chunksize)):
            waiting.append(self.submit(lambda chunk: [fn(*row) for row in chunk], chunk))
            if len(waiting) > 2 * self._max_workers:
                yield from waiting.popleft().result()
        while waiting:
            yield from waiting.popleft().result()

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the threads; with ``cancel_futures`` those that decode stop between two blocks of their file."""
        if cancel_futures:
            self._interrupted.set()
        super().shutdown(wait, cancel_futures=cancel_futures)

    def __exit__(self, kind: type[BaseException] | None, *rest: Any) -> None:  # noqa: ANN401 - the error
        self.shutdown(cancel_futures=kind is not None)
