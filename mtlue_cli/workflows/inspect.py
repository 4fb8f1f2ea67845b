"""Look at a checkpoint or a release: what it is, and whether it is intact."""

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mtlue_cli.choices import ExitCode
from mtlue_cli.errors import InputError
from mtlue_cli.generator.checkpoint import CheckpointCard, load_checkpoint
from mtlue_cli.generator.shipped import shipped_weights
from mtlue_cli.layouts.shards import find_shards
from mtlue_cli.notebook import html_table
from mtlue_cli.release.check import ReleaseCheck
from mtlue_cli.release.packed import is_packed, unpack
from mtlue_cli.release.release import Release
from mtlue_cli.release.seal import Authentication, Trust
from mtlue_cli.workflows.progress import Progress
from mtlue_cli.workflows.protect.flip import release_flip

SCHEMA_VERSION = 1

LISTED = 20
"""Classes of a task that are listed."""


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

    def rows(self) -> dict[str, str]:
        """What it is, by name, in words; empty where there is nothing to say."""
        card = self.card
        rows = {
            "checkpoint": str(self.path),
            "epsilon": f"{card.epsilon}/255",
            "objective": card.objective,
            "size": f"{card.image_size} pixels",
            "parameters": f"{self.parameters:,} ({self.file_size / 1e6:.1f} MB)",
            "digest": card.digest,
            "licence": card.licence,
            "made": f"{card.created} by {', '.join(f'{name} {version}' for name, version in card.versions.items())}",
            "trained on": "nothing" if card.objective == "none" else card.data_digest,
            "tasks": "any: the perturbation depends on a key" if card.universal else "",
            "kept useful": ", ".join(card.kept),
        }
        for task in card.tasks:
            shown = ", ".join(task.classes[:LISTED]) + (", ..." if task.num_classes > LISTED else "")
            classes = f", {task.num_classes} classes: {shown}" if task.classes else ""
            rows[f"task {task.name}"] = task.kind.value + classes
        return rows

    def _repr_html_(self) -> str:
        return html_table("Checkpoint", self.rows())


def inspect_path(
    path: Path,
    progress: Progress,
    *,
    against: Path | None = None,
    workers: int = 2,
    trust: Trust = Trust(),  # noqa: B008 - frozen
) -> CheckpointReport | ReleaseCheck:
    """Look at a checkpoint (a file, or the name of shipped weights) or a release (a folder).

    Every file of a release is measured again if ``against`` is the folder of the originals. ``trust`` says whose seal
    it must have.

    Raises:
        InputError: ``path`` is neither, or the checkpoint is damaged.
    """
    if not path.exists():
        path = shipped_weights().get(str(path), path)
    if path.is_dir():
        if against is not None and not against.is_dir():
            raise InputError(f"--against: {against} is not a folder")
        return inspect_release(path, progress, against, workers, trust)
    if not path.exists():
        raise InputError(f"{path} does not exist", hint="give a .safetensors file or a folder made by mtlue protect")
    if against is not None:
        raise InputError("--against needs a release, not a checkpoint")
    if trust.demands:
        raise InputError("--key and --signer need a release, not a checkpoint")
    loaded = load_checkpoint(path)  # which checks the weights against their digest
    parameters = sum(parameter.numel() for parameter in loaded.generator.parameters())
    return CheckpointReport(path, loaded.card, parameters, path.stat().st_size)


def inspect_release(
    release: Path,
    progress: Progress,
    originals: Path | None,
    workers: int,
    trust: Trust = Trust(),  # noqa: B008 - frozen
) -> ReleaseCheck:
    """Read every file of a release again.

    Raises:
        InputError: ``release`` is none, or its manifest is damaged.
    """
    if is_packed(release):
        with tempfile.TemporaryDirectory(prefix="mtlue-") as folder:
            return _inspect_shards(release, Path(folder), progress, originals, workers, trust)
    try:
        check = Release(release).check(
            originals,
            with_ssim=True,
            workers=workers,
            on_start=lambda files: progress.start("inspecting", files),
            on_file=progress.advance,
            trust=trust,
        )
    finally:
        progress.finish()
    if originals is None:
        return check
    sources = {record.file_name: record.source for record in check.manifest.files}
    return replace(check, flip=release_flip(originals, release, sources, progress))


def _inspect_shards(
    release: Path, work: Path, progress: Progress, originals: Path | None, workers: int, trust: Trust
) -> ReleaseCheck:
    """Look at a release in shards by the plain release that it was made of, unpacked in ``work``."""
    faults = unpack(release, work / "release")
    unpacked: Path | None = None
    if originals is not None:
        shards = find_shards(originals)
        if shards is None:
            raise InputError(f"--against: {originals} holds no shards with images")
        unpacked = work / "originals"
        shards.unpack(unpacked, work / "labels.jsonl")
    check = inspect_release(work / "release", progress, unpacked, workers, trust)
    authentication = Authentication(tuple(faults)) if faults else check.authentication
    return replace(check, path=release, faults=(*faults, *check.faults), authentication=authentication)
