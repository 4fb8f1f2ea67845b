"""The steps that make a released file of a photo, and the pipeline that runs them for many photos."""

import errno
import hashlib
import hmac
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mtlue_cli.budget import ReadingThreads, budget
from mtlue_cli.choices import Quality, metadata_groups
from mtlue_cli.engines.engine import Engine
from mtlue_cli.errors import ImageError, MtlueError, StorageError
from mtlue_cli.files import (
    OpenFolder,
    discard,
    expect,
    has_digest,
    known_digest,
    open_below,
    remote_of,
    unwritable,
    write_atomically,
    write_together,
)
from mtlue_cli.generator.closed_form import Labels
from mtlue_cli.generator.generator import Generator
from mtlue_cli.images.decode import NO_MEMORY, DecodedImage, decode_bytes, pixel_count, read_back, read_content
from mtlue_cli.images.encode import comparable_pixels, encode_image, is_lossless, same_alpha
from mtlue_cli.images.square import to_square
from mtlue_cli.images.targets import row_maps, turned_map
from mtlue_cli.keys import Key
from mtlue_cli.perturbation.bound import protect_pixels
from mtlue_cli.perturbation.effect import LEAST_SHARE, LEAST_STRENGTH, Effect, Shortfall, measure
from mtlue_cli.release.check import record_faults
from mtlue_cli.release.records import FileRecord, QuarantineRecord, Record
from mtlue_cli.tasks.paths import path_fault
from mtlue_cli.tasks.spec import TaskSet
from mtlue_cli.tasks.wording import quoted
from mtlue_cli.workflows.progress import Progress
from mtlue_cli.workflows.protect.plan import ProtectPlan

Perturb = Callable[[Sequence[npt.NDArray[np.uint8]], Labels], Sequence[npt.NDArray[np.float32]]]
Records = list[tuple[int, Record]]

PIXEL_BUDGET = 48_000_000
"""Pixels of decoded photos that may wait in memory at once (a single larger photo passes alone)."""

UNIT = 8
"""Photos that one thread takes through a step in a row: handing each over alone costs more than a small photo's
decoding."""

UNIT_PIXELS = 4_000_000
"""Pixels of a unit: each large photo is a unit, so that no thread waits for another's."""

BYTES_A_PIXEL = 3
"""Of a decoded photo; bytes of a file count as pixels at this rate."""

DISK_THREADS = 4
"""Threads that write. They mostly wait: the disk takes its time to confirm a file, but confirms several at once."""

_UNSEEN = np.empty((3, 0, 0), np.uint8)
_RANDOM_CLASS = "mtlue random class v1"


@dataclass(frozen=True)
class Prepared:
    """A decoded photo.

    Attributes:
        row: Its row in the plan.
        digest: SHA-256 of its file.
        image: What it holds.
        square: ``(3, S, S)`` uint8, what the generator sees; empty if it looks at no image.
        classes: Class index of each protected image-level task.
        maps: Of each protected dense task, in the size of ``square``.
        map_digests: SHA-256 of every map of the row, by its path.
    """

    row: int
    digest: str
    image: DecodedImage
    square: npt.NDArray[np.uint8]
    classes: Mapping[str, int]
    maps: Mapping[str, npt.NDArray[Any]]
    map_digests: Mapping[str, str]


def labels_of(photos: Sequence[Prepared]) -> Labels:
    """The labels of several photos, at least one, as a network takes them."""
    classes: dict[str, Any] = {name: [photo.classes[name] for photo in photos] for name in photos[0].classes}
    return classes | {name: [photo.maps[name] for photo in photos] for name in photos[0].maps}


@dataclass(frozen=True)
class Encoded:
    """A protected photo as a file: read back, measured and within the bound, but not on the disk yet.

    Attributes:
        row: Its row in the plan.
        content: The file.
        record: What the manifest will say of it.
    """

    row: int
    content: bytes
    record: FileRecord


class PhotoSteps:
    """The steps of a photo before and after the network; safe to call from several threads.

    Args:
        plan: What is to be done.
        images: Folder of the originals.
        draw: Classes for an image of random ones, by the digest of its file; None: drawn as the plan says.
        sees_images: Whether the weights look at the images.
        writes: Whether photos are released; a preview releases none.

    Attributes:
        fixes: What to do about photos that got less than the least effect, so far.
        lost_profiles: Photos that were protected without their colour profile, so far.
    """

    def __init__(
        self,
        plan: ProtectPlan,
        images: Path,
        draw: Callable[[str], Mapping[str, int]] | None = None,
        *,
        sees_images: bool = True,
        writes: bool = True,
    ) -> None:
        self._writes = writes
        self.fixes: set[str] = set()
        self.lost_profiles: set[str] = set()
        self._plan = plan
        self._images = images
        self._sees_images = sees_images
        self._draw = draw or plan_draws(plan)
        self._release = plan.release.folder
        self._released = {} if plan.force else plan.earlier.released
        self._is_remote = remote_of(images) is not None
        self._format = plan.run.image_format
        self._groups = metadata_groups(plan.run.keep_metadata)
        table = plan.labels.table
        self._within = plan.release.opened
        self._maps = MapCopies(table.maps_folder, self._release, table.turns, self._within)

    def read(self, row: int) -> bytes | QuarantineRecord:
        """Content of the original."""
        try:
            return read_content(self._images / self._plan.table.file_names[row], self._images)
        except ImageError as error:
            return self.quarantine(row, error)

    def to_read(self, rows: Sequence[int], pool: Executor, done: Callable[[int, Record], None]) -> Sequence[int]:
        """The rows whose originals are to be protected; ``done`` gets all others, whose record holds."""
        if self._plan.earlier.records:
            current = pool.map(self._current, rows, chunksize=UNIT)
            left: list[int] = []
            for row, record in zip(rows, current, strict=True):
                if record is None:
                    left.append(row)
                else:
                    done(row, record)
            rows = left
        expect(self._images, [self._plan.table.file_names[row] for row in rows])
        return rows

    def _current(self, row: int) -> FileRecord | None:
        """The earlier record of a photo if it holds by digests alone; None: read the photo."""
        source = self._plan.table.file_names[row]
        record = self._plan.earlier.records.get(source)
        if record is None or self._plan.labels.table.map_files(row):
            return None
        digest = known_digest(self._images / source)
        if digest is None and not self._is_remote:
            try:
                with open_below(self._images, source, budget().photo_bytes) as stream:
                    digest = hashlib.file_digest(stream, "sha256").hexdigest()
            except OSError:
                return None
        if digest is None or digest in self._released:
            return None
        return record if self._is_current(row, record, digest, {}) else None

    def prepare(self, row: int, content: bytes) -> Prepared | Record:
        """Decode; the earlier record if the release already holds this very photo.

        Raises:
            MtlueError: The photo is itself a released one.
        """
        source = self._plan.table.file_names[row]
        digest = hashlib.sha256(content).hexdigest()
        released = self._released.get(digest)
        if released is not None:
            raise MtlueError(
                f"{self._images / source} is protected already: it is {self._release / released}, byte for byte; put "
                "the original back, or give --force to protect it a second time, and run the command again to continue"
            )
        record = self._plan.earlier.records.get(source)
        try:
            maps = self._maps.digests(self._plan.labels.table.map_files(row), digest)
            if record is not None and self._is_current(row, record, digest, maps):
                return record
            table, size = self._plan.table, self._plan.card.image_size
            image = decode_bytes(content, self._groups)
            if image.format == "JXL":
                raise ImageError("is a JPEG XL photo, which is read from releases alone; convert it to PNG")
            targets = row_maps(table, table.tasks, row, size)
            if self._plan.is_drawn(row):
                classes = self._draw(digest)
            else:
                classes = {name: int(column[row]) for name, column in table.columns.items()}
            square = to_square(image, size) if self._sees_images else _UNSEEN
            return Prepared(row, digest, image, square, classes, targets, maps)
        except StorageError:
            raise
        except Exception as error:  # one bad photo must not end the run, whatever its decoder raises
            return self.quarantine(row, error)

    def encode(self, prepared: Prepared, delta: npt.NDArray[np.float32]) -> Encoded | QuarantineRecord:
        """Add, encode, read back and measure."""
        run, image = self._plan.run, prepared.image
        try:
            pixels = protect_pixels(image.pixels, delta, run.epsilon)
            content = encode_image(
                pixels,
                image,
                self._format,
                bool(self._groups),
                fast=self._plan.fast,
                same_quality=self._plan.run.quality is Quality.SAME,
            )
            del pixels  # makes room for what is read back
            saved = read_back(content)
            before = comparable_pixels(image.pixels, saved.pixels)
            labelled = not self._plan.is_unlabelled(prepared.row) or self._plan.is_drawn(prepared.row)
            found = measure(before, saved.pixels, delta, run.epsilon, image.alpha, labelled=labelled)
            change, effect = found.change, found.effect
            if not same_alpha(image.alpha, saved.alpha):
                raise ImageError("its alpha does not survive the format; use --format png")
            if is_lossless(self._format, image.format) and change.largest > run.epsilon:
                raise ImageError(f"changed by {change.largest:g}/255 when saved, the bound is {run.epsilon}/255")
            if found.lacking is not None:
                reason, fix = self._too_little(found.lacking, effect, prepared)
                if fix is not None:
                    self.fixes.add(fix)
                raise ImageError(reason)
        except Exception as error:  # one bad photo must not end the run, whatever its encoder raises
            return self.quarantine(prepared.row, error)
        if image.lost_profile:
            self.lost_profiles.add(self._plan.table.file_names[prepared.row])
        record = FileRecord(
            self._plan.targets[prepared.row],
            self._plan.table.file_names[prepared.row],
            prepared.digest,
            hashlib.sha256(content).hexdigest(),
            self._plan.cells(prepared.row),
            change.largest,
            None if change.psnr is None else round(change.psnr, 3),
            maps=prepared.map_digests,
            mean_change=round(change.mean, 3),
            share=round(effect.share, 3),
            drawn=self._plan.is_drawn(prepared.row),
        )
        return Encoded(prepared.row, content, record)

    def write(self, photos: Sequence[Encoded]) -> list[Record]:
        """Bring photos and their maps to the disk; a record is given only of what is there.

        Raises:
            MtlueError: A file cannot be written: the disk is full, say.
        """
        records: list[Record] = []
        places = [self._release / photo.record.file_name for photo in photos]
        refused: dict[int, ImageError] = {}
        for photo in photos:
            try:
                self._maps.copy(photo.record.maps)
            except ImageError as error:
                refused[photo.row] = error
        files = {place: photo.content for place, photo in zip(places, photos, strict=True) if photo.row not in refused}
        faults = write_together(files, within=self._within)
        for place, photo in zip(places, photos, strict=True):
            fault = faults.get(place)
            if fault is not None and fault.errno == errno.ENAMETOOLONG:
                refused[photo.row] = ImageError(f"its released name is too long: {photo.record.file_name}")
            elif fault is not None:
                raise MtlueError(unwritable(place, fault)) from fault
            reason = refused.get(photo.row)
            records.append(photo.record if reason is None else self.quarantine(photo.row, reason))
        return records

    def quarantine(self, row: int, error: Exception) -> QuarantineRecord:
        """Record why a photo is not released, and make sure that no earlier version of it is.

        Maps that no released photo names go when the run is closed.
        """
        if self._writes:
            discard(self._release / self._plan.targets[row], self._within)
        known = isinstance(error, ImageError | ValueError)
        reason = str(error) if known else f"cannot be protected: {type(error).__name__}: {error}"
        if isinstance(error, MemoryError):
            reason = NO_MEMORY
        return QuarantineRecord(self._plan.table.file_names[row], reason)

    def _too_little(self, lacking: Shortfall, effect: Effect, prepared: Prepared) -> tuple[str, str | None]:
        """What is missing of the least effect, in a sentence, and what to do about it if the sentence does not say."""
        run, weights = self._plan.run, f"the weights {self._plan.card.name}"
        arrives = f"{max(0, effect.share):.0%} of the perturbation would arrive, at least {LEAST_SHARE:.0%} is needed"
        train = f"train weights on these images: {self._plan.training_command}"
        if lacking is Shortfall.UNLABELLED:
            draw = ", or give --unlabelled protect to protect it as an image of random classes"
            return f"this image has no label in a protected column: label it{draw if prepared.classes else ''}", None
        if lacking is Shortfall.TRANSPARENT:
            return "it is (nearly) transparent: a perturbation of it has no effect; leave it out", None
        if lacking is Shortfall.GREY:
            return f"{weights} write mostly in colour and this photo is grey: {arrives}", train
        if lacking is Shortfall.NO_ROOM:
            return f"nearly all pixels are black or white: {arrives}; leave it out", None
        if lacking is Shortfall.ROUNDED and not is_lossless(self._format, prepared.image.format):
            return f"compression removes the perturbation at epsilon {run.epsilon}", "use --format png"
        if lacking is Shortfall.ROUNDED:
            return f"epsilon {run.epsilon} rounds away what {weights} add: {arrives}", "raise --epsilon"
        return (
            f"{weights} add too little to this image: {effect.strength:.0%} of epsilon on average, at least "
            f"{LEAST_STRENGTH:.1%} is needed",
            train,
        )

    def _is_current(self, row: int, record: FileRecord, digest: str, maps: Mapping[str, str]) -> bool:
        if record.source_sha256 != digest or record.file_name != self._plan.targets[row]:
            return False
        if dict(record.maps) != maps or not all(map(self._maps.is_copied, maps, maps.values())):
            return False
        if dict(record.labels) != self._plan.cells(row) or path_fault(record.file_name) is not None:
            return False
        if record.drawn is not self._plan.is_drawn(row):
            return False
        if record.share is None or record_faults(record, self._plan.run.epsilon):
            return False  # of an older version, which released whatever came out; or edited
        return has_digest(self._release / record.file_name, record.sha256)


class MapCopies:
    """Copies of maps; safe to call from several threads.

    Args:
        folder: Where the names lead from among the originals.
        release: Where they lead from in the release.
        turns: EXIF orientation of the photo of each map that is released upright with it.
        within: The release, opened.
    """

    def __init__(self, folder: Path, release: Path, turns: Mapping[str, int], within: OpenFolder | None = None) -> None:
        self._folder = folder
        self._within = within
        self._turns = turns
        self._release = release
        self._locks: dict[str, threading.Lock] = {}

    def digests(self, names: Iterable[str], photo: str) -> dict[str, str]:
        """SHA-256 of each map as it is released, by its name; ``photo`` is the SHA-256 of the photo.

        Raises:
            ImageError: One cannot be read, or is the photo itself.
        """
        found: dict[str, str] = {}
        for name in names:
            content = self._original(name)
            if hashlib.sha256(content).hexdigest() == photo:
                raise ImageError("the map that its row names is the photo itself; leave that column out, with --tasks")
            found[name] = hashlib.sha256(self._released(name, content)).hexdigest()
        return found

    def copy(self, digests: Mapping[str, str]) -> None:
        """See to it that the release holds these maps.

        Raises:
            ImageError: An original cannot be read any more, or has changed since its digest was taken.
            MtlueError: A copy cannot be written.
        """
        for name, digest in digests.items():
            with self._locks.setdefault(name, threading.Lock()):
                if self.is_copied(name, digest):
                    continue
                content = self._released(name, self._original(name))
                if hashlib.sha256(content).hexdigest() != digest:
                    raise ImageError(f"its map {quoted(name)} changed while the image was protected")
                try:
                    write_atomically(self._release / name, content, keep_name=False, within=self._within)
                except OSError as error:
                    raise MtlueError(unwritable(self._release / name, error)) from error

    def is_copied(self, name: str, digest: str) -> bool:
        """Whether the release holds a map of this digest under this name."""
        return has_digest(self._release / name, digest)

    def _original(self, name: str) -> bytes:
        try:
            return read_content(self._folder / name, self._folder)
        except ImageError as error:
            raise ImageError(f"its map {quoted(name)} {error}") from error

    def _released(self, name: str, content: bytes) -> bytes:
        """The file of a map as it is released: as it is, or turned upright with its photo."""
        if name not in self._turns:
            return content
        try:
            return turned_map(content, self._turns[name])
        except ImageError as error:
            raise ImageError(f"its map {quoted(name)} {error}") from error


def random_classes(tasks: TaskSet, content: str, weights: str, key: Key | None) -> dict[str, int]:
    """A class index for each image-level task, uniform over its classes; the same for the same image.

    HMAC-SHA256, under the key or, for weights that take none, under their digest, of three words: the name of this
    construction, ``content`` and the task's name, each as UTF-8 after its length in bytes as 8 big-endian bytes.

    Args:
        tasks: The protected tasks; those that label every pixel get nothing.
        content: Digest of the original's bytes.
        weights: Digest of the weights.
        key: For weights that take one.
    """
    found: dict[str, int] = {}
    for task in tasks.image_level:
        words = [word.encode("utf-8", "surrogatepass") for word in (_RANDOM_CLASS, content, task.name)]
        message = b"".join(len(word).to_bytes(8, "big") + word for word in words)
        drawn = key.derive(message) if key else hmac.digest(weights.encode(), message, hashlib.sha256)
        found[task.name] = int.from_bytes(drawn, "big") % max(1, task.num_classes)
    return found


def plan_draws(plan: ProtectPlan) -> Callable[[str], dict[str, int]]:
    """Random classes for an image of the plan, by the digest of its file."""
    key = None if plan.key is None else plan.key.key
    return lambda digest: random_classes(plan.tasks, digest, plan.run.weights_sha256, key)


@dataclass
class Pipeline:
    """Runs the steps before and after the network for small units of photos, within a fixed memory budget.

    A network on the CPU is called by the threads of ``pool``: each takes a whole unit from its files to encoded photos,
    so that threads do not compete for cores. A network on an accelerator is called from the caller's thread, with
    batches of many units that the pool has decoded and will encode. Encoded photos are handed to ``disk``, whose
    threads wait for the disk while the others compute.

    Attributes:
        steps: Those before and after the network.
        perturb: The network: squares and labels to perturbations; called from several threads if ``in_pool``.
        pool: Threads that compute.
        disk: Threads that write.
        workers: Number of those that compute.
        batch_size: Photos that are gathered before the network runs.
        done: Called in the caller's thread with each row and its record.
        in_pool: Whether the network runs in ``pool``.
    """

    steps: PhotoSteps
    perturb: Perturb
    pool: Executor
    disk: Executor
    workers: int
    batch_size: int
    done: Callable[[int, Record], None]
    in_pool: bool = False
    _unit: list[tuple[int, bytes]] = field(default_factory=list, init=False)
    _decoding: "deque[Future[tuple[list[Prepared], Records]]]" = field(default_factory=deque, init=False)
    _batch: list[Prepared] = field(default_factory=list, init=False)
    _encoding: "deque[Future[tuple[Records, Future[Records]]]]" = field(default_factory=deque, init=False)
    _pixels: dict[int, int] = field(default_factory=dict, init=False)

    def run(self, rows: Sequence[int]) -> None:
        """Bring ``rows`` through."""
        rows = self.steps.to_read(rows, self.pool, self.done)
        # A small folder is shared out too.
        most = min(self.batch_size if self.in_pool else UNIT, -(-len(rows) // self.workers))
        for row in rows:
            content = self.steps.read(row)
            if isinstance(content, QuarantineRecord):
                self.done(row, content)
                continue
            # A file may be far larger than its pixels, and waits in memory just so.
            pixels = max(pixel_count(content), len(content) // BYTES_A_PIXEL)
            while self._pixels and sum(self._pixels.values()) + pixels > PIXEL_BUDGET:
                self._start_unit()
                self._bring_on()
            if sum(self._pixels[waiting] for waiting, _ in self._unit) + pixels > UNIT_PIXELS:
                self._start_unit()
            self._pixels[row] = pixels
            self._unit.append((row, content))
            if len(self._unit) >= most:
                self._start_unit()
        self._start_unit()
        while self._pixels:
            self._bring_on()

    def _start_unit(self) -> None:
        """Hand the photos that were gathered to the pool."""
        if not self._unit:
            return
        unit, self._unit = self._unit, []
        if self.in_pool:
            self._encoding.append(self.pool.submit(self._protect, unit))
        else:
            self._decoding.append(self.pool.submit(self._prepare, unit))
            while len(self._decoding) > self.workers + self.batch_size // UNIT:
                self._take_decoded()
        while len(self._encoding) > 2 * self.workers + DISK_THREADS + self.batch_size // UNIT:
            self._take_encoded()

    def _bring_on(self) -> None:
        """Wait for the oldest photos in the pipeline."""
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
        if len(self._batch) >= self.batch_size:
            self._flush()

    def _flush(self) -> None:
        """Run the network on the batch, and hand it to the pool to be encoded."""
        batch, self._batch = self._batch, []
        deltas = self._deltas(batch)
        for start in range(0, len(batch), UNIT):
            part = slice(start, start + UNIT)
            self._encoding.append(self.pool.submit(self._encode, batch[part], deltas[part], []))

    def _take_encoded(self) -> None:
        records, writing = self._encoding.popleft().result()
        self._record(records)
        self._record(writing.result())

    def _record(self, records: Records) -> None:
        for row, record in records:
            del self._pixels[row]
            self.done(row, record)

    def _protect(self, unit: Sequence[tuple[int, bytes]]) -> tuple[Records, Future[Records]]:
        prepared, records = self._prepare(unit)
        return self._encode(prepared, self._deltas(prepared), records)

    def _prepare(self, unit: Sequence[tuple[int, bytes]]) -> tuple[list[Prepared], Records]:
        outcomes = [(row, self.steps.prepare(row, content)) for row, content in unit]
        prepared = [outcome for _, outcome in outcomes if isinstance(outcome, Prepared)]
        return prepared, [(row, outcome) for row, outcome in outcomes if not isinstance(outcome, Prepared)]

    def _deltas(self, batch: Sequence[Prepared]) -> Sequence[npt.NDArray[np.float32]]:
        if not batch:
            return []
        return self.perturb([prepared.square for prepared in batch], labels_of(batch))

    def _encode(
        self, batch: Sequence[Prepared], deltas: Sequence[npt.NDArray[np.float32]], records: Records
    ) -> tuple[Records, Future[Records]]:
        """Encode photos and have them written; ``records`` are passed on."""
        outcomes = [self.steps.encode(prepared, delta) for prepared, delta in zip(batch, deltas, strict=True)]
        encoded = [outcome for outcome in outcomes if isinstance(outcome, Encoded)]
        refused = [
            (prepared.row, outcome)
            for prepared, outcome in zip(batch, outcomes, strict=True)
            if not isinstance(outcome, Encoded)
        ]
        return [*records, *refused], self.disk.submit(self._write, encoded)

    def _write(self, encoded: Sequence[Encoded]) -> Records:
        return list(zip((photo.row for photo in encoded), self.steps.write(encoded), strict=True))


@dataclass(frozen=True)
class Remarks:
    """What to say of the photos of a unit, as :class:`PhotoSteps` collects it."""

    fixes: frozenset[str]
    lost_profiles: frozenset[str]


Outcome = tuple[int, Record | None] | Remarks
"""A row and its record, None where the earlier one stays; or, at the end of a unit, what else there is to say."""

Work = Callable[[PhotoSteps, ProtectPlan, Callable[[Outcome], None]], None]


def protect_photos(
    plan: ProtectPlan, images: Path, generator: Generator, engine: Engine, progress: Progress
) -> tuple[dict[int, Record], Remarks]:
    """Take every photo of an open release through its steps; each record goes to the manifest as soon as it is known.

    Returns:
        Row of the plan to record, and what else there is to say.
    """
    records: dict[int, Record] = {}
    remarks: list[Remarks] = []

    def done(outcome: Outcome) -> None:
        if isinstance(outcome, Remarks):
            remarks.append(outcome)
            return
        row, record = outcome
        if record is None:
            records[row] = plan.earlier.records[plan.table.file_names[row]]
        else:
            plan.release.add(record)
            records[row] = record
        progress.advance()

    progress.start("protecting", len(plan.table))
    try:
        if engine.is_remote:
            from mtlue_cli.workflows.protect.units import RemoteStart, units_of

            size = engine.rows_a_unit(len(plan.table), generator.call_size if engine.device != "cpu" else 1)
            engine.run(RemoteStart.of(plan, images, generator, engine), units_of(plan, images, size), done)
        else:
            engine.run(partial(_here, images, generator, engine.threads), [plan], done)
    except KeyboardInterrupt:
        progress.finish()
        progress.note(
            f"{len(records)} of {len(plan.table)} photos are recorded as done; files that were written after them "
            "have no record yet and are written again"
        )
        raise
    finally:
        progress.finish()
    return records, Remarks(
        frozenset().union(*(each.fixes for each in remarks)),
        frozenset().union(*(each.lost_profiles for each in remarks)),
    )


@contextmanager
def _here(images: Path, generator: Generator, threads: int) -> Iterator[Callable[[ProtectPlan, Any], None]]:
    """Work on whole plans in this process."""
    with photo_work(generator, threads) as work:
        yield lambda plan, done: work(PhotoSteps(plan, images, sees_images=generator.sees_images), plan, done)


@contextmanager
def photo_work(generator: Generator, threads: int) -> Iterator[Work]:
    """What takes all photos of a plan through their steps, in threads that stay for the next plan."""
    on_cpu = generator.device is None or generator.device.type == "cpu"
    pool = ReadingThreads(threads, thread_name_prefix="photo")
    if on_cpu and generator.sees_images:  # a thread computes alone: threads within threads would fight for cores
        from mtlue_cli.devices import compute_alone  # brings torch

        compute_alone(pool, threads)
    disk = ReadingThreads(DISK_THREADS, thread_name_prefix="disk")

    def work(steps: PhotoSteps, plan: ProtectPlan, done: Callable[[Outcome], None]) -> None:
        def each(row: int, record: Record) -> None:
            done((row, None if plan.earlier.records.get(record.source) is record else record))

        perturb = partial(generator.perturb, epsilon=plan.run.epsilon)
        rows = range(len(plan.table))
        Pipeline(steps, perturb, pool, disk, threads, generator.call_size, each, on_cpu).run(rows)
        done(Remarks(frozenset(steps.fixes), frozenset(steps.lost_profiles)))

    try:
        yield work
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        disk.shutdown(wait=True, cancel_futures=True)
