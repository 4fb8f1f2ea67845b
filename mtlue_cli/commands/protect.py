"""``mtlue protect``: a protected copy of a folder of labelled images."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mtlue_cli.choices import FEWEST_IMAGES, MAX_PIXELS, TRAIN_MINUTES, ExitCode, ImageFormat, SplitPart, Unlabelled
from mtlue_cli.commands.console import Terminal, duration
from mtlue_cli.commands.label_options import (
    BinsOption,
    FileColumnOption,
    KindsOption,
    LabelFormatOption,
    LabelsOption,
    MissingValuesOption,
    SplitFileOption,
    SplitOption,
    label_options,
)
from mtlue_cli.commands.options import (
    INPUT,
    OUTPUT,
    PROTECTION,
    AutoBatchSizeOption,
    DeviceOption,
    ExceptOption,
    ImagesArgument,
    JsonOption,
    KeyOption,
    MaxPixelsOption,
    OptionalEpsilonOption,
    OverwriteOption,
    QuietOption,
    TasksOption,
    WeightsOption,
    WorkersOption,
    listed_names,
    threads,
    variable,
)
from mtlue_cli.errors import InputError

if TYPE_CHECKING:
    from rich.table import Table

    from mtlue_cli.workflows.protect import ProtectResult

LISTED = 20
"""Names that a summary lists before it counts the rest."""


def protect(
    images: ImagesArgument,
    labels: LabelsOption = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            metavar="DIR",
            help="Folder of the release. Unset: beside IMAGES, with -protected after its name.",
            envvar=variable("--out", "protect"),
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    weights: WeightsOption = None,
    train: Annotated[
        float | None,
        typer.Option(
            "--train",
            metavar="MINUTES",
            help=f"Most time for training weights on these images. Unset: {TRAIN_MINUTES:g}; with fewer than "
            f"{FEWEST_IMAGES} labelled images no training. Weights that an earlier run trained for this folder are "
            "used again; --train with --overwrite trains new ones.",
            envvar=variable("--train", "protect"),
            rich_help_panel=PROTECTION,
        ),
    ] = None,
    quick: Annotated[
        bool,
        typer.Option(
            "--quick",
            help="Skip training and take ready-made patterns. They stop plain training only: turning the images grey "
            "undoes them.",
            envvar=variable("--quick", "protect"),
            rich_help_panel=PROTECTION,
        ),
    ] = False,
    key: KeyOption = None,
    epsilon: OptionalEpsilonOption = None,
    tasks: TasksOption = None,
    exclude: ExceptOption = None,
    image_format: Annotated[
        ImageFormat,
        typer.Option(
            "--format",
            help="png and webp are lossless: the bound holds for every pixel. keep: JPEG stays JPEG, and so on.",
            envvar=variable("--format", "protect"),
            rich_help_panel=OUTPUT,
        ),
    ] = ImageFormat.PNG,
    keep_metadata: Annotated[
        bool,
        typer.Option(
            "--keep-metadata",
            help="Keep EXIF data (place and time among them), XMP and text; previews are dropped all the same.",
            envvar=variable("--keep-metadata", "protect"),
            rich_help_panel=OUTPUT,
        ),
    ] = False,
    overwrite: OverwriteOption = False,
    force: Annotated[
        bool,
        typer.Option(
            "--force",
            help="Protect again what a manifest says is protected already; the changes then add up, beyond the bound.",
            envvar=variable("--force", "protect"),
            rich_help_panel=INPUT,
        ),
    ] = False,
    label_format: LabelFormatOption = None,
    file_column: FileColumnOption = None,
    missing_value: MissingValuesOption = None,
    bins: BinsOption = None,
    kinds: KindsOption = None,
    split_file: SplitFileOption = None,
    split: SplitOption = SplitPart.TRAIN,
    unlabelled: Annotated[
        Unlabelled,
        typer.Option(
            "--unlabelled",
            help="Images without a row: leave them out, protect them, or refuse to start. protect: they, and rows with "
            "no label in any protected column, are protected as images of random classes; their cells stay empty.",
            envvar=variable("--unlabelled", "protect"),
            rich_help_panel=INPUT,
        ),
    ] = Unlabelled.SKIP,
    batch_size: AutoBatchSizeOption = "auto",
    device: DeviceOption = "auto",
    workers: WorkersOption = None,
    max_pixels: MaxPixelsOption = MAX_PIXELS,
    quiet: QuietOption = False,
    json_target: JsonOption = None,
) -> None:
    """Write a protected copy of every labelled image, and labels.csv with it.

    Without --weights it first trains a generator on these images, or finds the one that an earlier run trained.
    The generator is kept in your data folder, readable by you alone. Keep a copy to add images later.

    Originals are never changed. Run the command again to continue an interrupted run or to add images.
    Exit code 3: done, but some images could not be protected. They are listed and not in the release.

    [bold]Example:[/bold] mtlue protect photos --labels photos/labels.csv
    """
    terminal = Terminal(quiet, json_target)
    count = _batch_size(batch_size)

    from mtlue_cli.images.labelled import find_labels
    from mtlue_cli.workflows.protect import protect_folder
    from mtlue_cli.workflows.protect_config import ProtectConfig

    config = ProtectConfig(
        images=images,
        labels=labels or find_labels(images, label_format),
        out=out,
        reading=label_options(label_format, file_column, missing_value, bins, split_file, split, kinds),
        unlabelled=unlabelled,
        weights=weights,
        train_minutes=train,
        quick=quick,
        key=key,
        epsilon=epsilon,
        tasks=listed_names(tasks),
        exclude=listed_names(exclude),
        image_format=image_format,
        batch_size=count,
        device=device,
        workers=threads(workers),
        keep_metadata=keep_metadata,
        overwrite=overwrite,
        force=force,
        max_pixels=max_pixels,
    )
    result = protect_folder(config, terminal.progress)
    terminal.show(summary(result))
    for line in remarks(result):
        terminal.say(line)
    terminal.write_json(result.to_json())
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
        "masks and maps": f"{result.maps} copied as they are" if result.maps else "",
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


def remarks(result: "ProtectResult") -> list[str]:
    """What a user should know beside the figures, a line each."""
    lines = [f"warning: {warning}" for warning in result.warnings]
    if result.compressed:
        lines.append(
            f"{result.compressed} JPEG or AVIF files are compressed anew: the bound holds before compression, "
            "the measured change of each is in the manifest"
        )
    if result.unlabelled:
        lines.append(f"{len(result.unlabelled)} images have no row in the labels and are not in the release:")
        lines += [f"  {name}" for name in result.unlabelled[:LISTED]] + _rest(len(result.unlabelled))
    if result.quarantine:
        lines.append(f"{len(result.quarantine)} images could not be protected and are not in the release:")
        lines += [f"  {record.source}: {record.reason}" for record in result.quarantine[:LISTED]]
        lines += [f"{rest}; --json lists all" for rest in _rest(len(result.quarantine))]
    return lines


def _rest(count: int) -> list[str]:
    return [f"  and {count - LISTED} more"] if count > LISTED else []


def _batch_size(value: str) -> int | None:
    if value == "auto":
        return None
    if not value.isdecimal() or int(value) < 1:
        raise InputError(f"--batch-size is {value!r}, expected auto or a number from 1 up")
    return int(value)
