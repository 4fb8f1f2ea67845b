"""The pipeline that brings photos through decoder, network, encoder and onto the disk, keeping all of them busy."""

from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from typing import Any

import numpy as np
import numpy.typing as npt

from mtlue_cli.generator.inference import Labels
from mtlue_cli.images.decode import pixel_count
from mtlue_cli.release.records import QuarantineRecord, Record
from mtlue_cli.workflows.protect.files import Encoded, PhotoSteps, Prepared

Perturb = Callable[[Sequence[npt.NDArray[np.uint8]], Labels], Sequence[npt.NDArray[np.float32]]]
Records = list[tuple[int, Record]]
Given = tuple[int, bytes]
"""Row and content of a file."""

PIXEL_BUDGET = 48_000_000
"""Pixels of decoded photos that may wait in memory at once (a single larger photo passes alone)."""

UNIT = 8
"""Photos that one thread takes through a step in a row: handing each over alone costs more than a small photo's
decoding."""

UNIT_PIXELS = 4_000_000
"""Pixels of a unit: large photos go by ones, so that no thread waits for another's."""

BYTES_A_PIXEL = 3
"""Of a decoded photo; bytes of a file count as pixels at this rate."""

DISK_THREADS = 4
"""Threads that write. They mostly wait: the disk takes its time to confirm a file, but confirms several at once."""


class Pipeline:
    """Takes photos through in units of a few, ahead of and behind the network, within a fixed budget of memory.

    A network on the CPU is called by the threads of ``pool``: each takes a whole unit from its files to encoded photos,
    so that cores are shared out by units instead of being fought over within each. One on an accelerator is called from
    the caller's thread, with batches of many units that the pool has decoded and will encode. Encoded photos are handed
    to ``disk``, whose threads wait for the disk while the others compute.

    Args:
        steps: The steps of a photo's way.
        perturb: The network: squares and labels to perturbations; called from several threads if ``in_pool``.
        pool: Threads that compute.
        disk: Threads that write.
        workers: Number of those that compute.
        batch_size: Photos that are gathered before the network runs.
        done: Called in the caller's thread with each row and its record.
        in_pool: Whether the network runs in ``pool``.
    """

    def __init__(
        self,
        steps: PhotoSteps,
        perturb: Perturb,
        pool: Executor,
        disk: Executor,
        workers: int,
        batch_size: int,
        done: Callable[[int, Record], None],
        *,
        in_pool: bool = False,
    ) -> None:
        self._steps = steps
        self._perturb = perturb
        self._pool = pool
        self._disk = disk
        self._workers = workers
        self._batch_size = batch_size
        self._done = done
        self._in_pool = in_pool
        self._unit: list[Given] = []
        self._decoding: deque[Future[tuple[list[Prepared], Records]]] = deque()
        self._batch: list[Prepared] = []
        self._encoding: deque[Future[tuple[Records, Future[Records]]]] = deque()
        self._pixels: dict[int, int] = {}
        self._held = 0

    def run(self, rows: Sequence[int]) -> None:
        """Bring ``rows`` through."""
        # A small folder is shared out too.
        most = min(self._batch_size if self._in_pool else UNIT, -(-len(rows) // self._workers))
        for row in rows:
            content = self._steps.read(row)
            if isinstance(content, QuarantineRecord):
                self._done(row, content)
                continue
            # A file may be far larger than its pixels, and waits in memory just so.
            pixels = max(pixel_count(content), len(content) // BYTES_A_PIXEL)
            while self._is_full(pixels):
                self._start_unit()
                self._bring_on()
            if sum(self._pixels[waiting] for waiting, _ in self._unit) + pixels > UNIT_PIXELS:
                self._start_unit()
            self._pixels[row] = pixels
            self._held += pixels
            self._unit.append((row, content))
            if len(self._unit) >= most:
                self._start_unit()
        self._start_unit()
        while self._pixels:
            self._bring_on()

    def _is_full(self, pixels: int) -> bool:
        return self._held > 0 and self._held + pixels > PIXEL_BUDGET

    def _start_unit(self) -> None:
        """Hand the photos that were gathered to the pool."""
        if not self._unit:
            return
        unit, self._unit = self._unit, []
        if self._in_pool:
            self._encoding.append(self._pool.submit(self._protect, unit))
        else:
            self._decoding.append(self._pool.submit(self._prepare, unit))
            while len(self._decoding) > self._workers + self._batch_size // UNIT:
                self._take_decoded()
        while len(self._encoding) > 2 * self._workers + DISK_THREADS + self._batch_size // UNIT:
            self._take_encoded()

    def _bring_on(self) -> None:
        """Wait for the photos that are furthest on their way."""
        if self._encoding:
            self._take_encoded()
        elif self._decoding:
            self._take_decoded()
        else:
            self._flush()

    def _take_decoded(self) -> None:
        prepared, records = self._decoding.popleft().result()
        self._record(records)
        self._batch += prepared
        if len(self._batch) >= self._batch_size:
            self._flush()

    def _flush(self) -> None:
        """Run the network on the batch, and hand it to the pool to be encoded."""
        batch, self._batch = self._batch, []
        deltas = self._deltas(batch)
        for start in range(0, len(batch), UNIT):
            part = slice(start, start + UNIT)
            self._encoding.append(self._pool.submit(self._encode, batch[part], deltas[part], []))

    def _take_encoded(self) -> None:
        records, writing = self._encoding.popleft().result()
        self._record(records)
        self._record(writing.result())

    def _record(self, records: Records) -> None:
        for row, record in records:
            self._held -= self._pixels.pop(row)
            self._done(row, record)

    def _protect(self, unit: Sequence[Given]) -> tuple[Records, Future[Records]]:
        prepared, records = self._prepare(unit)
        return self._encode(prepared, self._deltas(prepared), records)

    def _prepare(self, unit: Sequence[Given]) -> tuple[list[Prepared], Records]:
        prepared: list[Prepared] = []
        records: Records = []
        for row, content in unit:
            outcome = self._steps.prepare(row, content)
            if isinstance(outcome, Prepared):
                prepared.append(outcome)
            else:
                records.append((row, outcome))
        return prepared, records

    def _deltas(self, batch: Sequence[Prepared]) -> Sequence[npt.NDArray[np.float32]]:
        if not batch:
            return []
        labels: dict[str, Sequence[int] | Sequence[npt.NDArray[Any]]] = {
            name: [prepared.classes[name] for prepared in batch] for name in batch[0].classes
        }
        labels.update({name: [prepared.maps[name] for prepared in batch] for name in batch[0].maps})
        return self._perturb([prepared.square for prepared in batch], labels)

    def _encode(
        self, batch: Sequence[Prepared], deltas: Sequence[npt.NDArray[np.float32]], records: Records
    ) -> tuple[Records, Future[Records]]:
        """Encode photos and have them written; ``records`` are passed on."""
        encoded: list[Encoded] = []
        for prepared, delta in zip(batch, deltas, strict=True):
            outcome = self._steps.encode(prepared, delta)
            if isinstance(outcome, Encoded):
                encoded.append(outcome)
            else:
                records.append((prepared.row, outcome))
        return records, self._disk.submit(self._write, encoded)

    def _write(self, encoded: Sequence[Encoded]) -> Records:
        rows = [photo.row for photo in encoded]
        return list(zip(rows, self._steps.write(encoded), strict=True))
