"""``mtlue train-generator``: learn a perturbation generator for the label columns of a folder."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from mtlue_cli.choices import MAX_PIXELS, BackboneName, ObjectiveName, Precision, SplitPart
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
    COMPUTATION,
    OUTPUT,
    TRAINING,
    BatchSizeOption,
    DeviceOption,
    EpsilonOption,
    ImagesArgument,
    JsonOption,
    LearningRateOption,
    LimitOption,
    MaxPixelsOption,
    OverwriteOption,
    QuietOption,
    SeedOption,
    TasksOption,
    WorkersOption,
    listed_names,
    threads,
    variable,
)
from mtlue_cli.errors import InputError

if TYPE_CHECKING:
    from mtlue_cli.workflows.train_generator import TrainConfig, TrainResult

SCHEMA_VERSION = 1
DEFAULT_MINUTES = 15.0


def train_generator(
    images: ImagesArgument,
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            "-o",
            metavar="FILE.safetensors",
            help="The generator's file. Work in progress is kept in FILE.safetensors.training beside it.",
            envvar=variable("--out", "train"),
            rich_help_panel=OUTPUT,
        ),
    ],
    labels: LabelsOption = None,
    objective: Annotated[
        ObjectiveName,
        typer.Option(
            help="em: minimise a surrogate's loss. tap: mislead a clean surrogate. sep: mislead several of its epochs.",
            envvar=variable("--objective", "train"),
            rich_help_panel=TRAINING,
        ),
    ] = ObjectiveName.TAP,
    epochs: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help=f"Passes over the images. Unset, and --max-minutes too: {DEFAULT_MINUTES:g} minutes.",
            envvar=variable("--epochs", "train"),
            rich_help_panel=TRAINING,
        ),
    ] = None,
    max_minutes: Annotated[
        float | None,
        typer.Option(
            min=0.01,
            metavar="M",
            help="Time for surrogate and generator together, in minutes; instead of --epochs.",
            envvar=variable("--max-minutes", "train"),
            rich_help_panel=TRAINING,
        ),
    ] = None,
    size: Annotated[
        int,
        typer.Option(
            min=16,
            max=512,
            metavar="PIXELS",
            help="Side of the views that the generator is trained on.",
            envvar=variable("--size", "train"),
            rich_help_panel=TRAINING,
        ),
    ] = 64,
    epsilon: EpsilonOption = 8,
    surrogate: Annotated[
        BackboneName,
        typer.Option(
            help="The network that stands in for a thief's.",
            envvar=variable("--surrogate", "train"),
            rich_help_panel=TRAINING,
        ),
    ] = BackboneName.SMALL,
    surrogate_epochs: Annotated[
        int,
        typer.Option(
            min=1,
            metavar="N",
            help="Passes over the clean images for the surrogate of tap and sep.",
            envvar=variable("--surrogate-epochs", "train"),
            rich_help_panel=TRAINING,
        ),
    ] = 6,
    intra_weight: Annotated[
        float,
        typer.Option(
            min=0.0,
            metavar="W",
            help="Weight of the term that parts the classes of a task; 0 removes it.",
            envvar=variable("--intra-weight", "train"),
            rich_help_panel=TRAINING,
        ),
    ] = 1.0,
    inter_weight: Annotated[
        float,
        typer.Option(
            min=0.0,
            metavar="W",
            help="Weight of the term that parts the tasks; 0 removes it.",
            envvar=variable("--inter-weight", "train"),
            rich_help_panel=TRAINING,
        ),
    ] = 10.0,
    learnability_weight: Annotated[
        float,
        typer.Option(
            min=0.0,
            metavar="W",
            help="tap and sep: weight of a companion that keeps the perturbation easy to learn; 0 removes it.",
            envvar=variable("--learnability-weight", "train"),
            rich_help_panel=TRAINING,
        ),
    ] = 1.0,
    batch_size: BatchSizeOption = 64,
    learning_rate: LearningRateOption = 2e-3,
    label_format: LabelFormatOption = None,
    file_column: FileColumnOption = None,
    missing_value: MissingValuesOption = None,
    bins: BinsOption = None,
    kinds: KindsOption = None,
    split_file: SplitFileOption = None,
    split: SplitOption = SplitPart.TRAIN,
    tasks: TasksOption = None,
    limit: LimitOption = None,
    licence: Annotated[
        str,
        typer.Option(
            metavar="TEXT",
            help="Licence to record in the checkpoint, such as that of the images.",
            envvar=variable("--licence", "train"),
            rich_help_panel=OUTPUT,
        ),
    ] = "unspecified",
    contact_sheet: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.png",
            help="Picture of originals, protected and tenfold perturbation. Unset: beside the generator.",
            envvar=variable("--contact-sheet", "train"),
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    overwrite: OverwriteOption = False,
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    precision: Annotated[
        Precision,
        typer.Option(
            help="Arithmetic; auto takes bfloat16 where it pays.",
            envvar=variable("--precision", "train"),
            rich_help_panel=COMPUTATION,
        ),
    ] = Precision.AUTO,
    workers: WorkersOption = None,
    max_pixels: MaxPixelsOption = MAX_PIXELS,
    quiet: QuietOption = False,
    json_target: JsonOption = None,
) -> None:
    """Train a perturbation generator on a folder of labelled images.

    Interrupted with Ctrl-C it keeps its state; the same command goes on where it stopped.

    [bold]Example:[/bold] mtlue train-generator photos --labels labels.csv --out photos.safetensors
    """
    if epochs is not None and max_minutes is not None:
        raise InputError("--epochs and --max-minutes exclude each other", hint="give one of them")
    terminal = Terminal(quiet, json_target)

    from mtlue_cli.images.labelled import find_labels
    from mtlue_cli.images.reading import photos_up_to
    from mtlue_cli.workflows.train_generator import TrainConfig
    from mtlue_cli.workflows.train_generator import train_generator as run

    config = TrainConfig(
        images=images,
        labels=labels or find_labels(images, label_format),
        out=out,
        reading=label_options(label_format, file_column, missing_value, bins, split_file, split, kinds),
        tasks=listed_names(tasks),
        objective=objective,
        size=size,
        epsilon=epsilon,
        epochs=epochs,
        max_minutes=DEFAULT_MINUTES if epochs is None and max_minutes is None else max_minutes,
        surrogate=surrogate,
        surrogate_epochs=surrogate_epochs,
        intra_weight=intra_weight,
        inter_weight=inter_weight,
        learnability_weight=learnability_weight,
        batch_size=batch_size,
        learning_rate=learning_rate,
        seed=seed,
        device=device,
        precision=precision,
        licence=licence,
        contact_sheet=contact_sheet,
        overwrite=overwrite,
        workers=threads(workers),
        limit=limit,
    )
    with photos_up_to(max_pixels):
        result = run(config, terminal.progress)
    terminal.show(summary(result))
    words = ["mtlue", "protect", str(images), *config.reading.arguments(config.labels), "--weights", str(out)]
    terminal.say(f"next: {shlex.join(words)}")
    terminal.write_json(document(config, result))


def summary(result: "TrainResult") -> Table:
    """What was trained, for people."""
    card = result.card
    table = Table("generator", str(result.checkpoint))
    table.add_row("objective", card.objective)
    for task in card.tasks:
        shown = f"{task.num_classes} classes: {', '.join(task.classes[:12])}"
        table.add_row(f"task {task.name}", shown if task.classes else task.kind.value)
    table.add_row("epsilon", f"{card.epsilon} / 255")
    table.add_row("size", f"{card.image_size} pixels")
    table.add_row("steps", f"{result.steps} in {duration(result.seconds)}")
    for name, value in (result.history[-1] if result.history else {}).items():
        table.add_row(f"last {name}", f"{value:.4g}" if isinstance(value, float) else str(value))
    table.add_row("contact sheet", str(result.contact_sheet))
    table.add_row("digest", card.digest)
    return table


def document(config: "TrainConfig", result: "TrainResult") -> dict[str, Any]:
    """What was trained, for programs."""
    card = result.card
    return {
        "schema_version": SCHEMA_VERSION,
        "command": "train-generator",
        "checkpoint": str(result.checkpoint),
        "contact_sheet": str(result.contact_sheet),
        "digest": card.digest,
        "data_digest": card.data_digest,
        "objective": card.objective,
        "tasks": card.tasks.to_json(),
        "epsilon": card.epsilon,
        "size": config.size,
        "image_size": card.image_size,
        "settings": card.settings,
        "licence": card.licence,
        "versions": card.versions,
        "steps": result.steps,
        "seconds": round(result.seconds, 3),
        "history": result.history,
    }
