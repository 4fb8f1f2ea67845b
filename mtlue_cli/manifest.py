"""The manifest of a release: what was done to every file, and under which settings.

``.mtlue/manifest.jsonl`` holds one JSON record a line, appended as files are done, so that a run that is killed can be
resumed; ``.mtlue/run.json`` holds the settings. While a run is under way ``.mtlue/planned.json`` lists every file that
it or an unfinished run before it may have put into the release: a killed run leaves files that no record names.
"""

import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from mtlue_cli.choices import ImageFormat
from mtlue_cli.errors import InputError
from mtlue_cli.files import write_atomically

SCHEMA_VERSION = 1
_ANEW = "protect the originals into a new folder"
_KINDS: Mapping[str, tuple[type, ...]] = {
    "epsilon": (int,),
    **dict.fromkeys(("weights_name", "weights_sha256", "image_format"), (str,)),
    **dict.fromkeys(("keep_metadata", "complete"), (bool,)),
    **dict.fromkeys(("versions", "counts", "digests", "classes", "shares"), (dict,)),
    **dict.fromkeys(("file_column", "key_fingerprint"), (str, type(None))),
}
"""Types of the fields of a run record as it is read; tasks aside."""
_UNLIKE_TEXT = frozenset({"labels", "max_change", "psnr", "maps"})
"""Fields of a file's record that are no text."""
FOLDER = ".mtlue"
MANIFEST_NAME = "manifest.jsonl"
RUN_NAME = "run.json"
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


@dataclass(frozen=True)
class QuarantineRecord:
    """One original that could not be protected and is therefore not in the release."""

    source: str
    reason: str
    status: Literal["quarantined"] = "quarantined"


@dataclass(frozen=True)
class RunRecord:
    """The settings of a release.

    Attributes:
        epsilon: Bound in 255ths.
        weights_name, weights_sha256: The generator.
        tasks: Names of the protected tasks.
        image_format: How files were written: ``png``, ``webp`` or ``keep``.
        keep_metadata: Whether EXIF data, XMP and text were kept.
        complete: Whether the run reached its end.
        versions: Versions of the program and of what it computed with.
        counts: Figures of the last run, for people.
        file_column: Header of the file column in the release's label file; None in releases of older versions.
        digests: SHA-256 of manifest and label file by their names, once the run is complete; empty in releases of
            older versions.
        key_fingerprint: Of the key, for weights that take one.
        classes: Classes of each task in the order of their codes, for weights that take a key; else empty.
        shares: Share of each of these classes by which codes and tints were drawn; empty in releases of older versions.
    """

    epsilon: int
    weights_name: str
    weights_sha256: str
    tasks: tuple[str, ...]
    image_format: str
    keep_metadata: bool
    complete: bool = False
    versions: Mapping[str, str] = field(default_factory=dict)
    counts: Mapping[str, int] = field(default_factory=dict)
    file_column: str | None = None
    digests: Mapping[str, str] = field(default_factory=dict)
    key_fingerprint: str | None = None
    classes: Mapping[str, Sequence[str]] = field(default_factory=dict)
    shares: Mapping[str, Sequence[float]] = field(default_factory=dict)

    def differences(self, other: "RunRecord") -> list[str]:
        """Settings that decide about the released bytes and differ, a line each."""
        names = ("epsilon", "weights_sha256", "key_fingerprint", "tasks", "image_format", "keep_metadata")
        pairs = [(name, getattr(other, name), getattr(self, name)) for name in names]
        found = [f"{name}: the release has {old}, this run {new}" for name, old, new in pairs if old != new]
        if self.key_fingerprint is not None and other.classes and not other.shares:
            found.append("codes: the release has those of an older version, which drew them otherwise")
        return found


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


def is_release(folder: Path) -> bool:
    """Whether ``folder`` holds a run record."""
    return (folder / FOLDER / RUN_NAME).is_file()


def read_run(release: Path) -> RunRecord:
    """The settings of a release.

    Raises:
        InputError: There is none, it is damaged, or it is of a newer schema.
    """
    path = release / FOLDER / RUN_NAME
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        version = document.pop("schema_version")
        if version != SCHEMA_VERSION:
            raise InputError(
                f"{path} has schema version {version!r}, this mtlue reads {SCHEMA_VERSION}", hint="upgrade mtlue"
            )
        run = RunRecord(**{**document, "tasks": tuple(document["tasks"])})
        wrong = [name for name, kinds in _KINDS.items() if type(getattr(run, name)) not in kinds]
        wrong += [] if all(isinstance(name, str) for name in run.tasks) else ["tasks"]
        if "classes" not in wrong and not all(_is_list_of_text(names) for names in run.classes.values()):
            wrong.append("classes")
        if "shares" not in wrong and not all(_is_list_of_shares(own) for own in run.shares.values()):
            wrong.append("shares")
        if wrong:
            raise TypeError(f"{', '.join(wrong)} of another type than expected")
        ImageFormat(run.image_format)
        return run
    except FileNotFoundError as error:
        raise InputError(f"{release} is no release: {FOLDER}/{RUN_NAME} is missing") from error
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise InputError(f"{path} is damaged: {error}", hint=_ANEW) from error


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
            raise InputError(f"{path}, line {number} is damaged: {error}", hint=_ANEW) from error
        records.pop(record.source, None)
        records[record.source] = record
    return Manifest(
        run,
        tuple(record for record in records.values() if isinstance(record, FileRecord)),
        tuple(record for record in records.values() if isinstance(record, QuarantineRecord)),
    )


def write_run(release: Path, run: RunRecord) -> None:
    """Write the settings, atomically; the folders are made if need be."""
    document = {"schema_version": SCHEMA_VERSION, **asdict(run), "tasks": list(run.tasks)}
    write_atomically(release / FOLDER / RUN_NAME, (json.dumps(document, indent=2) + "\n").encode())


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
        figures = {"max_change": record.max_change, "psnr": 0.0 if record.psnr is None else record.psnr}
        wrong += [name for name, value in figures.items() if not _is_finite(value)]
    if wrong:
        raise TypeError(f"{', '.join(wrong)} of another type than expected")
    return record


def _is_list_of_text(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(entry, str) for entry in value)


def _is_list_of_shares(value: object) -> bool:
    return isinstance(value, list) and all(type(entry) is float and 0 < entry <= 1 for entry in value)


def _is_finite(value: object) -> bool:
    try:
        return isinstance(value, int | float) and math.isfinite(value)
    except OverflowError:  # a whole number of hundreds of digits
        return False
