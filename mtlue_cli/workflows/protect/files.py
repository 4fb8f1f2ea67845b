"""Single photos on their way into a release: the steps either side of the network, and that onto the disk."""

import errno
import hashlib
import hmac
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mtlue_cli.choices import ImageFormat
from mtlue_cli.errors import ImageError, MtlueError
from mtlue_cli.files import discard, file_digest, unwritable, write_atomically, write_together
from mtlue_cli.images.decode import NO_MEMORY, DecodedImage, decode_bytes, read_content
from mtlue_cli.images.encode import comparable_pixels, encode_image, is_lossless, same_alpha
from mtlue_cli.images.square import to_square
from mtlue_cli.images.targets import row_maps, turned_map
from mtlue_cli.keys import Key
from mtlue_cli.perturbation.bound import protect_pixels
from mtlue_cli.perturbation.effect import (
    LEAST_SHARE,
    LEAST_STRENGTH,
    Effect,
    Shortfall,
    measure_change,
    measure_effect,
    shortfall,
)
from mtlue_cli.release.check import record_faults
from mtlue_cli.release.records import FileRecord, QuarantineRecord, Record
from mtlue_cli.tasks.paths import path_fault
from mtlue_cli.tasks.spec import TaskSet
from mtlue_cli.tasks.wording import quoted
from mtlue_cli.workflows.protect.plan import ProtectPlan

LEAST_OPACITY = 0.05
"""Least mean opacity of a photo: with less, hardly anything of what is added can be seen."""

_RANDOM_CLASS = "mtlue random class v1"


@dataclass(frozen=True)
class Prepared:
    """A decoded photo.

    Attributes:
        row: Its row in the plan.
        digest: SHA-256 of its file.
        image: What it holds.
        square: ``(3, S, S)`` uint8, what the generator sees.
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
    """The steps of a photo's way, either side of the network; safe to call from several threads.

    Args:
        plan: What is to be done.
        images: Folder of the originals.

    Attributes:
        fixes: What to do about photos that got less than the least effect, so far.
    """

    def __init__(self, plan: ProtectPlan, images: Path) -> None:
        self.fixes: set[str] = set()
        self._plan = plan
        self._images = images
        self._release = plan.release.folder
        self._format = ImageFormat(plan.run.image_format)
        table = plan.labels.table
        self._maps = MapCopies(table.maps_folder, self._release, table.turns)

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
                "back, or give --force to protect it a second time, and run the command again to continue"
            )
        record = self._plan.earlier.records.get(source)
        try:
            maps = self._maps.digests(self._plan.labels.table.map_files(row), digest)
            if record is not None and self._is_current(row, record, digest, maps):
                return record
            table, size = self._plan.table, self._plan.card.image_size
            image = decode_bytes(content, self._plan.run.keep_metadata)
            targets = row_maps(table.maps_folder, table, table.tasks, row, size)
            return Prepared(row, digest, image, to_square(image, size), self._classes(row, digest), targets, maps)
        except Exception as error:  # one bad photo must not end the run, whatever its decoder raises
            return self.quarantine(row, error)

    def encode(self, prepared: Prepared, delta: npt.NDArray[np.float32]) -> Encoded | QuarantineRecord:
        """Add, encode, read back and measure."""
        run, image = self._plan.run, prepared.image
        try:
            pixels = protect_pixels(image.pixels, delta, run.epsilon)
            content = encode_image(pixels, image, self._format, run.keep_metadata)
            del pixels  # makes room for what is read back
            saved = decode_bytes(content, metadata=False)
            before = comparable_pixels(image.pixels, saved.pixels)
            change = measure_change(before, saved.pixels)
            if not same_alpha(image.alpha, saved.alpha):
                raise ImageError("its alpha does not survive the format; use --format png")
            if is_lossless(self._format, image.format) and change.largest > run.epsilon:
                raise ImageError(f"changed by {change.largest:g}/255 when saved, the bound is {run.epsilon}/255")
            if self._plan.is_unlabelled(prepared.row) and not self._plan.is_drawn(prepared.row):
                draw = ", or give --unlabelled protect to protect it as an image of random classes"
                raise ImageError(f"no label says anything about this image: label it{draw if prepared.classes else ''}")
            if image.alpha is not None and image.alpha.mean() < LEAST_OPACITY * 255:
                raise ImageError("it is (nearly) transparent: what is added to it cannot be seen; leave it out")
            effect = measure_effect(before, saved.pixels, delta, run.epsilon, image.alpha)
            lacking = shortfall(effect, change, before, delta, run.epsilon)
            if lacking is not None:
                reason, fix = self._too_little(lacking, effect, prepared)
                self.fixes.add(fix)
                raise ImageError(reason)
        except Exception as error:  # one bad photo must not end the run, whatever its encoder raises
            return self.quarantine(prepared.row, error)
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
        faults = write_together(files)
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
        """Record why a photo is not released, and see to it that no earlier version of it is.

        Maps that no released photo names go when the run is closed.
        """
        discard(self._release / self._plan.targets[row])
        known = isinstance(error, ImageError | ValueError)
        reason = str(error) if known else f"cannot be protected: {type(error).__name__}: {error}"
        if isinstance(error, MemoryError):
            reason = NO_MEMORY
        return QuarantineRecord(self._plan.table.file_names[row], reason)

    def _too_little(self, lacking: Shortfall, effect: Effect, prepared: Prepared) -> tuple[str, str]:
        """What is missing of the least effect, in a sentence, and what to do about it."""
        run, weights = self._plan.run, f"the weights {self._plan.card.name}"
        arrives = f"{max(0, effect.share):.0%} of the perturbation would arrive, at least {LEAST_SHARE:.0%} is needed"
        train = f"train weights on these images: {self._plan.training_command}"
        if lacking is Shortfall.GREY:
            return f"{weights} write mostly in colour and this photo is grey: {arrives}", train
        if lacking is Shortfall.NO_ROOM:
            return f"too little room: nearly all pixels are black or white, {arrives}", "leave out photos without room"
        if lacking is Shortfall.ROUNDED and not is_lossless(self._format, prepared.image.format):
            return f"its compression drowns the perturbation at epsilon {run.epsilon}", "use --format png"
        if lacking is Shortfall.ROUNDED:
            return f"epsilon {run.epsilon} rounds away what {weights} add: {arrives}", "raise --epsilon"
        return (
            f"{weights} add too little to this image: {effect.strength:.0%} of epsilon on average, at least "
            f"{LEAST_STRENGTH:.1%} is needed",
            train,
        )

    def _classes(self, row: int, digest: str) -> dict[str, int]:
        """Class index of each image-level task that the image of a row, with this digest, is protected as."""
        plan = self._plan
        if plan.is_drawn(row):
            return random_classes(plan.tasks, digest, plan.run.weights_sha256, plan.key.key if plan.key else None)
        return {name: int(column[row]) for name, column in plan.table.columns.items()}

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
        try:
            return file_digest(self._release / record.file_name) == record.sha256
        except OSError:
            return False


class MapCopies:
    """Copies of maps; safe to call from several threads.

    Args:
        folder: Where the names lead from among the originals.
        release: Where they lead from in the release.
        turns: EXIF orientation of the photo of each map that is released upright with it.
    """

    def __init__(self, folder: Path, release: Path, turns: Mapping[str, int]) -> None:
        self._folder = folder
        self._turns = turns
        self._release = release
        self._locks: dict[str, threading.Lock] = {}

    def digests(self, names: Iterable[str], photo: str) -> dict[str, str]:
        """SHA-256 of each map as it is released, by its name.

        Args:
            names: The maps of a photo.
            photo: SHA-256 of the photo.

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
                    write_atomically(self._release / name, content, keep_name=False)
                except OSError as error:
                    raise MtlueError(unwritable(self._release / name, error)) from error

    def is_copied(self, name: str, digest: str) -> bool:
        """Whether the release holds a map of this digest under this name."""
        try:
            return file_digest(self._release / name) == digest
        except OSError:
            return False

    def _original(self, name: str) -> bytes:
        try:
            return read_content(self._folder / name)
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
