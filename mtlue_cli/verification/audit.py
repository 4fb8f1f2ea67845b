"""The audit of a release before any victim is trained: its own check, or what can be said of one of another tool."""

import os
import shlex
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath

from msgspec import structs

from mtlue_cli.budget import ReadingThreads
from mtlue_cli.choices import ImageFormat
from mtlue_cli.documents import Document
from mtlue_cli.errors import ImageError, InputError
from mtlue_cli.images.folder import find_files_and_links, find_images
from mtlue_cli.release.check import compare_files
from mtlue_cli.release.records import FOLDER
from mtlue_cli.release.release import Release
from mtlue_cli.release.seal import NO_SEAL, Trust
from mtlue_cli.tasks.spec import LabelTable


class AuditReport(Document, frozen=True, kw_only=True):
    """What was found in the released files before any victim was trained.

    Attributes:
        manifest: Whether the release has a readable manifest; a release made by another tool has none.
        epsilon: Bound that the manifest promises, in 255ths.
        weights: ``name`` and ``sha256`` of the generator, as the manifest says.
        protected_tasks: Tasks that the manifest promises to protect.
        format: How the images were written.
        files: Released files with a row in the labels.
        measured: Files whose change was measured.
        maps: Masks and maps that go with the released images.
        max_change: Largest change of a colour value over all measured files, in 255ths.
        quarantined: File that is not in the release to the reason.
        authenticated_by: Who vouches for the records: a key, a signer, or nobody.
        trace: The command with which a model is asked whether it was trained on this release; null where none can.
        faults: Everything that breaks a promise; if there is any, nothing is trained.
        notes: What is no fault and should be known.
    """

    manifest: bool = False
    epsilon: int | None = None
    weights: Mapping[str, str] | None = None
    protected_tasks: tuple[str, ...] | None = None
    format: ImageFormat | None = None
    files: int = 0
    measured: int = 0
    maps: int = 0
    max_change: float | None = None
    quarantined: Mapping[str, str] = {}
    authenticated_by: tuple[str, ...] = ()
    trace: str | None = None
    faults: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


class Audit(AuditReport, frozen=True, kw_only=True):
    """What was found in a release, and which files are to be trained on.

    Attributes:
        released: Label row's file name to the released file, both relative POSIX; quarantined rows are left out.
    """

    released: Mapping[str, str] = {}


def audit_release(
    release: Path,
    originals: Path,
    labels: LabelTable,
    *,
    file_column: str | None = None,
    workers: int = 2,
    on_start: Callable[[int], None] | None = None,
    on_file: Callable[[], None] | None = None,
    trust: Trust = Trust(),  # noqa: B008 - frozen
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
        trust: Whose seal the release must have.
    """
    if not os.path.lexists(release / FOLDER):
        if on_start is not None:
            on_start(len(labels))
        audit = _audit_foreign(release, originals, labels, workers, on_file)
        return structs.replace(audit, faults=(NO_SEAL, *audit.faults)) if trust.demands else audit
    try:
        check = Release(release).check(
            originals, labels, file_column=file_column, workers=workers, on_start=on_start, on_file=on_file, trust=trust
        )
    except InputError as error:
        return Audit(faults=(str(error),))
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
    notes.append(f"the records are {check.authentication.described}")
    trace = ["mtlue", "trace", "probes", "CLEAN_PHOTOS", "--release", str(release), "--out", "probes"]
    run = manifest.run
    return Audit(
        manifest=True,
        epsilon=run.epsilon,
        weights={"name": run.weights_name, "sha256": run.weights_sha256},
        protected_tasks=run.tasks,
        format=run.image_format,
        files=len(released),
        measured=check.measured,
        maps=check.maps,
        max_change=check.max_change,
        quarantined=missing,
        authenticated_by=check.authentication.by,
        trace=shlex.join(trace) if manifest.is_traceable else None,
        faults=check.faults,
        notes=tuple(notes),
        released=released,
    )


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
            problem = f"several files match: {', '.join(candidates)}" if candidates else "missing in the release"
            return None, None, f"{name}: {problem}"
        try:
            largest = compare_files(originals / name, release / candidates[0]).change.largest
            return candidates[0], largest, None if largest else f"{candidates[0]}: is its original, unchanged"
        except ValueError:
            return candidates[0], None, None
        except ImageError as error:
            return None, None, f"{name}: {error}"

    released: dict[str, str] = {}
    faults = [f"{name}: is a link; its target may be unprotected" for name in find_files_and_links(release)[1]]
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
    return Audit(
        files=len(released),
        measured=len(changes),
        max_change=max(changes, default=None),
        faults=tuple(faults),
        notes=tuple(notes),
        released=released,
    )
