"""Single photos on their way into a release, and the pipeline that keeps decoder, network and encoder busy at once."""

import errno
import hashlib
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mtlue_cli.choices import ImageFormat
from mtlue_cli.errors import ImageError, MtlueError
from mtlue_cli.files import file_digest, unwritable, write_atomically
from mtlue_cli.images.decode import NO_MEMORY, DecodedImage, decode_bytes, pixel_count, read_content, to_square
from mtlue_cli.images.encode import comparable_pixels, encode_image, is_lossless, same_alpha
from mtlue_cli.images.targets import row_maps
from mtlue_cli.manifest import FileRecord, QuarantineRecord
from mtlue_cli.perturbation.apply import measure_change, protect_pixels
from mtlue_cli.perturbation.batching import Labels
from mtlue_cli.tasks.paths import path_fault
from mtlue_cli.workflows.map_copies import MapCopies
from mtlue_cli.workflows.protect_plan import ProtectPlan

Record = FileRecord | QuarantineRecord
Perturb = Callable[[Sequence[npt.NDArray[np.uint8]], Labels], Sequence[npt.NDArray[np.float32]]]

PIXEL_BUDGET = 48_000_000
"""Pixels of decoded photos that may wait in memory at once (a single larger photo passes alone)."""

BYTES_A_PIXEL = 3
"""Of a decoded photo; bytes of a file count as pixels at this rate."""


@dataclass(frozen=True)
class Prepared:
    """A decoded photo.

    Attributes:
        row: Its row in the plan.
        digest: SHA-256 of its file.
        image: What it holds.
        square: ``(3, S, S)`` uint8, what the generator sees.
        maps: Of each protected dense task, in the size of ``square``.
        map_digests: SHA-256 of every map of the row, by its path.
    """

    row: int
    digest: str
    image: DecodedImage
    square: npt.NDArray[np.uint8]
    maps: Mapping[str, npt.NDArray[Any]]
    map_digests: Mapping[str, str]


class PhotoSteps:
    """The two halves of a photo's way, either side of the network; safe to call from several threads.

    Args:
        plan: What is to be done.
        images: Folder of the originals.
    """

    def __init__(self, plan: ProtectPlan, images: Path) -> None:
        self._plan = plan
        self._images = images
        self._format = ImageFormat(plan.run.image_format)
        self._maps = MapCopies(plan.labels.table.maps_folder, plan.release)

    def read(self, row: int) -> bytes | QuarantineRecord:
        """Content of the original."""
        try:
            return read_content(self._images / self._plan.table.file_names[row])
        except ImageError as error:
            return self.quarantine(row, error)

    def prepare(self, row: int, content: bytes) -> Prepared | Record:
        """Decode; the earlier record if the release already holds this very photo.

        Raises:
            MtlueError: The photo is itself a released one.
        """
        source = self._plan.table.file_names[row]
        digest = hashlib.sha256(content).hexdigest()
        released = None if self._plan.force else self._plan.earlier.released.get(digest)
        if released is not None:
            raise MtlueError(
                f"{self._images / source} is protected already: it is {released}, byte for byte; put the original "
                "back, or give --force to protect it a second time, and run the command again to go on"
            )
        record = self._plan.earlier.records.get(source)
        try:
            maps = self._maps.digests(self._plan.labels.table.map_files(row))
            if record is not None and self._is_current(row, record, digest, maps):
                return record
            image, table, size = decode_bytes(content), self._plan.table, self._plan.card.image_size
            targets = row_maps(table.maps_folder, table, table.tasks, row, size)
            return Prepared(row, digest, image, to_square(image, size), targets, maps)
        except Exception as error:  # one bad photo must not end the run, whatever its decoder raises
            return self.quarantine(row, error)

    def finish(self, prepared: Prepared, delta: npt.NDArray[np.float32]) -> Record:
        """Add, encode, read back, measure, and only then write.

        Raises:
            MtlueError: The file cannot be written: the disk is full, say.
        """
        run, image = self._plan.run, prepared.image
        try:
            pixels = protect_pixels(image.pixels, delta, run.epsilon)
            content = encode_image(pixels, image, self._format, run.keep_metadata)
            del pixels  # makes room for what is read back
            saved = decode_bytes(content)
            change = measure_change(comparable_pixels(image.pixels, saved.pixels), saved.pixels)
            if not same_alpha(image.alpha, saved.alpha):
                raise ImageError("its alpha does not survive the format; use --format png")
            if is_lossless(self._format, image.format) and change.largest > run.epsilon:
                raise ImageError(f"changed by {change.largest:g}/255 when saved, the bound is {run.epsilon}/255")
        except Exception as error:  # one bad photo must not end the run, whatever its encoder raises
            return self.quarantine(prepared.row, error)
        target = self._plan.targets[prepared.row]
        try:
            self._maps.copy(prepared.map_digests)
        except ImageError as error:
            return self.quarantine(prepared.row, error)
        try:
            write_atomically(self._plan.release / target, content, keep_name=False)
        except OSError as error:
            if error.errno == errno.ENAMETOOLONG:
                return self.quarantine(prepared.row, ImageError(f"its released name is too long: {target}"))
            raise MtlueError(unwritable(self._plan.release / target, error)) from error
        return FileRecord(
            target,
            self._plan.table.file_names[prepared.row],
            prepared.digest,
            hashlib.sha256(content).hexdigest(),
            self._plan.cells(prepared.row),
            change.largest,
            None if change.psnr is None else round(change.psnr, 3),
            maps=prepared.map_digests,
        )

    def quarantine(self, row: int, error: Exception) -> QuarantineRecord:
        """Record why a photo is not released, and see to it that no earlier version of it is.

        Maps that no released photo names go when the run is closed.
        """
        discard(self._plan.release / self._plan.targets[row])
        known = isinstance(error, ImageError | ValueError)
        reason = str(error) if known else f"cannot be protected: {type(error).__name__}: {error}"
        if isinstance(error, MemoryError):
            reason = NO_MEMORY
        return QuarantineRecord(self._plan.table.file_names[row], reason)

    def _is_current(self, row: int, record: FileRecord, digest: str, maps: Mapping[str, str]) -> bool:
        if record.source_sha256 != digest or record.file_name != self._plan.targets[row]:
            return False
        if dict(record.maps) != maps or not all(map(self._maps.is_copied, maps, maps.values())):
            return False
        if dict(record.labels) != self._plan.cells(row) or path_fault(record.file_name) is not None:
            return False
        try:
            return file_digest(self._plan.release / record.file_name) == record.sha256
        except OSError:
            return False


def discard(path: Path) -> None:
    """Remove a file if it is there; one whose name is too long for the file system is not."""
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise


class Pipeline:
    """Decodes ahead, runs the network on full batches, and encodes behind, within a fixed budget of memory.

    ``pool`` decodes the photos to come and finishes those that are through. A network on an accelerator is called from
    the caller's thread; one on the CPU is called from the pool too, a small batch a thread, so that cores are shared
    out by whole batches instead of being fought over within each. At most a few batches are in memory, fewer when the
    photos are large.

    Args:
        steps: The two halves of a photo's way.
        columns: Task name to class indices, a row each.
        perturb: The network: squares and labels to perturbations; called from several threads if ``in_pool``.
        pool: Threads.
        workers: Their number.
        batch_size: Photos that are gathered before the network runs.
        done: Called in the caller's thread with each row and its record.
        in_pool: Whether the network runs in ``pool``.
    """

    def __init__(
        self,
        steps: PhotoSteps,
        columns: Mapping[str, npt.NDArray[np.int64]],
        perturb: Perturb,
        pool: Executor,
        workers: int,
        batch_size: int,
        done: Callable[[int, Record], None],
        *,
        in_pool: bool = False,
    ) -> None:
        self._steps = steps
        self._columns = columns
        self._perturb = perturb
        self._pool = pool
        self._ahead = (workers + 1) * batch_size if in_pool else batch_size + workers
        self._batch_size = batch_size
        self._done = done
        self._in_pool = in_pool
        self._decoding: deque[tuple[int, Future[Prepared | Record]]] = deque()
        self._batch: list[Prepared] = []
        self._encoding: deque[tuple[Sequence[int], Future[Sequence[Record]]]] = deque()
        self._waiting = 0
        self._pixels: dict[int, int] = {}
        self._held = 0

    def run(self, rows: Sequence[int]) -> None:
        """Bring ``rows`` through."""
        for row in rows:
            content = self._steps.read(row)
            if isinstance(content, QuarantineRecord):
                self._done(row, content)
                continue
            # A file may be far larger than its pixels, and waits in memory just so.
            pixels = max(pixel_count(content), len(content) // BYTES_A_PIXEL)
            while self._decoding and (len(self._decoding) >= self._ahead or self._is_full(pixels)):
                self._take_decoded()
            if self._is_full(pixels):
                self._flush()
            while self._encoding and self._is_full(pixels):
                self._take_encoded()
            self._pixels[row] = pixels
            self._held += pixels
            self._decoding.append((row, self._pool.submit(self._steps.prepare, row, content)))
        while self._decoding:
            self._take_decoded()
        self._flush()
        while self._encoding:
            self._take_encoded()

    def _is_full(self, pixels: int) -> bool:
        return self._held > 0 and self._held + pixels > PIXEL_BUDGET

    def _take_decoded(self) -> None:
        row, future = self._decoding.popleft()
        outcome = future.result()
        if not isinstance(outcome, Prepared):
            self._record(row, outcome)
            return
        self._batch.append(outcome)
        if len(self._batch) >= self._batch_size:
            self._flush()

    def _flush(self) -> None:
        if not self._batch:
            return
        batch, self._batch = self._batch, []
        if self._in_pool:
            self._submit(batch, lambda: self._finish(batch, self._deltas(batch)))
        else:
            for prepared, delta in zip(batch, self._deltas(batch), strict=True):
                self._submit([prepared], partial(self._finish, [prepared], [delta]))
        while self._waiting > self._ahead:
            self._take_encoded()

    def _deltas(self, batch: Sequence[Prepared]) -> Sequence[npt.NDArray[np.float32]]:
        labels: dict[str, Sequence[int] | Sequence[npt.NDArray[Any]]] = {
            name: [int(column[prepared.row]) for prepared in batch] for name, column in self._columns.items()
        }
        labels.update({name: [prepared.maps[name] for prepared in batch] for name in batch[0].maps})
        return self._perturb([prepared.square for prepared in batch], labels)

    def _finish(self, batch: Sequence[Prepared], deltas: Sequence[npt.NDArray[np.float32]]) -> list[Record]:
        return [self._steps.finish(prepared, delta) for prepared, delta in zip(batch, deltas, strict=True)]

    def _submit(self, batch: Sequence[Prepared], work: Callable[[], Sequence[Record]]) -> None:
        self._waiting += len(batch)
        self._encoding.append(([prepared.row for prepared in batch], self._pool.submit(work)))

    def _take_encoded(self) -> None:
        rows, future = self._encoding.popleft()
        self._waiting -= len(rows)
        for row, record in zip(rows, future.result(), strict=True):
            self._record(row, record)

    def _record(self, row: int, record: Record) -> None:
        self._held -= self._pixels.pop(row)
        self._done(row, record)
