"""``mtlue inspect``: what a checkpoint or a release is, and whether it is whole."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mtlue_cli.choices import ExitCode
from mtlue_cli.commands.console import grouped
from mtlue_cli.commands.decoders import reading_photos
from mtlue_cli.commands.from_config import Given, PhotoOptions, command_of
from mtlue_cli.options import INPUT, Option, Workers, usable_threads

if TYPE_CHECKING:
    from rich.table import Table

    from mtlue_cli.release.check import ReleaseCheck
    from mtlue_cli.workflows.inspect import CheckpointReport

LISTED = 20
"""Classes of a task that are listed."""


@dataclass(frozen=True)
class InspectOptions:
    """What to look at: a checkpoint, or a release and perhaps its originals.

    Attributes:
        path: A .safetensors file, the name of shipped weights, or a folder made by protect.
        against: Folder of the originals: measure every released file against its own.
    """

    path: Annotated[Path, Option(flags="", metavar="CHECKPOINT|RELEASE")]
    against: Annotated[Path | None, Option(panel=INPUT, metavar="ORIGINALS")] = None
    workers: Workers = field(default_factory=usable_threads)


@command_of("inspect", InspectOptions, PhotoOptions)
def inspect(given: Given) -> None:
    """Show what a checkpoint or a release is, and check that every byte is as recorded.

    Exit code 4: the release is not whole.

    [bold]Example:[/bold] mtlue inspect photos-protected --against photos
    """
    from mtlue_cli.workflows.inspect import CheckpointReport, inspect_path

    terminal, options = given.terminal, given.build(InspectOptions)
    with reading_photos(given.build(PhotoOptions).max_pixels):
        report = inspect_path(options.path, terminal.progress, against=options.against, workers=options.workers)
    if isinstance(report, CheckpointReport):
        terminal.show(checkpoint_table(report))
    else:
        terminal.show(release_table(report))
        for line in grouped([f"{record.source}: {record.reason}" for record in report.quarantine], "--json lists all"):
            terminal.say(f"in quarantine: {line}")
        for line in grouped(report.faults, "--json lists all"):
            terminal.say(f"fault: {line}")
    terminal.write_json(report.to_json())
    if report.exit_code != ExitCode.SUCCESS:
        raise typer.Exit(report.exit_code)


def checkpoint_table(report: "CheckpointReport") -> "Table":
    """A checkpoint as a table of names and values."""
    card = report.card
    rows = {
        "checkpoint": str(report.path),
        "epsilon": f"{card.epsilon}/255",
        "objective": card.objective,
        "size": f"{card.image_size} pixels",
        "parameters": f"{report.parameters:,} ({report.file_size / 1e6:.1f} MB)",
        "digest": card.digest,
        "licence": card.licence,
        "made": f"{card.created} by {', '.join(f'{name} {version}' for name, version in card.versions.items())}",
        "trained on": card.data_digest,
    }
    if card.universal:
        rows["tasks"] = "any: what it adds depends on a key"
    for task in card.tasks:
        shown = ", ".join(task.classes[:LISTED]) + (", ..." if task.num_classes > LISTED else "")
        rows[f"task {task.name}"] = task.kind.value + (f", {task.num_classes} classes: {shown}" if task.classes else "")
    return _table(rows)


def release_table(report: "ReleaseCheck") -> "Table":
    """A release as a table of names and values."""
    run = report.run
    how = f"measured on {report.measured} files" if report.measured else "as recorded"
    whole = "yes" if not report.faults else f"no, {len(report.faults)} faults"
    rows = {
        "release": str(report.path),
        "whole": whole,
        "files": f"{report.files}, {len(report.quarantine)} in quarantine",
        "masks and maps": str(report.maps),
        "tasks": ", ".join(run.tasks),
        "weights": f"{run.weights_name} ({run.weights_sha256[:16]})",
        "key": run.key_fingerprint or "none",
        "codes": f"version {run.code_version}, patterns of {run.code_cells} x {run.code_cells} cells",
        "format": run.image_format,
    }
    if not report.maps:
        del rows["masks and maps"]
    if not run.code_version:
        del rows["codes"]
    if report.max_change is not None:
        rows["largest change"] = f"{report.max_change:g}/255, bound {run.epsilon}/255 ({how})"
    if report.over_bound:
        rows["over the bound"] = f"{report.over_bound} files, by their compression alone"
    if report.mean_psnr is not None:
        rows["mean PSNR"] = f"{report.mean_psnr:.2f} dB"
    if report.flip is not None:
        rows["FLIP"] = report.flip.described("measured, mean" if report.measured else "as recorded, mean")
    rows["mean SSIM"] = "give --against to measure it" if report.mean_ssim is None else f"{report.mean_ssim:.4f}"
    return _table(rows)


def _table(rows: dict[str, str]) -> "Table":
    from rich.table import Table
    from rich.text import Text

    table = Table(show_header=False, box=None, pad_edge=False)
    for name, value in rows.items():
        table.add_row(Text(name), Text(value))
    return table
