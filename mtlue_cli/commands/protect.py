"""``mtlue protect``: a protected copy of a folder of labelled images."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from mtlue_cli.budget import Budget
from mtlue_cli.commands.console import MOST_EXAMPLES, duration, grouped, table_of
from mtlue_cli.commands.decoders import reading_photos
from mtlue_cli.commands.from_config import Given, command_of
from mtlue_cli.errors import InputError
from mtlue_cli.files import remote_of
from mtlue_cli.options import OUTPUT, Option
from mtlue_cli.tasks.wording import counted
from mtlue_cli.workflows.protect.config import ProtectConfig

if TYPE_CHECKING:
    from rich.table import Table

    from mtlue_cli.workflows.protect.dry_run import ProtectDryRun
    from mtlue_cli.workflows.protect.plan import ProtectInputs
    from mtlue_cli.workflows.protect.run import ProtectResult


@dataclass(frozen=True)
class LookOptions:
    """Looking before a release is made.

    Attributes:
        dry_run: Print the columns, the weights and the size of the release, then exit. Writes nothing.
        preview: Draw N photos before and after as DIR-preview.png beside the release folder, then exit.
    """

    dry_run: Annotated[bool, Option(panel=OUTPUT)] = False
    preview: Annotated[int | None, Option(panel=OUTPUT, metavar="N", minimum=1, maximum=64)] = None


@command_of("protect", ProtectConfig, LookOptions, Budget)
def protect(given: Given) -> None:
    """Write a protected copy of every labelled image, and labels.csv with it.

    Without --weights it first trains a generator on these images, or finds the one that an earlier run trained. The
    generator is kept in your data folder, readable by you alone. Keep a copy: you need it to add images later.

    Originals are never changed. Run the command again to continue an interrupted run or to add images.

    Exit code 3: finished, but some images could not be protected. They are listed and are not in the release.

    [bold]Example:[/bold] mtlue protect photos --labels photos/labels.csv
    """
    config = given.build(ProtectConfig, labels=given.labels(given.values["images"]))
    config.reading.refuse_lone_split()
    look = given.build(LookOptions)
    if look.dry_run and look.preview is not None:
        raise InputError("--dry-run and --preview cannot be used together", hint="give one of them")
    if look.preview is not None and remote_of(config.release) is not None:
        raise InputError("--preview draws beside the release, and --out is a URL", hint="give a folder with --out")
    result = _protected(config, given, look)
    if result is None:
        return
    time = f"{duration(result.seconds)} on {result.device}"
    given.terminal.show(table_of(result.rows() | {"time": time}))
    for line in remarks(result):
        given.terminal.say(line)
    given.finish(result)


def _protected(config: ProtectConfig, given: Given, look: LookOptions) -> "ProtectResult | None":
    """What came out; None where the user only looks ahead."""
    from mtlue_cli.workflows.shards import shards_of

    shards = shards_of(config.images, config.labels, config.reading)
    if shards is not None:
        from mtlue_cli.workflows.protect.packed import protect_shards

        if look.dry_run or look.preview is not None:
            raise InputError("--dry-run and --preview do not look into shards", hint="leave them out")
        with reading_photos():
            return protect_shards(config, shards, given.terminal.progress)

    from mtlue_cli.workflows.protect.plan import named_weights, read_inputs

    with reading_photos():  # what may be wrong is looked at before torch is loaded
        inputs = read_inputs(config)
    if config.weights is not None:
        named_weights(config, inputs, config.weights)

    if look.dry_run or look.preview is not None:
        look_ahead(given, config, look, inputs)
        return None

    from mtlue_cli.workflows.protect.run import protect_folder

    with reading_photos():
        return protect_folder(config, given.terminal.progress, inputs)


def look_ahead(given: Given, config: ProtectConfig, look: LookOptions, inputs: "ProtectInputs") -> None:
    """Show what a run would do, or draw a preview of it."""
    from mtlue_cli.workflows.protect.dry_run import draw_preview, dry_run

    terminal = given.terminal
    with reading_photos():
        if look.preview is not None:
            preview = draw_preview(config, look.preview, terminal.progress, inputs)
            terminal.show(f"preview of {len(preview.files)} photos with the weights {preview.weights}: {preview.path}")
            terminal.write_json(preview.to_json())
            return
        planned = dry_run(config, terminal.progress, inputs)
    terminal.show(dry_run_summary(planned))
    for warning in planned.warnings:
        terminal.say(f"warning: {warning}")
    terminal.write_json(planned.to_json())


def dry_run_summary(planned: "ProtectDryRun") -> "Table":
    """What a run would do, as a table of names and values."""
    from rich.filesize import decimal

    left_out = [f"{len(planned.unlabelled)} without a row"] if planned.unlabelled else []
    left_out += [f"{planned.without_label} without a label"] if planned.without_label else []
    training = "" if planned.minutes is None else f", in up to {planned.minutes:g} minutes"
    return table_of(
        {
            "release": f"{planned.release} (dry run: nothing was written)",
            "images": f"{planned.images}, {planned.kept} of them already done",
            "left out": ", ".join(left_out),
            "tasks": ", ".join(column.name for column in planned.columns if column.used),
            "not protected": ", ".join(column.name for column in planned.columns if not column.used),
            "epsilon": f"{planned.epsilon}/255",
            "weights": planned.weights + training,
            "key": planned.key or "",
            "sealed with": "" if planned.key else planned.seal or "nothing",
            "signed by": planned.signer or "",
            "size": f"about {decimal(planned.size)}",
        }
    )


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
        lines.append(f"{number} could not be protected, not in the release:")
        reasons = [f"{record.source}: {record.reason}" for record in result.quarantine]
        lines += [f"  {line}" for line in grouped(reasons, "--json lists all")]
        lines += [f"to protect more of them: {fix}" for fix in result.fixes]
    return lines
