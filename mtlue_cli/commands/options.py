"""Options that commands share: type, help text, panel and environment variable in one place.

An option of one command only stands in that command's file, with :func:`variable` for its environment variable: it
carries the command's name, so that what is set for one command never reaches another that means something else by it.
"""

import os
from pathlib import Path
from typing import Annotated

import typer

from mtlue_cli.choices import MAX_EPSILON

INPUT = "Input"
PROTECTION = "Protection"
TRAINING = "Training"
COMPUTATION = "Computation"
OUTPUT = "Output"


def listed_names(value: str | None) -> tuple[str, ...] | None:
    """The names in a comma-separated option; None if the option was not given."""
    return None if value is None else tuple(name for name in (part.strip() for part in value.split(",")) if name)


def variable(option: str, command: str | None = None) -> str:
    """Environment variable of an option.

    Args:
        option: Such as ``--file-column``, which gives ``MTLUE_FILE_COLUMN``.
        command: The only command that means this by the option, in one word: ``--out`` of ``protect`` gives
            ``MTLUE_PROTECT_OUT``. None for an option that every command with it reads alike.
    """
    words = (command, option.removeprefix("--")) if command else (option.removeprefix("--"),)
    return "_".join(("MTLUE", *words)).replace("-", "_").upper()


def threads(workers: int | None) -> int:
    """``--workers``, or one thread a core that this process may use; at least two, since disks keep one waiting."""
    if workers is not None:
        return workers
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(2, usable)


ImagesArgument = Annotated[
    Path,
    typer.Argument(
        metavar="IMAGES",
        help="Folder of images; folders in it are read too.",
        exists=True,
        file_okay=False,
        readable=True,
    ),
]
TasksOption = Annotated[
    str | None,
    typer.Option(
        "--tasks",
        metavar="A,B",
        help="Only these tasks, by column name, separated by commas.",
        envvar=variable("--tasks"),
        rich_help_panel=PROTECTION,
    ),
]
ExceptOption = Annotated[
    str | None,
    typer.Option(
        "--except",
        metavar="C",
        help="All tasks but these, separated by commas; also columns that the weights do not know.",
        envvar=variable("--except", "protect"),
        rich_help_panel=PROTECTION,
    ),
]
LimitOption = Annotated[
    int | None,
    typer.Option(
        "--limit",
        min=1,
        metavar="N",
        help="Only the first N rows of the labels, for a quick look.",
        envvar=variable("--limit"),
        rich_help_panel=INPUT,
    ),
]
WeightsOption = Annotated[
    str | None,
    typer.Option(
        "--weights",
        "-w",
        metavar="NAME|FILE",
        help="Generator: a .safetensors file, or the name of a shipped one. Unset: one trained on these images.",
        envvar=variable("--weights", "protect"),
        rich_help_panel=PROTECTION,
    ),
]
KeyOption = Annotated[
    Path | None,
    typer.Option(
        "--key",
        metavar="FILE",
        help="File with the key of 64 hexadecimal digits, for weights that take one. Unset: MTLUE_KEY (the digits or a "
        "file), else your own in the configuration folder, made at first use.",
        rich_help_panel=PROTECTION,
    ),
]
EpsilonOption = Annotated[
    int,
    typer.Option(
        "--epsilon",
        "-e",
        min=1,
        max=MAX_EPSILON,
        metavar="N",
        help="Largest change of a pixel value, in 255ths.",
        envvar=variable("--epsilon"),
        rich_help_panel=PROTECTION,
    ),
]
OptionalEpsilonOption = Annotated[
    int | None,
    typer.Option(
        "--epsilon",
        "-e",
        min=1,
        max=MAX_EPSILON,
        metavar="N",
        help="Largest change of a pixel value, in 255ths. Unset: the generator's own, 8 if trained here.",
        envvar=variable("--epsilon"),
        rich_help_panel=PROTECTION,
    ),
]
SeedOption = Annotated[
    int,
    typer.Option(
        "--seed",
        min=0,
        metavar="N",
        help="Seed of everything random.",
        envvar=variable("--seed"),
        rich_help_panel=COMPUTATION,
    ),
]
DeviceOption = Annotated[
    str,
    typer.Option(
        "--device",
        "-d",
        metavar="NAME",
        help="auto, cpu, cuda, cuda:1 or mps.",
        envvar=variable("--device"),
        rich_help_panel=COMPUTATION,
    ),
]
WorkersOption = Annotated[
    int | None,
    typer.Option(
        "--workers",
        min=1,
        max=256,
        metavar="N",
        help="Threads that decode and encode images. Unset: one a processor core, at least two.",
        envvar=variable("--workers"),
        rich_help_panel=COMPUTATION,
    ),
]
AutoBatchSizeOption = Annotated[
    str,
    typer.Option(
        "--batch-size",
        "-b",
        metavar="N|auto",
        help="Images at a time on a GPU, halved when memory runs out; auto starts high. On a CPU the network always "
        "sees 8 at a time, and this is only how many photos are gathered for it.",
        envvar=variable("--batch-size", "protect"),
        rich_help_panel=COMPUTATION,
    ),
]
LearningRateOption = Annotated[
    float,
    typer.Option(
        "--learning-rate",
        min=1e-7,
        max=10.0,
        metavar="RATE",
        help="Adam's learning rate.",
        envvar=variable("--learning-rate"),
        rich_help_panel=TRAINING,
    ),
]
OverwriteOption = Annotated[
    bool,
    typer.Option(
        "--overwrite",
        help="Replace an earlier result.",
        envvar=variable("--overwrite"),
        rich_help_panel=OUTPUT,
    ),
]
MaxPixelsOption = Annotated[
    int,
    typer.Option(
        "--max-pixels",
        min=1,
        metavar="N",
        help="Refuse photos of more pixels, width times height; protecting one takes up to 30 bytes a pixel.",
        envvar=variable("--max-pixels"),
        rich_help_panel=COMPUTATION,
    ),
]
QuietOption = Annotated[
    bool,
    typer.Option(
        "--quiet",
        "-q",
        help="Say nothing but errors.",
        envvar=variable("--quiet"),
        rich_help_panel=OUTPUT,
    ),
]
JsonOption = Annotated[
    Path | None,
    typer.Option(
        "--json",
        metavar="[FILE]",
        help="Write the result as JSON to FILE; without FILE, or with -, to stdout in place of the table.",
        allow_dash=True,
        envvar=variable("--json"),
        rich_help_panel=OUTPUT,
    ),
]
