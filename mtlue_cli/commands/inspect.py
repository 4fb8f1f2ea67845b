"""``mtlue inspect``: what a checkpoint or a release is, and whether it is intact."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from mtlue_cli.budget import Budget
from mtlue_cli.commands.console import grouped, table_of
from mtlue_cli.commands.decoders import reading_photos
from mtlue_cli.commands.from_config import Given, command_of
from mtlue_cli.options import INPUT, Option, SealKeyFile, SignerFile, Workers, usable_threads


@dataclass(frozen=True)
class InspectOptions:
    """What to look at: a checkpoint, or a release and perhaps its originals.

    Attributes:
        path: A .safetensors file, the name of shipped weights, or a folder made by protect, which may be a URL.
        against: Folder of the originals. Measures every released file against its original.
    """

    path: Annotated[Path, Option(argument=True, metavar="CHECKPOINT|RELEASE", url="read")]
    against: Annotated[Path | None, Option(panel=INPUT, metavar="ORIGINALS", url="read")] = None
    key: SealKeyFile = None
    signer: SignerFile = None
    workers: Workers = field(default_factory=usable_threads)


@command_of("inspect", InspectOptions, Budget)
def inspect(given: Given) -> None:
    """Describe a checkpoint or a release, and check its files against their recorded hashes.

    Anyone who can edit a file can edit its hash too: --key or --signer checks who wrote the records.
    Exit code 4: files of the release are missing, changed or not recorded, or its seal does not match.

    [bold]Example:[/bold] mtlue inspect photos-protected --against photos
    """
    from mtlue_cli.release.seal import trust_of
    from mtlue_cli.workflows.inspect import CheckpointReport, inspect_path

    terminal, options = given.terminal, given.build(InspectOptions)
    with reading_photos():
        report = inspect_path(
            options.path,
            terminal.progress,
            against=options.against,
            workers=options.workers,
            trust=trust_of(options.key, options.signer),
        )
    rows = report.rows()
    if isinstance(report, CheckpointReport):
        terminal.show(table_of(rows))
    else:
        terminal.show(table_of(rows | {"mean SSIM": rows["mean SSIM"] or "give --against to measure it"}))
        for line in grouped([f"{record.source}: {record.reason}" for record in report.quarantine], "--json lists all"):
            terminal.say(f"in quarantine: {line}")
        for line in grouped(report.faults, "--json lists all"):
            terminal.say(f"fault: {line}")
    given.finish(report)
