"""What can be wrong with a release: with its files, its records and its labels, one line per fault."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from mtlue_cli.budget import budget
from mtlue_cli.choices import ExitCode, ImageFormat
from mtlue_cli.errors import ImageError, InputError
from mtlue_cli.files import file_digest, has_digest, is_temporary, read_regular
from mtlue_cli.images.decode import Pixels, decode_image, read_content
from mtlue_cli.images.encode import comparable_pixels, is_lossless, same_alpha
from mtlue_cli.images.folder import find_files_and_links
from mtlue_cli.images.targets import stored_array, turned
from mtlue_cli.metrics.flip import MeanFlip
from mtlue_cli.notebook import html_table
from mtlue_cli.perturbation.effect import (
    LEAST_SHARE,
    Change,
    is_changed,
    is_less_than_recorded,
    least_mean_change,
    measure_change,
)
from mtlue_cli.release.records import (
    FOLDER,
    LABELS_NAME,
    LENT_NAME,
    LOCK_NAME,
    MANIFEST_PATH,
    PLANNED_NAME,
    RUN_PATH,
    SHORT_DIGEST,
    FileRecord,
    Manifest,
    QuarantineRecord,
    RunRecord,
    codes_in_words,
    record_path,
    records_folder,
    settings_digest,
)
from mtlue_cli.release.seal import JOURNAL_NAME, SEAL_PATH, Authentication
from mtlue_cli.storage.parts import PARTS
from mtlue_cli.storage.writer import WRITER
from mtlue_cli.tasks.labels import read_label_file, released_options
from mtlue_cli.tasks.paths import path_fault
from mtlue_cli.tasks.spec import LabelTable
from mtlue_cli.tasks.wording import counted

SCHEMA_VERSION = 1


@dataclass(frozen=True, slots=True)
class FileCheck:
    """What was found of one released file.

    Attributes:
        faults: One per line.
        change: Largest change in 255ths, measured or as recorded; None if it could not be measured.
        psnr: Likewise, in dB; None also if nothing changed.
        ssim: None unless it was asked for.
        measured: Whether the file was compared with its original.
        over_bound: Whether lossy compression alone took it over the bound.
        no_original: Whether it was not compared, since no label row names it and its original is not there.
    """

    faults: tuple[str, ...] = ()
    change: float | None = None
    psnr: float | None = None
    ssim: float | None = None
    measured: bool = False
    over_bound: bool = False
    no_original: bool = False


@dataclass(frozen=True)
class ReleaseCheck:
    """A release, every file read.

    Attributes:
        path: Its folder.
        manifest: Its records.
        found: What was found of each of its files, in the order of the manifest.
        faults: Everything that makes it less than whole, one per line.
        flip: Mean FLIP over a sample of the files, as recorded unless it was measured again; None without either.
        authentication: Who vouches for its records.
    """

    path: Path
    manifest: Manifest
    found: tuple[FileCheck, ...]
    faults: tuple[str, ...]
    flip: MeanFlip | None
    authentication: Authentication = field(default_factory=Authentication)

    @property
    def run(self) -> RunRecord:
        """The settings it was made with."""
        return self.manifest.run

    @property
    def quarantine(self) -> tuple[QuarantineRecord, ...]:
        """Originals that are not in it."""
        return self.manifest.quarantine

    @property
    def files(self) -> int:
        """Number of released images in the manifest."""
        return len(self.manifest.files)

    @property
    def maps(self) -> int:
        """Number of the masks and maps that go with them."""
        return len({name for record in self.manifest.files for name in record.maps})

    @property
    def measured(self) -> int:
        """Number of files that were measured against their originals."""
        return sum(found.measured for found in self.found)

    @property
    def over_bound(self) -> int:
        """Files compressed with loss whose change exceeds epsilon; no fault, the bound holds before compression."""
        return sum(found.over_bound for found in self.found)

    @property
    def without_original(self) -> int:
        """Files that no label row names and that were not measured, since their originals are not there."""
        return sum(found.no_original for found in self.found)

    @property
    def max_change(self) -> float | None:
        """Largest change in 255ths; None without files."""
        return max((found.change for found in self.found if found.change is not None), default=None)

    @property
    def mean_psnr(self) -> float | None:
        """Mean PSNR in dB; None without files."""
        return _mean(found.psnr for found in self.found)

    @property
    def mean_ssim(self) -> float | None:
        """Mean SSIM; None unless measured."""
        return _mean(found.ssim for found in self.found)

    @property
    def exit_code(self) -> ExitCode:
        """:attr:`ExitCode.NOT_PROTECTED` unless the release is whole."""
        return ExitCode.NOT_PROTECTED if self.faults else ExitCode.SUCCESS

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready document."""
        return {
            "schema_version": SCHEMA_VERSION,
            "command": "inspect",
            "kind": "release",
            "path": str(self.path),
            "whole": not self.faults,
            "authenticated_by": list(self.authentication.by),
            "signer": self.authentication.signer,
            "epsilon": self.run.epsilon,
            "tasks": list(self.run.tasks),
            "weights": {"name": self.run.weights_name, "sha256": self.run.weights_sha256},
            "key_fingerprint": self.run.key_fingerprint,
            "traceable": None if self.run.traceable is None else self.run.traceable.levels,
            "codes": {"version": self.run.code_version, "cells": self.run.code_cells},
            "format": self.run.image_format,
            "versions": dict(self.run.versions),
            "files": self.files,
            "maps": self.maps,
            "quarantined": [{"file": record.source, "reason": record.reason} for record in self.quarantine],
            "faults": list(self.faults),
            "compressed_over_bound": self.over_bound,
            "max_change": self.max_change,
            "mean_psnr": self.mean_psnr,
            "mean_ssim": self.mean_ssim,
            "flip": None if self.flip is None else self.flip.to_json(),
            "measured": self.measured,
            "exit_code": int(self.exit_code),
        }

    def rows(self) -> dict[str, str]:
        """What it is, by name, in words; empty where there is nothing to say."""
        run, over = self.run, self.over_bound
        how = f"measured on {self.measured} files" if self.measured else "as recorded"
        largest = "" if self.max_change is None else f"{self.max_change:g}/255, bound {run.epsilon}/255 ({how})"
        codes = f"version {run.code_version}, patterns of {run.code_cells} x {run.code_cells} cells"
        mean = "measured, mean" if self.measured else "as recorded, mean"
        return {
            "release": str(self.path),
            "intact": f"no, {counted(len(self.faults), 'fault')}" if self.faults else "yes",
            "records": self.authentication.described,
            "signed by": self.authentication.signed_by,
            "files": f"{self.files}, {len(self.quarantine)} in quarantine",
            "masks and maps": str(self.maps or ""),
            "tasks": ", ".join(run.tasks),
            "kept useful": ", ".join(run.keep),
            "weights": f"{run.weights_name} ({run.weights_sha256[:SHORT_DIGEST]})",
            "key": run.key_fingerprint or "none",
            "codes": codes if run.code_version else "",
            "traceable": codes_in_words(None if run.traceable is None else run.traceable.levels),
            "format": run.image_format,
            "largest change": largest,
            "over the bound": f"{over} files, by their compression alone" if over else "",
            "mean PSNR": "" if self.mean_psnr is None else f"{self.mean_psnr:.2f} dB",
            "FLIP": "" if self.flip is None else self.flip.described(mean),
            "mean SSIM": "" if self.mean_ssim is None else f"{self.mean_ssim:.4f}",
        }

    def _repr_html_(self) -> str:
        more = {"in quarantine": [record.source for record in self.quarantine], "faults": self.faults}
        return html_table("Release", self.rows() | more)


@dataclass(frozen=True)
class Comparison:
    """An image and its released version, decoded.

    Attributes:
        change: How far it is from its original.
        source_format: Pillow's name of the original's file format.
        before, after: Pixels of the same shape and type.
    """

    change: Change
    source_format: str
    before: Pixels
    after: Pixels


def compare_files(original: Path, released: Path) -> Comparison:
    """Compare two images, both upright.

    Raises:
        ImageError: A file cannot be decoded.
        ValueError: The images differ in size, depth or alpha, so that there is nothing to compare.
    """
    before = decode_image(original)
    try:
        after = decode_image(released)
    except ImageError as error:
        raise ImageError(f"the released file {error}") from error
    # A format without grey repeats it in three channels.
    pixels = comparable_pixels(before.pixels, after.pixels)
    if pixels.shape != after.pixels.shape or pixels.dtype != after.pixels.dtype:
        raise ValueError(f"{_described(after.pixels)}, its original {_described(before.pixels)}")
    if not same_alpha(before.alpha, after.alpha):
        raise ValueError("its alpha is not the original's")
    return Comparison(measure_change(pixels, after.pixels), before.format, pixels, after.pixels)


def check_file(
    release: Path,
    record: FileRecord,
    run: RunRecord,
    originals: Path | None,
    maps: Mapping[str, Path],
    turns: Mapping[str, int],
    *,
    must_measure: bool,
    with_ssim: bool,
) -> FileCheck:
    """Read a released file and its maps, and compare it with its original; without ``originals``, with its record.

    ``maps`` are the originals of the maps that its labels name, ``turns`` the EXIF orientations of the photos of those
    that are released upright with them. If it ``must_measure``, it is a fault that an original is not there.
    """
    for name in (record.file_name, record.source):
        if (unsafe := path_fault(name)) is not None:
            return FileCheck((f"{record.source}: in the manifest, {unsafe}",))
    of_maps = (*map_faults(release, record), *changed_maps(release, record, maps, turns))
    path = release / record.file_name
    if not path.is_file():
        return FileCheck((f"{record.file_name}: missing in the release", *of_maps))
    faults = record_faults(record, run.epsilon)
    try:
        if file_digest(path, budget().photo_bytes) != record.sha256:
            faults.append(f"{record.file_name}: its bytes are not those of the manifest")
    except OSError as error:
        return FileCheck((f"{record.file_name}: cannot be read: {error.strerror or error}", *of_maps))
    largest, psnr, similarity = record.max_change, record.psnr, None
    lossless = run.image_format != ImageFormat.KEEP
    if originals is not None:
        original = originals / record.source
        if not must_measure and not original.is_file():
            return FileCheck((*faults, *of_maps), no_original=True)
        try:
            if file_digest(original, budget().photo_bytes) != record.source_sha256:
                faults.append(f"{record.source}: the original is not the one that was protected")
            pair = compare_files(original, path)
        except OSError as error:
            unreadable = f"{record.source}: the original cannot be read: {error.strerror or error}"
            return FileCheck((*faults, unreadable, *of_maps))
        except (ImageError, ValueError) as error:
            return FileCheck((*faults, f"{record.file_name}: cannot be measured: {error}", *of_maps))
        faults += [fault for fault in change_faults(record, pair.change, run.epsilon) if fault not in faults]
        largest, psnr = pair.change.largest, pair.change.psnr
        lossless = is_lossless(run.image_format, pair.source_format)
        if with_ssim:
            from mtlue_cli.metrics.image_quality import ssim  # brings torch

            similarity = ssim(pair.before, pair.after)
    over, measured = largest > run.epsilon, originals is not None
    if over and lossless:
        faults.append(f"{record.file_name}: changed by {largest:g}/255, the bound is {run.epsilon}/255")
    return FileCheck((*faults, *of_maps), largest, psnr, similarity, measured, over_bound=over and not lossless)


def record_faults(record: FileRecord, epsilon: int) -> list[str]:
    """Why a file is not protected by its own record, one per line; epsilon in 255ths."""
    name = record.file_name
    if record.max_change == 0 or record.psnr is None or record.sha256 == record.source_sha256:
        return [f"{name}: is its original, unchanged: protect it again"]
    faults: list[str] = []
    if record.share is not None and record.share < LEAST_SHARE:
        faults.append(f"{name}: carries {record.share:.0%} of its perturbation, at least {LEAST_SHARE:.0%} is needed")
    if record.mean_change is not None and record.mean_change < least_mean_change(epsilon):
        faults.append(_too_little(name, record.mean_change, epsilon))
    return faults


def change_faults(record: FileRecord, change: Change, epsilon: int) -> list[str]:
    """Why a file is not protected by what was measured of it, one per line; epsilon in 255ths."""
    name = record.file_name
    if change.largest == 0:
        return [f"{name}: is its original, unchanged: protect it again"]
    faults: list[str] = []
    if change.mean < least_mean_change(epsilon):
        faults.append(_too_little(name, change.mean, epsilon))
    elif not is_changed(change, epsilon):
        faults.append(f"{name}: is its original, brighter or darker as a whole: protect it again")
    if record.mean_change is not None and is_less_than_recorded(change.mean, record.mean_change):
        faults.append(f"{name}: changed by {change.mean:.2f}/255 on average, {record.mean_change:.2f} is recorded")
    return faults


def map_faults(release: Path, record: FileRecord) -> list[str]:
    """Maps of a released image that are missing or have other bytes than the manifest says, one per line."""
    faults: list[str] = []
    for name, digest in record.maps.items():
        unsafe = path_fault(name)
        if unsafe is not None:
            faults.append(f"{record.source}: in the manifest, {unsafe}")
        elif not (release / name).is_file():
            faults.append(f"{name}: missing in the release, it is a map of {record.file_name}")
        elif digest == record.source_sha256:
            faults.append(f"{name}: is the original of {record.file_name}, released as its map")
        elif not has_digest(release / name, digest, budget().photo_bytes):
            faults.append(f"{name}: its bytes are not those of the manifest")
    return faults


def changed_maps(release: Path, record: FileRecord, given: Mapping[str, Path], turns: Mapping[str, int]) -> list[str]:
    """Maps that an image was protected with and that are not what its labels hold now (``given``), one per line.

    ``turns`` are the EXIF orientations of the photos of those that are released upright with them.
    """
    faults = [f"{record.source}: {name} is in its labels and was not released" for name in given.keys() - record.maps]
    faults.sort()
    for name, digest in record.maps.items():
        if name in given:
            same = (
                _is_turned(given[name], release / name, turns[name])
                if name in turns
                else has_digest(given[name], digest, budget().photo_bytes)
            )
            if not same:
                faults.append(f"{record.source}: protected with other bytes of {name} than its labels hold")
    return faults


def _is_turned(original: Path, released: Path, orientation: int) -> bool:
    """Whether a released map holds what its original does, upright."""
    try:
        return np.array_equal(
            turned(stored_array(read_content(original)), orientation), stored_array(read_content(released))
        )
    except ImageError:
        return False


def folder_faults(release: Path, manifest: Manifest, planned: frozenset[str], originals: Path | None) -> list[str]:
    """What is wrong with the folder and the records of a release, beside single files.

    An unfinished release is one fault, with the command that finishes it: what its run has still to record, to write
    (``planned``) or to remove is no more.
    """
    unfinished = not manifest.run.complete
    faults = [_unfinished(release, manifest, originals)] if unfinished else []
    faults += _changed_records(release, manifest)
    counts = Counter(record.file_name for record in manifest.files)
    faults += [f"{name}: released for {count} originals" for name, count in counts.items() if count > 1]
    return faults + stranger_faults(
        release, manifest.names | companions_of(manifest.run), planned, unfinished=unfinished
    )


def companions_of(run: RunRecord) -> frozenset[str]:
    """Other files of the layout that a release holds, beside its images, maps, label file and records."""
    return frozenset(name for name in run.digests if not name.startswith(f"{FOLDER}/")) - {LABELS_NAME}


def stranger_faults(release: Path, names: frozenset[str], planned: frozenset[str], *, unfinished: bool) -> list[str]:
    """What stands in a release that is neither a record nor among ``names``, one per line; hidden or not.

    An unfinished one may hold what its run has ``planned``, and what it has half written.
    """
    files, links = find_files_and_links(release)
    records = records_folder(release)
    if records != release / FOLDER:
        inside = find_files_and_links(records)
        files, links = (
            [*here, *(f"{FOLDER}/{name}" for name in there)] for here, there in zip((files, links), inside, strict=True)
        )
    working = {f"{FOLDER}/{name}" for name in (PLANNED_NAME, JOURNAL_NAME, LENT_NAME, WRITER)}
    working |= {name for name in files if name.startswith(f"{FOLDER}/{PARTS}/")}
    lock = f"{FOLDER}/{LOCK_NAME}"
    expected = names | {FOLDER, LABELS_NAME, RUN_PATH, MANIFEST_PATH, SEAL_PATH, lock}
    expected |= planned | working if unfinished else frozenset()
    faults = [f"{name}: is a link; its target may be unprotected" for name in links]
    left: list[str] = []
    for name in files:
        half_written = is_temporary(name)
        if name == lock and record_path(release, name).stat().st_size:
            faults.append(f"{name}: holds something, and should be empty")
        elif name in expected or (unfinished and half_written):
            continue
        elif half_written or name in working:
            left.append(f"{name}: left over from an interrupted run, remove it")
        else:
            faults.append(f"{name}: not in the manifest, it may be unprotected")
    return faults + left


def label_faults(release: Path, manifest: Manifest, labels: LabelTable | None, file_column: str | None) -> list[str]:
    """Differences of the release's label file from its manifest, and from the labels of the originals if given.

    Nothing is said of an unfinished release: its label file is written last. ``file_column`` is the header of the file
    column, if the run record of an older version does not say; None: by the usual names.
    """
    if not manifest.run.complete:
        return []
    options = released_options(manifest.run.file_column or file_column)
    try:
        found = read_label_file(release / LABELS_NAME, options, for_learning=False).table
    except InputError as error:
        return [str(error), *error.faults]
    columns = dict.fromkeys((*(() if labels is None else labels.tasks.names), *manifest.run.tasks))
    faults = [f"{LABELS_NAME}: column {name!r} is missing" for name in columns if name not in found.tasks]
    row_of = {name: row for row, name in enumerate(found.file_names)}
    given_row = {} if labels is None else {name: row for row, name in enumerate(labels.file_names)}
    names = {record.file_name for record in manifest.files}
    faults += [f"{LABELS_NAME}: no row for {name}" for name in sorted(names - row_of.keys())]
    faults += [f"{LABELS_NAME}: {name} is not in the manifest" for name in sorted(row_of.keys() - names)]
    for record in manifest.files:
        given: dict[str, str | None] = {}
        if labels is not None and record.source in given_row:
            row = given_row[record.source]
            given = {name: labels.class_name(name, row) for name in labels.tasks.names}
        if record.file_name in row_of:
            row = row_of[record.file_name]
            expected = {**record.labels, **given}
            saved = {name: found.class_name(name, row) for name in expected if name in found.tasks}
            faults += [
                f"{LABELS_NAME}: {record.file_name}, {name}: {value or 'empty'}, expected {expected[name] or 'empty'}"
                for name, value in saved.items()
                if value != expected[name] and not _is_map(record, value, expected[name])
            ]
        faults += [
            f"{record.source}: protected with {name} {was or 'empty'}, its label is {given[name] or 'empty'}"
            for name, was in record.labels.items()
            if name in given and given[name] != was
        ]
    return faults


def _is_map(record: FileRecord, cell: str | None, name: str | None) -> bool:
    """Whether a cell names the map ``name`` of an image, in another spelling of its path."""
    return cell is not None and name in record.maps and str(PurePosixPath(cell)) == name


def _unfinished(release: Path, manifest: Manifest, originals: Path | None) -> str:
    number = len(manifest.files) + len(manifest.quarantine)
    done = "1 image is" if number == 1 else f"{number} images are"
    return (
        f"the release is unfinished: its run was interrupted ({done} recorded); to finish it, run the "
        f"same command again: mtlue protect {originals or 'ORIGINALS'} --labels FILE --out {release}, with its other "
        "options"
    )


def _changed_records(release: Path, manifest: Manifest) -> list[str]:
    """Records that are not as the run left them; releases of older versions have no digests that would show it."""
    faults: list[str] = []
    for name, digest in manifest.run.digests.items():
        if (unsafe := path_fault(name, "release")) is not None:
            faults.append(f"{RUN_PATH}: among its digests, {unsafe}")
            continue
        try:
            if name == RUN_PATH:
                found = settings_digest(json.loads(read_regular(record_path(release, name))))
            else:
                found = file_digest(record_path(release, name))  # in parts, so of any size
            if found != digest:
                faults.append(f"{name}: its bytes are not those that the run wrote")
        except OSError as error:
            faults.append(f"{name}: cannot be read: {error.strerror or error}")
        except (ValueError, RecursionError) as error:
            faults.append(f"{name}: is damaged: {error}")
    return faults


def _too_little(name: str, mean: float, epsilon: int) -> str:
    least = least_mean_change(epsilon)
    return f"{name}: changed by {mean:.2f}/255 on average, at least {least:.2f} is needed: protect it again"


def _described(pixels: np.ndarray[tuple[int, ...], np.dtype[np.generic]]) -> str:
    colour = "grey" if pixels.ndim == 2 else "colour"
    return f"{pixels.shape[1]} x {pixels.shape[0]} pixels of {pixels.dtype.itemsize * 8}-bit {colour}"


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
