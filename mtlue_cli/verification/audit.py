"""The audit of a release before any victim is trained: its own check, or what can be said of one of another tool."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from mtlue_cli.errors import ImageError, InputError
from mtlue_cli.images.folder import find_images
from mtlue_cli.images.reading import ReadingThreads
from mtlue_cli.release.check import compare_files
from mtlue_cli.release.records import FOLDER, Manifest
from mtlue_cli.release.release import Release
from mtlue_cli.tasks.spec import LabelTable


@dataclass(frozen=True)
class Audit:
    """What was found in a release.

    Attributes:
        manifest: Its manifest; None for a release made by another tool (or if it cannot be read: see ``faults``).
        faults: Everything that breaks a promise, one per line.
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
        check = Release(release).check(
            originals, labels, file_column=file_column, workers=workers, on_start=on_start, on_file=on_file
        )
    except InputError as error:
        return Audit(None, (str(error),), (), {}, {}, None, 0)
    manifest = check.manifest
    labelled = frozenset(labels.file_names)
    released = {record.source: record.file_name for record in manifest.files if record.source in labelled}
    missing = {record.source: record.reason for record in manifest.quarantine if record.source in labelled}
    notes: list[str] = []
    if check.over_bound:
        notes.append(
            f"{check.over_bound} files were compressed with loss and change by more than {manifest.run.epsilon}/255; "
            "their bound holds before compression"
        )
    if missing:
        notes.append(f"{len(missing)} images are in quarantine, not in the release, and left out here")
    if len(released) < len(manifest.files):
        notes.append(
            f"{len(manifest.files) - len(released)} files of the release have no row in the labels: checked all the "
            "same, but not trained on"
        )
    if check.without_original:
        notes.append(
            f"{check.without_original} of them have no original here: their hashes were checked, their change was not"
        )
    return Audit(manifest, check.faults, tuple(notes), released, missing, check.max_change, check.measured, check.maps)


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
    with ReadingThreads(max_workers=max(workers, 1)) as pool:
        found = zip(labels.file_names, pool.map(check, labels.file_names), strict=True)
        for name, (match, change, fault) in found:
            if on_file is not None:
                on_file()
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
