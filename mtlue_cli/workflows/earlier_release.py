"""What stands in the output folder before a run, and in the input folder of what was released before."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from mtlue_cli.errors import InputError
from mtlue_cli.files import file_digest
from mtlue_cli.images.folder import find_images, find_links
from mtlue_cli.manifest import (
    FOLDER,
    LABELS_NAME,
    RUN_NAME,
    FileRecord,
    RunRecord,
    is_release,
    read_manifest,
    read_planned,
)
from mtlue_cli.tasks.paths import path_fault

Seen = tuple[int, int] | None
"""Inode and time of a release's run record, which every run writes anew; None without one."""


@dataclass(frozen=True)
class EarlierRelease:
    """What a run finds in its output folder.

    Attributes:
        records: Records to go on from, by source: those of the same settings.
        obsolete: Files to be removed before work starts: those of a release with other settings, and those that a
            killed run left without a record.
        ours: Every file that this run or an earlier one may have put there.
        released: Released file of each digest: what an original must not be.
        seen: State of the run record when all this was read.
    """

    records: Mapping[str, FileRecord] = field(default_factory=dict)
    obsolete: frozenset[str] = frozenset()
    ours: frozenset[str] = frozenset()
    released: Mapping[str, Path] = field(default_factory=dict)
    seen: Seen = None


def read_earlier_release(release: Path, run: RunRecord, overwrite: bool, targets: frozenset[str]) -> EarlierRelease:
    """Look at the output folder; writes nothing.

    Args:
        release: The folder.
        run: Settings of the run to come.
        overwrite: Whether a release with other settings may be replaced.
        targets: Files that the run is to write, images and maps, relative POSIX.

    Raises:
        InputError: It is no folder, not empty and not ours, of other settings, or holds what mtlue did not write.
    """
    _refuse_reserved(targets)
    if release.exists() and not release.is_dir():
        raise InputError(f"the output {release} is a file, expected a folder", hint="give another one with --out")
    if not release.is_dir() or not any(release.iterdir()):
        return EarlierRelease(ours=targets)
    _refuse_links(release, targets)
    seen = run_record_state(release)
    if seen is None:
        if all(entry.name == FOLDER for entry in release.iterdir()):
            return EarlierRelease(ours=targets)  # a run that was killed before it wrote its settings
        raise InputError(
            f"the output folder {release} is not empty and holds no release of mtlue",
            hint="give another one with --out",
        )
    manifest = read_manifest(release)
    differences = run.differences(manifest.run)
    if differences and not overwrite:
        raise InputError(
            f"{release} was made with other settings",
            differences,
            "give another folder with --out, or --overwrite to replace it",
        )
    recorded = manifest.names
    ours = recorded | read_planned(release) | targets
    strangers = [name for name in find_images(release) if name not in ours]
    if strangers:
        raise InputError(
            f"{release} holds {len(strangers)} images that mtlue did not write there, they may be unprotected",
            strangers,
            "move them out of the release, or give another folder with --out",
        )
    released = _released(release, manifest.files)
    if differences:
        return EarlierRelease({}, ours, ours, released, seen)
    records = {record.source: record for record in manifest.files}
    return EarlierRelease(records, ours - recorded, ours, released, seen)


def run_record_state(release: Path) -> Seen:
    """What changes whenever another run has begun or ended in ``release``."""
    try:
        status = (release / FOLDER / RUN_NAME).stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns


def refuse_protected(images: Path, names: Sequence[str]) -> None:
    """Refuse originals that the manifest of a release names, byte for byte.

    Args:
        images: Folder of the originals; it, or a folder above, may be a release.
        names: Files of it, relative POSIX.

    Raises:
        InputError: Lists every one of them.
    """
    folder = images.resolve()
    release = next((place for place in (folder, *folder.parents) if is_release(place)), None)
    if release is None:
        return
    digests = {record.file_name: record.sha256 for record in read_manifest(release).files}
    inside = folder.relative_to(release)
    faults: list[str] = []
    for name in names:
        recorded = digests.get((PurePosixPath(inside) / name).as_posix())
        try:
            if recorded is not None and file_digest(folder / name) == recorded:
                faults.append(f"{name}: is what the manifest of {release} says was released")
        except OSError:
            continue  # told when it is its turn
    if faults:
        raise InputError(
            f"{len(faults)} of {len(names)} images are protected already",
            faults,
            "give the folder of the originals, or --force to protect them a second time",
        )


def _released(release: Path, files: Sequence[FileRecord]) -> dict[str, Path]:
    # A file that is its own original, which older versions released, says nothing of the originals.
    changed = [record for record in files if record.max_change > 0 and record.sha256 != record.source_sha256]
    return {record.sha256: release / record.file_name for record in changed}


def _refuse_reserved(targets: frozenset[str]) -> None:
    faults = [
        f"{name}: is kept for the release's own records"
        for name in sorted(targets)
        if name == LABELS_NAME or PurePosixPath(name).parts[0] == FOLDER
    ]
    if faults:
        raise InputError(
            "files would take the place of the release's records", faults, "rename them, and in the label file too"
        )


def _refuse_links(release: Path, targets: frozenset[str]) -> None:
    folders = {str(parent) for name in targets if path_fault(name) is None for parent in PurePosixPath(name).parents}
    hidden = {name for name in folders - {"."} if os.path.islink(release / name)}
    links = sorted({*find_links(release), *hidden, *((FOLDER,) if (release / FOLDER).is_symlink() else ())})
    if links:
        raise InputError(
            f"{release} holds links, behind which a run would write or overlook images elsewhere",
            links,
            "remove them, or give another folder with --out",
        )
