"""``mtlue protect``: a protected copy of a folder of labelled images."""

from typing import TYPE_CHECKING

import typer

from mtlue_cli.choices import ExitCode
from mtlue_cli.commands.console import MOST_EXAMPLES, duration, grouped
from mtlue_cli.commands.decoders import reading_photos
from mtlue_cli.commands.from_config import Given, command_of
from mtlue_cli.workflows.protect.config import ProtectConfig

if TYPE_CHECKING:
    from rich.table import Table

    from mtlue_cli.workflows.protect.run import ProtectResult


@command_of("protect", ProtectConfig)
def protect(given: Given) -> None:
    """Write a protected copy of every labelled image, and labels.csv with it.

    Without --weights it first trains a generator on these images, or finds the one that an earlier run trained.
    The generator is kept in your data folder, readable by you alone. Keep a copy to add images later.

    Originals are never changed. Run the command again to continue an interrupted run or to add images.
    Exit code 3: done, but some images could not be protected. They are listed and not in the release.

    [bold]Example:[/bold] mtlue protect photos --labels photos/labels.csv
    """
    config = given.build(ProtectConfig, labels=given.labels(given.values["images"]))
    config.reading.refuse_lone_split()

    from mtlue_cli.workflows.protect.plan import named_weights, read_inputs

    with reading_photos(config.max_pixels):  # what may be wrong is looked at before torch is loaded
        inputs = read_inputs(config)
    if config.weights is not None:
        named_weights(config, inputs, config.weights)

    from mtlue_cli.workflows.protect.run import protect_folder

    with reading_photos(config.max_pixels):
        result = protect_folder(config, given.terminal.progress, inputs)
    given.terminal.show(summary(result))
    for line in remarks(result):
        given.terminal.say(line)
    given.terminal.write_json(result.to_json())
    if result.exit_code != ExitCode.SUCCESS:
        raise typer.Exit(result.exit_code)


def summary(result: "ProtectResult") -> "Table":
    """The result as a table of names and values."""
    from rich.table import Table
    from rich.text import Text

    from mtlue_cli.metrics.flip import MeanFlip

    table = Table(show_header=False, box=None, pad_edge=False)
    rows = {
        "release": str(result.release),
        "images": f"{result.protected} protected, {result.kept} already done, {len(result.quarantine)} in quarantine",
        "masks and maps": _maps(result),
        "tasks": ", ".join(result.tasks),
        "not protected": ", ".join(result.unprotected_tasks),
        "largest change": ""
        if result.max_change is None
        else f"{result.max_change:g}/255 (bound {result.epsilon}/255)",
        "change per file": ""
        if result.mean_change is None
        else "smallest {:.1f}, median {:.1f}, largest {:.1f} levels".format(*result.mean_change),
        "mean PSNR": "" if result.mean_psnr is None else f"{result.mean_psnr:.2f} dB",
        "FLIP": "" if result.flip is None else MeanFlip(result.flip, result.flip_files).described(),
        "weights": result.weights,
        "key": result.key_fingerprint or "",
        "time": f"{duration(result.seconds)} on {result.device}",
    }
    for name, value in rows.items():
        if value:
            table.add_row(name, Text(value))
    return table


def _maps(result: "ProtectResult") -> str:
    if not result.turned_maps:
        return f"{result.maps} copied as they are" if result.maps else ""
    others = "" if result.turned_maps == result.maps else f", {result.maps - result.turned_maps} copied as they are"
    return f"{result.turned_maps} turned upright with their photos (EXIF){others}"


def remarks(result: "ProtectResult") -> list[str]:
    """What a user should know beside the figures, one per line."""
    lines = [f"warning: {warning}" for warning in result.warnings]
    if result.compressed:
        lines.append(
            f"{result.compressed} JPEG or AVIF files were compressed again: the bound holds before compression; "
            "the manifest lists the measured change of each"
        )
    if result.unlabelled:
        lines.append(f"{len(result.unlabelled)} images have no row in the labels and are not in the release:")
        lines += [f"  {name}" for name in result.unlabelled[:MOST_EXAMPLES]]
        more = len(result.unlabelled) - MOST_EXAMPLES
        lines += [f"  ... and {more} more"] if more > 0 else []
    if result.quarantine:
        lines.append(f"{len(result.quarantine)} images could not be protected and are not in the release:")
        reasons = [f"{record.source}: {record.reason}" for record in result.quarantine]
        lines += [f"  {line}" for line in grouped(reasons, "--json lists all")]
        lines += [f"to protect more of them: {fix}" for fix in result.fixes]
    return lines
