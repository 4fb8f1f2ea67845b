"""Look at a checkpoint or a release: what it is, and whether it is whole."""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mtlue_cli.choices import ExitCode, ImageFormat
from mtlue_cli.errors import ImageError, InputError
from mtlue_cli.files import TEMPORARY, file_digest
from mtlue_cli.generator.checkpoint import CheckpointCard, load_checkpoint
from mtlue_cli.generator.shipped import shipped_weights
from mtlue_cli.images.decode import decode_image
from mtlue_cli.images.encode import comparable_pixels, is_lossless, same_alpha
from mtlue_cli.images.folder import find_images, find_links
from mtlue_cli.manifest import LABELS_NAME, FileRecord, Manifest, QuarantineRecord, RunRecord, read_manifest
from mtlue_cli.metrics.flip import MeanFlip
from mtlue_cli.metrics.image_quality import psnr, ssim
from mtlue_cli.perturbation.effect import measure_change
from mtlue_cli.tasks.labels import read_label_file, released_options
from mtlue_cli.tasks.paths import path_fault
from mtlue_cli.verification.measured_change import change_faults, record_faults
from mtlue_cli.verification.released_maps import map_faults
from mtlue_cli.workflows.progress import Progress
from mtlue_cli.workflows.release_flip import release_flip

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class CheckpointReport:
    """A checkpoint that loads: its card, its number of parameters and its size in bytes."""

    path: Path
    card: CheckpointCard
    parameters: int
    file_size: int

    @property
    def exit_code(self) -> ExitCode:
        """Always success: a damaged checkpoint raises instead."""
        return ExitCode.SUCCESS

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready document."""
        return {
            "schema_version": SCHEMA_VERSION,
            "command": "inspect",
            "kind": "checkpoint",
            "path": str(self.path),
            "parameters": self.parameters,
            "file_bytes": self.file_size,
            "card": self.card.to_json(),
        }


@dataclass(frozen=True)
class ReleaseReport:
    """A release, every file read.

    Attributes:
        path: Its folder.
        run: The settings it was made with.
        files: Number of released images in the manifest.
        maps: Number of the masks and maps that go with them.
        quarantine: Originals that are not in it.
        faults: Everything that makes it less than whole, a line each.
        over_bound: Files compressed with loss whose change exceeds epsilon; no fault, the bound holds before.
        max_change: Largest change in 255ths, measured with originals, else as recorded; None without files.
        mean_psnr: Mean PSNR in dB, measured or as recorded; None without files.
        mean_ssim: Mean SSIM; None unless measured.
        measured: Number of files that were measured against their originals.
        flip: Mean FLIP over a sample of the files, measured with originals, else as recorded; None without either.
    """

    path: Path
    run: RunRecord
    files: int
    maps: int
    quarantine: tuple[QuarantineRecord, ...]
    faults: tuple[str, ...]
    over_bound: int
    max_change: float | None
    mean_psnr: float | None
    mean_ssim: float | None
    measured: int
    flip: MeanFlip | None

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
            "epsilon": self.run.epsilon,
            "tasks": list(self.run.tasks),
            "weights": {"name": self.run.weights_name, "sha256": self.run.weights_sha256},
            "key_fingerprint": self.run.key_fingerprint,
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


@dataclass(frozen=True)
class _FileReport:
    faults: tuple[str, ...] = ()
    change: float | None = None
    psnr: float | None = None
    ssim: float | None = None
    measured: bool = False
    over_bound: bool = False


def inspect_path(
    path: Path, progress: Progress, *, against: Path | None = None, workers: int = 2
) -> CheckpointReport | ReleaseReport:
    """Look at a checkpoint (a file, or the name of shipped weights) or a release (a folder).

    Args:
        path: What to look at; the name of shipped weights where nothing is called so.
        progress: Told of every file.
        against: Folder of the originals, to measure every released file again.
        workers: Threads.

    Raises:
        InputError: ``path`` is neither, or the checkpoint is damaged.
    """
    if not path.exists():
        path = shipped_weights().get(str(path), path)
    if path.is_dir():
        if against is not None and not against.is_dir():
            raise InputError(f"--against: {against} is no folder")
        return inspect_release(path, progress, against, workers)
    if not path.exists():
        raise InputError(f"{path} does not exist", hint="give a .safetensors file or a folder made by mtlue protect")
    if against is not None:
        raise InputError("--against goes with a release, not with a checkpoint")
    return inspect_checkpoint(path)


def inspect_checkpoint(path: Path) -> CheckpointReport:
    """Load a checkpoint, which checks its weights against its digest."""
    loaded = load_checkpoint(path)
    parameters = sum(parameter.numel() for parameter in loaded.generator.parameters())
    return CheckpointReport(path, loaded.card, parameters, path.stat().st_size)


def inspect_release(release: Path, progress: Progress, originals: Path | None, workers: int) -> ReleaseReport:
    """Read every file of a release again.

    Raises:
        InputError: ``release`` is none, or its manifest is damaged.
    """
    manifest = read_manifest(release)
    run = manifest.run

    def look(record: FileRecord) -> _FileReport:
        return _look_at_file(release, record, run, originals)

    progress.start("inspecting", len(manifest.files))
    reports: list[_FileReport] = []
    try:
        with ThreadPoolExecutor(max_workers=max(1, workers)) as pool:
            for report in pool.map(look, manifest.files):
                reports.append(report)
                progress.advance()
    finally:
        progress.finish()
    flip = MeanFlip.from_json(run.flip)
    if originals is not None:
        flip = release_flip(
            originals, release, {record.file_name: record.source for record in manifest.files}, progress
        )
    faults = [fault for report in reports for fault in report.faults]
    return ReleaseReport(
        path=release,
        run=run,
        files=len(manifest.files),
        maps=len({name for record in manifest.files for name in record.maps}),
        quarantine=manifest.quarantine,
        faults=(*_folder_faults(release, manifest), *faults),
        over_bound=sum(report.over_bound for report in reports),
        max_change=max((report.change for report in reports if report.change is not None), default=None),
        mean_psnr=_mean(report.psnr for report in reports),
        mean_ssim=_mean(report.ssim for report in reports),
        measured=sum(report.measured for report in reports),
        flip=flip,
    )


def _look_at_file(release: Path, record: FileRecord, run: RunRecord, originals: Path | None) -> _FileReport:
    unsafe = path_fault(record.file_name) or path_fault(record.source)
    if unsafe is not None:
        return _FileReport((f"in the manifest, {unsafe}",))
    path = release / record.file_name
    if not path.is_file():
        return _FileReport((f"{record.file_name}: missing",))
    faults = [*record_faults(record, run.epsilon), *map_faults(release, record)]
    try:
        if file_digest(path) != record.sha256:
            faults.append(f"{record.file_name}: its bytes are not those of the manifest")
    except OSError as error:
        return _FileReport((f"{record.file_name}: cannot be read: {error.strerror or error}",))
    if originals is None:
        lossy = run.image_format == ImageFormat.KEEP
        over = record.max_change > run.epsilon
        if over and not lossy:
            faults.append(f"{record.file_name}: changed by {record.max_change:g}/255, the bound is {run.epsilon}/255")
        return _FileReport(tuple(faults), record.max_change, record.psnr, over_bound=over and lossy)
    return _measure_file(path, originals / record.source, record, run, faults)


def _measure_file(path: Path, original: Path, record: FileRecord, run: RunRecord, faults: list[str]) -> _FileReport:
    try:
        if file_digest(original) != record.source_sha256:
            faults.append(f"{record.source}: the original is not the one that was protected")
        before, after = decode_image(original), decode_image(path)
        pixels = comparable_pixels(before.pixels, after.pixels)
        change = measure_change(pixels, after.pixels)
        if not same_alpha(before.alpha, after.alpha):
            faults.append(f"{record.file_name}: its alpha is not the original's")
    except OSError as error:
        return _FileReport((*faults, f"{record.source}: the original cannot be read: {error.strerror or error}"))
    except (ImageError, ValueError) as error:
        return _FileReport((*faults, f"{record.file_name}: cannot be measured: {error}"))
    faults += [fault for fault in change_faults(record, change, run.epsilon) if fault not in faults]
    over = change.largest > run.epsilon
    lossy = not is_lossless(ImageFormat(run.image_format), before.format)
    if over and not lossy:
        faults.append(f"{record.file_name}: changed by {change.largest:g}/255, the bound is {run.epsilon}/255")
    return _FileReport(
        tuple(faults),
        change.largest,
        psnr(pixels, after.pixels),
        ssim(pixels, after.pixels),
        measured=True,
        over_bound=over and lossy,
    )


def _folder_faults(release: Path, manifest: Manifest) -> list[str]:
    """What is wrong with the release as a whole."""
    run = manifest.run
    faults = [] if run.complete else ["the run did not reach its end: run the same protect command again"]
    names = {record.file_name for record in manifest.files}
    faults += _changed_records(release, run)
    faults += [f"{name}: is a link, what is behind it may be unprotected" for name in find_links(release)]
    faults += [
        f"{left.relative_to(release).as_posix()}: left half written by a killed run, remove it"
        for left in sorted(release.rglob(".*.tmp"))
        if TEMPORARY.match(left.name)
    ]
    faults += [
        f"{name}: not in the manifest, it may be unprotected"
        for name in find_images(release)
        if name not in manifest.names
    ]
    try:
        listed = set(_released_rows(release, run.file_column))
    except InputError as error:
        return [*faults, str(error), *error.faults]
    if listed != names:
        faults += [f"{LABELS_NAME}: no row for {name}" for name in sorted(names - listed)]
        faults += [f"{LABELS_NAME}: {name} is not in the manifest" for name in sorted(listed - names)]
    return faults


def _changed_records(release: Path, run: RunRecord) -> list[str]:
    """Records that are not as the run left them; none can be told of releases that noted no digests."""
    faults: list[str] = []
    for name, digest in run.digests.items():
        try:
            if file_digest(release / name) != digest:
                faults.append(f"{name}: its bytes are not those that the run wrote")
        except OSError as error:
            faults.append(f"{name}: cannot be read: {error.strerror or error}")
    return faults


def _released_rows(release: Path, file_column: str | None) -> tuple[str, ...]:
    return read_label_file(release / LABELS_NAME, released_options(file_column), for_learning=False).table.file_names


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
