"""Hold a release against its manifest, its labels and the clean originals, before any victim is trained."""

from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from mtlue_cli.choices import ImageFormat
from mtlue_cli.errors import ImageError, InputError
from mtlue_cli.files import file_digest
from mtlue_cli.images.encode import is_lossless
from mtlue_cli.images.folder import find_images, find_links
from mtlue_cli.manifest import FOLDER, LABELS_NAME, FileRecord, Manifest, RunRecord, read_manifest
from mtlue_cli.tasks.labels import read_label_file, released_options
from mtlue_cli.tasks.paths import path_fault
from mtlue_cli.tasks.spec import LabelTable
from mtlue_cli.verification.measured_change import change_faults, compare_files, record_faults
from mtlue_cli.verification.released_maps import changed_maps, map_faults

Found = TypeVar("Found")


@dataclass(frozen=True)
class Audit:
    """What was found in a release.

    Attributes:
        manifest: Its manifest; None for a release made by another tool (or if it cannot be read: see ``faults``).
        faults: Everything that breaks a promise, a line each.
        notes: What a reader should know and is no fault.
        released: Label row's file name to the released file, both relative POSIX; quarantined rows are left out.
        quarantined: File names that the manifest says are not in the release, with the reason.
        max_change: Largest measured change of a colour value in 255ths, over all files; None if none was measured.
        measured: Number of files that were measured.
        maps: Number of masks and maps in the release.
    """

    manifest: Manifest | None
    faults: tuple[str, ...]
    notes: tuple[str, ...]
    released: Mapping[str, str]
    quarantined: Mapping[str, str]
    max_change: float | None
    measured: int
    maps: int = 0

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready document."""
        run = self.manifest.run if self.manifest else None
        return {
            "manifest": run is not None,
            "epsilon": run.epsilon if run else None,
            "weights": {"name": run.weights_name, "sha256": run.weights_sha256} if run else None,
            "protected_tasks": list(run.tasks) if run else None,
            "format": run.image_format if run else None,
            "files": len(self.released),
            "measured": self.measured,
            "maps": self.maps,
            "max_change": self.max_change,
            "quarantined": dict(self.quarantined),
            "faults": list(self.faults),
            "notes": list(self.notes),
        }


def audit_release(
    release: Path,
    originals: Path,
    labels: LabelTable,
    *,
    file_column: str | None = None,
    workers: int = 2,
    on_start: Callable[[int], None] | None = None,
    on_file: Callable[[], None] | None = None,
) -> Audit:
    """Check files, hashes, labels and bound of ``release``; nothing is changed.

    Files of the manifest without a label row are checked too; their bound only where their original is there.

    Without a manifest only the presence of the files is enforced, and the change is reported.

    Args:
        release: Folder of protected images.
        originals: Folder of the clean images.
        labels: The rows that the release should hold.
        file_column: Header of the file column of the release's label file if its run record, made by an older version,
            does not say; None: by the usual names.
        workers: Threads that decode.
        on_start: Called with the number of files, before the first is checked.
        on_file: Called after each file.
    """
    if not (release / FOLDER).exists():
        if on_start is not None:
            on_start(len(labels))
        return _audit_foreign(release, originals, labels, workers, on_file)
    try:
        manifest = read_manifest(release)
    except InputError as error:
        return Audit(None, (str(error),), (), {}, {}, None, 0)
    by_source = {record.source: record for record in manifest.files}
    quarantined = {record.source: record.reason for record in manifest.quarantine}
    row_of = {name: row for row, name in enumerate(labels.file_names)}
    labelled = row_of.keys()
    unlisted = tuple(name for name in by_source if name not in labelled)
    if on_start is not None:
        on_start(len(labels) + len(unlisted))
    faults = _whole_release_faults(release, manifest)
    notes: list[str] = []

    def check(name: str) -> _FileCheck:
        record = by_source.get(name)
        if record is None:
            return _FileCheck(() if name in quarantined else (f"{name}: not in the manifest",))
        found = _check_file(release, originals, record, manifest.run, must_measure=name in labelled)
        given = (
            {} if name not in row_of else {file: labels.maps_folder / file for file in labels.map_files(row_of[name])}
        )
        return replace(found, faults=(*found.faults, *map_faults(release, record), *changed_maps(record, given)))

    released: dict[str, str] = {}
    changes: list[float] = []
    lossy_over = 0
    unmeasured = 0
    for name, found in _each(check, (*labels.file_names, *unlisted), workers, on_file):
        faults.extend(found.faults)
        unmeasured += found.no_original
        lossy_over += found.lossy_over
        if found.change is not None:
            changes.append(found.change)
        if name in by_source and name in labelled:
            released[name] = by_source[name].file_name
    faults.extend(_label_faults(release, labels, released, manifest.run.file_column or file_column))
    faults.extend(_conditioning_faults(labels, by_source))
    if lossy_over:
        notes.append(
            f"{lossy_over} files were compressed with loss and change by more than {manifest.run.epsilon}/255; "
            "their bound holds before compression"
        )
    missing = {name: reason for name, reason in quarantined.items() if name in labelled}
    if missing:
        notes.append(f"{len(missing)} images are in quarantine, not in the release, and left out here")
    if unlisted:
        notes.append(
            f"{len(unlisted)} files of the release have no row in the labels: checked all the same, but not trained on"
        )
    if unmeasured:
        notes.append(f"{unmeasured} of them have no original here: their hashes were checked, their change was not")
    maps = len({file for record in manifest.files for file in record.maps})
    largest = max(changes, default=None)
    return Audit(manifest, tuple(faults), tuple(notes), released, missing, largest, len(changes), maps)


@dataclass(frozen=True)
class _FileCheck:
    """Faults of one file, its measured change, and what kept it from being measured or held to the bound.

    Attributes:
        faults: A line each.
        change: Largest measured change in 255ths, or None.
        lossy_over: Only lossy compression took it over the bound.
        no_original: There is nothing to measure it against.
    """

    faults: tuple[str, ...]
    change: float | None = None
    lossy_over: bool = False
    no_original: bool = False


def _check_file(
    release: Path, originals: Path, record: FileRecord, run: RunRecord, *, must_measure: bool
) -> _FileCheck:
    for name in (record.file_name, record.source):
        if (unsafe := path_fault(name)) is not None:
            return _FileCheck((f"{record.source}: in the manifest, {unsafe}",))
    path = release / record.file_name
    if not path.is_file():
        return _FileCheck((f"{record.file_name}: missing in the release",))
    faults = record_faults(record, run.epsilon)
    try:
        if file_digest(path) != record.sha256:
            faults.append(f"{record.file_name}: its bytes are not those of the manifest")
        if not must_measure and not (originals / record.source).is_file():
            return _FileCheck(tuple(faults), no_original=True)
        if file_digest(originals / record.source) != record.source_sha256:
            faults.append(f"{record.source}: the original is not the one that was protected")
        found = compare_files(originals / record.source, path)
        lossless = is_lossless(ImageFormat(run.image_format), found.source_format)
    except (OSError, ImageError, ValueError) as error:
        return _FileCheck((*faults, f"{record.file_name}: cannot be measured: {error}"))
    change = found.change
    faults += [fault for fault in change_faults(record, change, run.epsilon) if fault not in faults]
    if change.largest <= run.epsilon:
        return _FileCheck(tuple(faults), change.largest)
    if not lossless:
        return _FileCheck(tuple(faults), change.largest, lossy_over=True)
    excess = f"{record.file_name}: changed by {change.largest:g}/255, the bound is {run.epsilon}/255"
    return _FileCheck((*faults, excess), change.largest)


def _whole_release_faults(release: Path, manifest: Manifest) -> list[str]:
    faults = [] if manifest.run.complete else ["the release is incomplete: run the same protect command again"]
    names = Counter(record.file_name for record in manifest.files)
    faults += [f"{name}: released for {count} originals" for name, count in names.items() if count > 1]
    faults += [f"{name}: is a link, what is behind it may be unprotected" for name in find_links(release)]
    return faults + [
        f"{name}: not in the manifest, it may be unprotected"
        for name in find_images(release)
        if name not in manifest.names
    ]


def _label_faults(release: Path, labels: LabelTable, released: Mapping[str, str], file_column: str | None) -> list[str]:
    """Differences between the given labels and the release's own label file."""
    try:
        found = read_label_file(release / LABELS_NAME, released_options(file_column), for_learning=False).table
    except InputError as error:
        return [str(error), *error.faults]
    faults = [f"{LABELS_NAME}: column {name!r} is missing" for name in labels.tasks.names if name not in found.tasks]
    row_of = {name: row for row, name in enumerate(found.file_names)}
    for row, name in enumerate(labels.file_names):
        if name not in released:
            continue
        if released[name] not in row_of:
            faults.append(f"{LABELS_NAME}: no row for {released[name]}")
            continue
        for task in labels.tasks:
            if task.name in found.tasks:
                given, saved = labels.class_name(task.name, row), found.class_name(task.name, row_of[released[name]])
                if task.is_dense and saved is not None:
                    saved = str(PurePosixPath(saved))
                if given != saved:
                    faults.append(
                        f"{LABELS_NAME}: {released[name]}, {task.name}: {saved or 'empty'}, expected {given or 'empty'}"
                    )
    strangers = sorted(row_of.keys() - set(released.values()))
    return faults + [
        f"{LABELS_NAME}: {name} is no released file" for name in strangers if not (release / name).is_file()
    ]


def _conditioning_faults(labels: LabelTable, by_source: Mapping[str, FileRecord]) -> list[str]:
    """Images that were protected under another label than the one that is published."""
    faults: list[str] = []
    for row, name in enumerate(labels.file_names):
        used: Mapping[str, str | None] = by_source[name].labels if name in by_source else {}
        for task in labels.tasks:
            given = labels.class_name(task.name, row)
            if task.name in used and used[task.name] != given:
                was = used[task.name] or "empty"
                faults.append(f"{name}: protected with {task.name} {was}, its label is {given or 'empty'}")
    return faults


def _audit_foreign(
    release: Path, originals: Path, labels: LabelTable, workers: int, on_file: Callable[[], None] | None
) -> Audit:
    maps = labels.all_map_files
    files = [name for name in find_images(release) if name not in maps]
    present = set(files)
    by_stem: dict[str, list[str]] = {}
    for file in files:
        by_stem.setdefault(str(PurePosixPath(file).with_suffix("")), []).append(file)

    def check(name: str) -> tuple[str | None, float | None, str | None]:
        candidates = [name] if name in present else by_stem.get(str(PurePosixPath(name).with_suffix("")), [])
        if len(candidates) != 1:
            problem = f"several files could be it: {', '.join(candidates)}" if candidates else "missing in the release"
            return None, None, f"{name}: {problem}"
        try:
            largest = compare_files(originals / name, release / candidates[0]).change.largest
            return candidates[0], largest, None if largest else f"{candidates[0]}: is its original, unchanged"
        except ValueError:
            return candidates[0], None, None
        except ImageError as error:
            return None, None, f"{name}: {error}"

    released: dict[str, str] = {}
    faults: list[str] = []
    changes: list[float] = []
    for name, (match, change, fault) in _each(check, labels.file_names, workers, on_file):
        if fault is not None:
            faults.append(fault)
        if match is not None:
            released[name] = match
        if change is not None:
            changes.append(change)
    notes = ["the release has no manifest: only the presence of its files is checked, its change is reported"]
    unmeasured = len(released) - len(changes)
    if unmeasured:
        notes.append(f"{unmeasured} files differ from their originals in size or kind and were not measured")
    return Audit(None, tuple(faults), tuple(notes), released, {}, max(changes, default=None), len(changes))


def _each(
    check: Callable[[str], Found], names: tuple[str, ...], workers: int, on_file: Callable[[], None] | None
) -> list[tuple[str, Found]]:
    found: list[tuple[str, Found]] = []
    with ThreadPoolExecutor(max_workers=max(workers, 1)) as pool:
        for name, result in zip(names, pool.map(check, names), strict=True):
            found.append((name, result))
            if on_file is not None:
                on_file()
    return found
