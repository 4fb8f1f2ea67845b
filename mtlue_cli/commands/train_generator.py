"""``mtlue train-generator``: learn a perturbation generator for the label columns of a folder."""

import shlex
from pathlib import Path
from typing import Annotated

import typer

from mtlue_cli.choices import FEW_TASKS, MAX_PIXELS, BackboneName, ObjectiveName, Precision, SplitPart
from mtlue_cli.commands.console import Terminal
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
    DeviceOption,
    EpsilonOption,
    ImagesArgument,
    JsonOption,
    KeyOption,
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
from mtlue_cli.commands.train_options import (
    ChromaOption,
    DistortionsOption,
    OptionalBatchSizeOption,
    OptionalLearningRateOption,
    StartOption,
)
from mtlue_cli.commands.train_tables import document, summary
from mtlue_cli.errors import InputError

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
    start: StartOption = None,
    key: KeyOption = None,
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
        float | None,
        typer.Option(
            min=0.0,
            metavar="W",
            help="tap and sep: weight of a companion that keeps the perturbation easy to learn; 0 goes without. Unset: "
            f"0 for tap with at most {FEW_TASKS} tasks, else 1.",
            envvar=variable("--learnability-weight", "train"),
            rich_help_panel=TRAINING,
        ),
    ] = None,
    distortions: DistortionsOption = None,
    chroma: ChromaOption = None,
    batch_size: OptionalBatchSizeOption = None,
    learning_rate: OptionalLearningRateOption = None,
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
    minutes = DEFAULT_MINUTES if epochs is None and max_minutes is None else max_minutes
    from mtlue_cli.images.labelled import find_labels
    from mtlue_cli.images.reading import photos_up_to
    from mtlue_cli.training.distortions import distortions_named
    from mtlue_cli.workflows.train_generator import train_generator as run
    from mtlue_cli.workflows.train_settings import TrainConfig

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
        max_minutes=minutes,
        surrogate=surrogate,
        surrogate_epochs=surrogate_epochs,
        intra_weight=intra_weight,
        inter_weight=inter_weight,
        learnability_weight=learnability_weight,
        distortions=None if distortions is None else distortions_named(distortions),
        chroma=chroma,
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
        start=start,
        key=key,
    )
    with photos_up_to(max_pixels):
        result = run(config, terminal.progress)
    terminal.show(summary(result))
    words = ["mtlue", "protect", str(images), *config.reading.arguments(config.labels), "--weights", str(out)]
    terminal.say(f"next: {shlex.join(words)}")
    terminal.write_json(document(size, result))
