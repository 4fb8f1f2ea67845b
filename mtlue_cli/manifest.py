"""The manifest of a release: what was done to every file, and under which settings.

``.mtlue/manifest.jsonl`` holds one JSON record a line, appended as files are done, so that a run that is killed can be
resumed; ``.mtlue/run.json`` holds the settings. While a run is under way ``.mtlue/planned.json`` lists every file that
it or an unfinished run before it may have put into the release: a killed run leaves files that no record names.
"""

import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from mtlue_cli.errors import InputError
from mtlue_cli.files import write_atomically
from mtlue_cli.run_record import ANEW, FOLDER, RUN_NAME, RunRecord, is_release, read_run, write_run

__all__ = ["FOLDER", "RUN_NAME", "RunRecord", "is_release", "read_run", "write_run"]

_UNLIKE_TEXT = frozenset({"labels", "max_change", "psnr", "maps", "mean_change", "share", "drawn"})
"""Fields of a file's record that are no text."""
MANIFEST_NAME = "manifest.jsonl"
PLANNED_NAME = "planned.json"
LABELS_NAME = "labels.csv"
LOCK_NAME = "lock"


@dataclass(frozen=True)
class FileRecord:
    """One protected file.

    Attributes:
        file_name: Path in the release, relative POSIX.
        source: Path in the originals, relative POSIX.
        source_sha256, sha256: Digests of the original's and the released file's bytes.
        labels: Class of each protected task, of a dense task the file of its map; None where unlabelled.
        max_change: Largest measured change of a colour value of the saved file, in 255ths.
        psnr: Peak signal-to-noise ratio of the saved file in dB; None if nothing changed.
        maps: Masks and maps that were released with it, byte for byte: path, relative to the release, to digest.
        mean_change: Mean absolute change of a colour value of the saved file, in 255ths; None in older releases.
        share: Share of the perturbation that the saved file carries (:mod:`mtlue_cli.perturbation.effect`); None in
            older releases.
        drawn: Whether the image has no label and is protected as one of random classes.
    """

    file_name: str
    source: str
    source_sha256: str
    sha256: str
    labels: Mapping[str, str | None]
    max_change: float
    psnr: float | None
    status: Literal["protected"] = "protected"
    maps: Mapping[str, str] = field(default_factory=dict)
    mean_change: float | None = None
    share: float | None = None
    drawn: bool = False


@dataclass(frozen=True)
class QuarantineRecord:
    """One original that could not be protected and is therefore not in the release."""

    source: str
    reason: str
    status: Literal["quarantined"] = "quarantined"


@dataclass(frozen=True)
class Manifest:
    """A release's records: of two about one source, the later counts."""

    run: RunRecord
    files: tuple[FileRecord, ...]
    quarantine: tuple[QuarantineRecord, ...]

    @property
    def names(self) -> frozenset[str]:
        """Every file that the records say is released: images and their maps."""
        return released_files(self.files)


def released_files(records: Iterable[FileRecord | QuarantineRecord]) -> frozenset[str]:
    """The files that ``records`` say are released: images and their maps."""
    files = [record for record in records if isinstance(record, FileRecord)]
    return frozenset(name for record in files for name in (record.file_name, *record.maps))


def read_manifest(release: Path) -> Manifest:
    """The records of a release; a torn last line, left by a killed run, is ignored.

    Raises:
        InputError: ``release`` is no release, or a record is damaged.
    """
    run = read_run(release)
    path = release / FOLDER / MANIFEST_NAME
    records: dict[str, FileRecord | QuarantineRecord] = {}
    try:
        lines = path.read_bytes().split(b"\n") if path.exists() else []
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error}") from error
    for number, line in enumerate(lines, 1):
        if not line:
            continue
        try:
            record = _record(json.loads(line))
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            if number == len(lines):
                break
            raise InputError(f"{path}, line {number} is damaged: {error}", hint=ANEW) from error
        records.pop(record.source, None)
        records[record.source] = record
    return Manifest(
        run,
        tuple(record for record in records.values() if isinstance(record, FileRecord)),
        tuple(record for record in records.values() if isinstance(record, QuarantineRecord)),
    )


def write_manifest(release: Path, records: Iterable[FileRecord | QuarantineRecord]) -> None:
    """Write the whole manifest, atomically, in the order given."""
    text = "".join(_line(record) for record in records)
    write_atomically(release / FOLDER / MANIFEST_NAME, text.encode())


def read_planned(release: Path) -> frozenset[str]:
    """Files that unfinished runs may have put into the release; none if that cannot be told."""
    try:
        names = json.loads((release / FOLDER / PLANNED_NAME).read_text(encoding="utf-8"))
        return frozenset(name for name in names if isinstance(name, str))
    except (OSError, ValueError, TypeError, RecursionError):
        return frozenset()


def write_planned(release: Path, names: Iterable[str]) -> None:
    """Note, atomically and before the first of them is written, which files a run may put into the release."""
    write_atomically(release / FOLDER / PLANNED_NAME, json.dumps(sorted(names)).encode())


def remove_planned(release: Path) -> None:
    """Drop the note of :func:`write_planned`: the run is complete and its manifest names every file."""
    (release / FOLDER / PLANNED_NAME).unlink(missing_ok=True)


class ManifestLog:
    """The manifest of a run under way: records are appended and reach the operating system at once.

    Args:
        release: Folder of the release; made if need be.
    """

    def __init__(self, release: Path) -> None:
        path = release / FOLDER / MANIFEST_NAME
        path.parent.mkdir(parents=True, exist_ok=True)
        torn = path.exists() and path.stat().st_size > 0 and not path.read_bytes().endswith(b"\n")
        if torn:
            whole = path.read_bytes()
            write_atomically(path, whole[: whole.rfind(b"\n") + 1])
        self._stream = path.open("a", encoding="utf-8")

    def append(self, record: FileRecord | QuarantineRecord) -> None:
        """Add one record."""
        self._stream.write(_line(record))
        self._stream.flush()

    def close(self) -> None:
        """End the log, and bring it to the disk."""
        try:
            self._stream.flush()
            os.fsync(self._stream.fileno())
        finally:
            self._stream.close()


@contextmanager
def sole_writer(release: Path) -> Iterator[None]:
    """Hold a release for one run; the system lets go of it however the process ends. Folders are made if need be.

    Raises:
        InputError: Another run holds it.
        OSError: The lock file cannot be written.
    """
    from filelock import FileLock, Timeout

    path = release / FOLDER / LOCK_NAME
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise InputError(
            f"another run is writing to {release}",
            hint="wait until it has ended, or give another folder with --out",
        ) from None
    try:
        yield
    finally:
        lock.release()


def _line(record: FileRecord | QuarantineRecord) -> str:
    # Not asdict: its deep copy costs more than all the rest.
    document = {part.name: getattr(record, part.name) for part in fields(record)}
    if not document.get("maps"):
        document.pop("maps", None)
    return json.dumps(document, ensure_ascii=False, allow_nan=False) + "\n"


def _record(document: dict[str, Any]) -> FileRecord | QuarantineRecord:
    kind = {"protected": FileRecord, "quarantined": QuarantineRecord}[document["status"]]
    record: FileRecord | QuarantineRecord = kind(**document)
    texts = {name: value for name, value in document.items() if name not in _UNLIKE_TEXT}
    wrong = [name for name, value in texts.items() if not isinstance(value, str)]
    if isinstance(record, FileRecord):
        wrong += [] if isinstance(record.labels, dict) else ["labels"]
        maps = [*record.maps, *record.maps.values()] if isinstance(record.maps, dict) else [None]
        wrong += [] if all(isinstance(text, str) for text in maps) else ["maps"]
        figures = {name: getattr(record, name) for name in ("psnr", "mean_change", "share")}
        known = {name: value for name, value in figures.items() if value is not None}
        wrong += [] if isinstance(record.drawn, bool) else ["drawn"]
        wrong += [name for name, value in {"max_change": record.max_change, **known}.items() if not _is_finite(value)]
    if wrong:
        raise TypeError(f"{', '.join(wrong)} of another type than expected")
    return record


def _is_finite(value: object) -> bool:
    try:
        return isinstance(value, int | float) and math.isfinite(value)
    except OverflowError:  # a whole number of hundreds of digits
        return False
