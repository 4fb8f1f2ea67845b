"""The records of a release, in its folder ``.mtlue``: its settings, and what was done to every file.

In a release whose loader takes every folder for a class, ``.mtlue`` is a file that names the folder of the records,
which stands beside the release.

``run.json`` holds the settings. ``manifest.jsonl`` holds one JSON record a line, appended as files are done, so that a
run that is killed can be resumed. While a run is under way ``planned.json`` lists every file that it or an unfinished
run before it may have put into the release: a killed run leaves files that no record names.
"""

import hashlib
import io
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from mtlue_cli.choices import MAX_PATTERN_CELLS, ImageFormat, MetadataGroup, Quality
from mtlue_cli.documents import Document
from mtlue_cli.errors import InputError
from mtlue_cli.files import RECORDS, open_regular, read_regular, write_atomically, write_lines
from mtlue_cli.metrics.flip import MeanFlip
from mtlue_cli.tasks.paths import path_fault

FOLDER = RECORDS
RUN_NAME = "run.json"
MANIFEST_NAME = "manifest.jsonl"
PLANNED_NAME = "planned.json"
LABELS_NAME = "labels.csv"
SHARDS_NAME = "shards.json"
"""Only in a release in shards."""
LOCK_NAME = "lock"
LENT_NAME = "lent"
"""Names the run whose workers write to the release too."""
MOST_POINTER = 4096
"""Bytes of the file that names the folder of the records."""
MOST_LINE = 16 << 20
"""Bytes of a line of the manifest: the maps and labels of one image."""
MOST_LIST = 1 << 30
"""Bytes of a list of files: tens of millions of names."""
MOST_SHARED = 50_000
"""Values that records of a manifest share; of a table of many columns few rows are alike."""
RUN_PATH = f"{FOLDER}/{RUN_NAME}"
MANIFEST_PATH = f"{FOLDER}/{MANIFEST_NAME}"

SCHEMA_VERSION = 1
ANEW = "protect the originals into a new folder"
SHORT_DIGEST = 16
"""Hexadecimal digits of a digest that are shown."""


class KeyedPart(Document, frozen=True, forbid_unknown_fields=True):
    """What makes a release of trained weights traceable: codes of a key that are added to what the weights add.

    Attributes:
        levels: Bound of the codes in 255ths; the sum is cut off at that of the release.
        weights_sha256: The universal weights that draw the codes.
    """

    levels: Annotated[int, Meta(ge=1, le=255)]
    weights_sha256: str


class RunRecord(Document, frozen=True, forbid_unknown_fields=True, tag_field="schema_version", tag=SCHEMA_VERSION):
    """The settings of a release, as ``run.json`` holds them.

    Attributes:
        epsilon: Bound in 255ths.
        weights_name, weights_sha256: The generator.
        tasks: Names of the protected tasks.
        image_format: How files were written.
        keep_metadata: Groups of metadata that were kept; True: all but the place, or in releases of older versions all.
        complete: Whether the run reached its end.
        versions: Versions of the program and of what it computed with.
        counts: Figures of the last run, for people.
        file_column: Header of the file column in the release's label file; None in releases of older versions.
        digests: SHA-256 of the manifest, the label file and ``run.json`` (:func:`settings_digest`) by their names, once
            the run is complete; releases of older versions have none, or none of ``run.json``.
        key_fingerprint: Of the key, for weights that take one, and for traceable releases.
        classes: Classes of each task in the order of their codes, where there is a key; else empty.
        shares: Share of each of these classes by which codes and tints were drawn; empty in releases of older versions.
        code_version: Number of the construction of codes, for weights that draw them from a key; else, and in releases
            of older versions, 0.
        code_cells: Side in cells of their patterns; 0 where there are none.
        flip: ``mean`` FLIP of a sample, its number of ``files`` and ``pixels_per_degree``, once the run is complete;
            empty in releases of older versions, and where no file could be compared.
        quality: Of JPEG files that stay JPEG.
        keep: Label columns that the weights were trained to keep useful; they are not protected.
        traceable: The codes beside what trained weights add; None where there are none.
    """

    epsilon: Annotated[int, Meta(ge=0, le=255)]
    weights_name: str
    weights_sha256: str
    tasks: tuple[str, ...]
    image_format: ImageFormat
    keep_metadata: bool | tuple[MetadataGroup, ...]
    complete: bool = False
    versions: Mapping[str, str] = {}
    counts: Mapping[str, int] = {}
    file_column: str | None = None
    digests: Mapping[str, str] = {}
    key_fingerprint: str | None = None
    classes: Mapping[str, Sequence[str]] = {}
    shares: Mapping[str, Sequence[Annotated[float, Meta(gt=0, le=1)]]] = {}
    code_version: int = 0
    code_cells: Annotated[int, Meta(ge=0, le=MAX_PATTERN_CELLS)] = 0
    flip: Mapping[str, Any] = {}
    quality: Quality = Quality.HIGH
    keep: tuple[str, ...] = ()
    traceable: KeyedPart | None = None

    def to_json(self) -> dict[str, Any]:
        """As ``run.json`` holds it: without the usual of what older versions do not know."""
        found = super().to_json()
        if not self.keep:
            del found["keep"]
        if self.quality is Quality.HIGH:
            del found["quality"]
        if self.traceable is None:
            del found["traceable"]
        return found

    def __post_init__(self) -> None:
        """Refuse a ``flip`` that is neither empty nor a measurement, as a ValueError."""
        _ = self.measured_flip

    @property
    def measured_flip(self) -> MeanFlip | None:
        """:attr:`flip`; None where it is empty."""
        return msgspec.convert(self.flip, MeanFlip) if self.flip else None

    def differences(self, other: "RunRecord") -> list[str]:
        """Settings of a user's choice that decide about the released bytes and differ, one per line."""
        found = [
            f"{name}: the release has {shown(other)}, this run {shown(self)}"
            for name, (field, shown) in _CHOICES.items()
            if getattr(other, field) != getattr(self, field)
        ]
        keyed = self.key_fingerprint is not None and other.key_fingerprint is not None
        if keyed and self.code_version != other.code_version:
            age = "an older" if other.code_version < self.code_version else "a newer"
            found.append(f"codes: the release has those of {age} version, which draws them differently")
        return found

    def has_codes_of(self, other: "RunRecord") -> bool:
        """Whether both draw the same codes from the same key: those of the same classes, shares and cells."""
        return (self.classes, self.shares, self.code_cells) == (other.classes, other.shares, other.code_cells)


def _kept(groups: bool | Sequence[str]) -> str:
    return ("kept" if groups else "dropped") if isinstance(groups, bool) else f"kept ({', '.join(groups)})"


def codes_in_words(levels: int | None) -> str:
    """How strong the codes beside what trained weights add are; empty without any."""
    return "" if levels is None else f"codes of {levels}/255"


def _levels(part: KeyedPart | None) -> str:
    return "no" if part is None else f"{part.levels}/255 ({part.weights_sha256[:SHORT_DIGEST]})"


_CHOICES: Mapping[str, tuple[str, Callable[[RunRecord], str]]] = {
    "epsilon": ("epsilon", lambda run: f"{run.epsilon}/255"),
    "weights": ("weights_sha256", lambda run: f"{run.weights_name} ({run.weights_sha256[:SHORT_DIGEST]})"),
    "key": ("key_fingerprint", lambda run: run.key_fingerprint or "none"),
    "tasks": ("tasks", lambda run: ", ".join(run.tasks)),
    "format": ("image_format", lambda run: run.image_format),
    "quality": ("quality", lambda run: run.quality),
    "traceable": ("traceable", lambda run: _levels(run.traceable)),
    "metadata": ("keep_metadata", lambda run: _kept(run.keep_metadata)),
}
"""What a user chooses that decides about the released bytes: the field that holds it, and how it is shown."""


class FileRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
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
    maps: Mapping[str, str] = {}
    mean_change: float | None = None
    share: float | None = None
    drawn: bool = False


class QuarantineRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """One original that could not be protected and is therefore not in the release."""

    source: str
    reason: str
    status: Literal["quarantined"] = "quarantined"


Record = FileRecord | QuarantineRecord


class _Kind(msgspec.Struct):
    """What is read of a record first, to know its type."""

    status: Literal["protected", "quarantined"]


class _Schema(msgspec.Struct):
    """What is read of ``run.json`` first, to know its schema."""

    schema_version: int


_TEXT_OF = json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode
_KIND = msgspec.json.Decoder(_Kind)
_RECORDS: Mapping[str, msgspec.json.Decoder[Any]] = {
    "protected": msgspec.json.Decoder(FileRecord),
    "quarantined": msgspec.json.Decoder(QuarantineRecord),
}


@dataclass(frozen=True)
class Manifest:
    """A release's records: of two about one source, the later counts.

    Attributes:
        run: The settings.
        files: One record per released image.
        quarantine: One per original that is not released.
        run_sha256, manifest_sha256: Of the bytes that they were read from; empty if they were not.
    """

    run: RunRecord
    files: tuple[FileRecord, ...]
    quarantine: tuple[QuarantineRecord, ...]
    run_sha256: str = ""
    manifest_sha256: str = ""

    @cached_property
    def names(self) -> frozenset[str]:
        """Every file that the records say is released: images and their maps."""
        return released_files(self.files)

    @property
    def dense_tasks(self) -> frozenset[str]:
        """The protected tasks whose labels are maps."""
        return frozenset(name for record in self.files for name, label in record.labels.items() if label in record.maps)

    @property
    def is_traceable(self) -> bool:
        """Whether ``mtlue trace probes`` can ask a model about it: its images carry codes of whole images."""
        return self.run.key_fingerprint is not None and self.run.code_version > 0 and not self.dense_tasks


def released_files(records: Iterable[Record]) -> frozenset[str]:
    """The files that ``records`` say are released: images and their maps."""
    files = [record for record in records if isinstance(record, FileRecord)]
    return frozenset(name for record in files for name in (record.file_name, *record.maps))


def records_folder(release: Path) -> Path:
    """The folder of a release's records: ``.mtlue`` in it, or the one beside it that the file ``.mtlue`` names.

    Raises:
        InputError: That file names none.
    """
    place = release / FOLDER
    if not place.is_file():
        return place
    try:
        name = read_regular(place, MOST_POINTER).decode().strip()
    except (OSError, ValueError) as error:
        raise InputError(f"{place} cannot be read: {error}") from error
    if path_fault(name) is not None or "/" in name or name == FOLDER or not name.endswith(FOLDER):
        raise InputError(f"{place} is damaged: expected the name of a folder beside the release", hint=ANEW)
    return Path(os.path.abspath(release)).with_name(name)


def record_path(release: Path, name: str) -> Path:
    """Where a file stands that a release calls ``name``: its own records may stand beside it."""
    inside = name.removeprefix(f"{FOLDER}/")
    return release / name if inside == name else records_folder(release) / inside


def is_release(folder: Path) -> bool:
    """Whether ``folder`` holds a run record."""
    return (records_folder(folder) / RUN_NAME).is_file()


def read_run(release: Path) -> RunRecord:
    """The settings of a release.

    Raises:
        InputError: There is none, it is damaged, or it is of a newer schema.
    """
    return run_and_digest(release)[0]


def run_and_digest(release: Path) -> tuple[RunRecord, str]:
    """The settings of a release, and SHA-256 of the bytes that they were read from.

    Raises:
        InputError: As :func:`read_run`.
    """
    path = records_folder(release) / RUN_NAME
    try:
        content = read_regular(path)
        version = msgspec.json.decode(content, type=_Schema).schema_version
        if version != SCHEMA_VERSION:
            raise InputError(
                f"{path} has schema version {version!r}, this mtlue reads {SCHEMA_VERSION}", hint="upgrade mtlue"
            )
        return msgspec.json.decode(content, type=RunRecord), hashlib.sha256(content).hexdigest()
    except FileNotFoundError as error:
        raise InputError(
            f"{release} is not a release: {RUN_PATH if path == release / RUN_PATH else path} is missing",
            hint="give a folder made by mtlue protect",
        ) from error
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} is damaged: {error}", hint=ANEW) from error


def write_run(release: Path, run: RunRecord) -> None:
    """Write the settings, atomically; the folders are made if need be."""
    write_atomically(records_folder(release) / RUN_NAME, run_content(run))


def run_content(run: RunRecord) -> bytes:
    """The settings as ``run.json`` holds them."""
    return (json.dumps(run.to_json(), indent=2) + "\n").encode()


def settings_digest(document: Mapping[str, Any]) -> str:
    """SHA-256 of what ``run.json`` holds beside its digests, however it is spaced and ordered."""
    settings = {name: value for name, value in document.items() if name != "digests"}
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()


def read_manifest(release: Path) -> Manifest:
    """The records of a release; a torn last line, left by a killed run, is ignored.

    Raises:
        InputError: ``release`` is no release, or a record is damaged.
    """
    run, run_sha256 = run_and_digest(release)
    path = records_folder(release) / MANIFEST_NAME
    records: dict[str, Record] = {}
    known: dict[Any, Any] = {}
    content = hashlib.sha256()
    for number, line in enumerate(_lines(path), 1):
        content.update(line)
        if not line.strip(b"\n"):
            continue
        try:
            record: Record = _RECORDS[_KIND.decode(line).status].decode(line)
        except (ValueError, RecursionError) as error:
            if not line.endswith(b"\n") and len(line) <= MOST_LINE:
                break
            raise InputError(f"{path}, line {number} is damaged: {error}", hint=ANEW) from error
        if isinstance(record, FileRecord):
            share_values(record, known)
        records.pop(record.source, None)
        records[record.source] = record
    return Manifest(
        run,
        tuple(record for record in records.values() if isinstance(record, FileRecord)),
        tuple(record for record in records.values() if isinstance(record, QuarantineRecord)),
        run_sha256,
        content.hexdigest(),
    )


class _Labels(Mapping[str, str | None]):
    """Labels of a record: ``at`` has the position of each task in ``classes``, for all records alike."""

    __slots__ = ("_at", "_classes")

    def __init__(self, at: Mapping[str, int], classes: tuple[str | None, ...]) -> None:
        self._at, self._classes = at, classes

    def __getitem__(self, task: str) -> str | None:
        return self._classes[self._at[task]]

    def __iter__(self) -> Iterator[str]:
        return iter(self._at)

    def __len__(self) -> int:
        return len(self._at)


_NO_MAPS: Mapping[str, str] = {}


def share_values(record: FileRecord, known: dict[Any, Any]) -> None:
    """Let a record hold values that earlier ones hold too, of ``known``: a million records fit in memory only so."""

    def shared(key: Any, value: Any) -> Any:  # noqa: ANN401 - of several fields
        return known.setdefault(key, value) if len(known) < MOST_SHARED else known.get(key, value)

    tasks = tuple(record.labels)
    at = known.get(tasks) or shared(tasks, {task: number for number, task in enumerate(tasks)})
    classes = tuple(record.labels.values())
    labels = known.get((id(at), classes))
    if labels is None:
        classes = tuple(shared(name, name) for name in classes)
        labels = shared((id(at), classes), _Labels(at, classes))
    fields = {"labels": labels, "maps": record.maps or _NO_MAPS}
    for name in ("max_change", "psnr", "mean_change", "share"):
        fields[name] = shared(value := getattr(record, name), value)
    for name, value in fields.items():
        msgspec.structs.force_setattr(record, name, value)


def _lines(path: Path) -> Iterator[bytes]:
    """The lines of a file, each with its end, those that are too long in parts; nothing without the file."""
    try:
        with io.BufferedReader(open_regular(path)) as stream:
            while line := stream.readline(MOST_LINE + 1):
                yield line
    except FileNotFoundError:
        return
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}", hint=ANEW) from error


def write_manifest(release: Path, records: Iterable[Record]) -> None:
    """Write the whole manifest, atomically, in the order given."""
    write_lines(records_folder(release) / MANIFEST_NAME, map(manifest_line, records))


def manifest_line(record: Record) -> str:
    """A record as its line of the manifest."""
    document = msgspec.structs.asdict(record)
    if isinstance(record, FileRecord):
        document["labels"] = dict(record.labels)
    if not document.get("maps"):
        document.pop("maps", None)
    return _TEXT_OF(document) + "\n"


def read_planned(release: Path) -> frozenset[str]:
    """Files that unfinished runs may have put into the release; none if the list cannot be read."""
    try:
        content = read_regular(records_folder(release) / PLANNED_NAME, MOST_LIST)
        return frozenset(msgspec.json.decode(content, type=list[str]))
    except (OSError, ValueError, RecursionError):
        return frozenset()


def write_planned(release: Path, names: Iterable[str]) -> None:
    """Note, atomically and before the first of them is written, which files a run may put into the release."""
    write_atomically(records_folder(release) / PLANNED_NAME, json.dumps(sorted(names)).encode())
