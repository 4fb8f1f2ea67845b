"""``mtlue protect``: a protected copy of a folder of labelled images."""

from typing import TYPE_CHECKING

import typer

from mtlue_cli.choices import ExitCode
from mtlue_cli.commands.console import MOST_EXAMPLES, duration, grouped, table_of
from mtlue_cli.commands.decoders import reading_photos
from mtlue_cli.commands.from_config import Given, command_of
from mtlue_cli.tasks.wording import counted
from mtlue_cli.workflows.protect.config import ProtectConfig

if TYPE_CHECKING:
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
    time = f"{duration(result.seconds)} on {result.device}"
    given.terminal.show(table_of(result.rows() | {"time": time}))
    for line in remarks(result):
        given.terminal.say(line)
    given.terminal.write_json(result.to_json())
    if result.exit_code != ExitCode.SUCCESS:
        raise typer.Exit(result.exit_code)


def remarks(result: "ProtectResult") -> list[str]:
    """What a user should know beside the figures, one per line."""
    lines = [f"warning: {warning}" for warning in result.warnings]
    if result.compressed:
        lines.append(
            f"{result.compressed} JPEG or AVIF files were compressed again: the bound holds before compression; "
            "the manifest lists the measured change of each"
        )
    if result.unlabelled:
        number = counted(len(result.unlabelled), "image")
        lines.append(f"{number} without a row in the labels, not in the release:")
        lines += [f"  {name}" for name in result.unlabelled[:MOST_EXAMPLES]]
        more = len(result.unlabelled) - MOST_EXAMPLES
        lines += [f"  ... and {more} more"] if more > 0 else []
    if result.quarantine:
        number = counted(len(result.quarantine), "image")
        lines.append(f"{number} could not be protected, so not in the release:")
        reasons = [f"{record.source}: {record.reason}" for record in result.quarantine]
        lines += [f"  {line}" for line in grouped(reasons, "--json lists all")]
        lines += [f"to protect more of them: {fix}" for fix in result.fixes]
    return lines
