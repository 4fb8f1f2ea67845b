"""Options of ``train-generator`` alone that decide what it trains."""

from typing import Annotated

import typer

from mtlue_cli.choices import FEW_TASKS
from mtlue_cli.commands.options import TRAINING, variable

StartOption = Annotated[
    str | None,
    typer.Option(
        "--from",
        metavar="NAME|FILE",
        help="Begin from these weights: universal ones under your key, or some that know these labels.",
        envvar=variable("--from", "train"),
        rich_help_panel=TRAINING,
    ),
]
DistortionsOption = Annotated[
    str | None,
    typer.Option(
        "--distortions",
        metavar="NAME[:SETTING=VALUE,...]",
        help="What happens to images in training. attacks: random JPEG, grey, blur, half size, bit depth, jitter and "
        "zoom, each by its chance, such as attacks:grey=0.3,jpeg=0.25. plain: crops and flips alone. Unset: attacks "
        f"for tap with at most {FEW_TASKS} columns, else plain.",
        envvar=variable("--distortions", "train"),
        rich_help_panel=TRAINING,
    ),
]
ChromaOption = Annotated[
    float | None,
    typer.Option(
        "--chroma",
        min=0.0,
        max=1.0,
        metavar="SHARE",
        help="Share of colour difference that the perturbation may use: 0 writes in luminance alone, which is less "
        "visible and holds in grey. Unset: 0 for tap with at most "
        f"{FEW_TASKS} columns and for grey images, else 1.",
        envvar=variable("--chroma", "train"),
        rich_help_panel=TRAINING,
    ),
]
OptionalBatchSizeOption = Annotated[
    int | None,
    typer.Option(
        "--batch-size",
        "-b",
        min=2,
        metavar="N",
        help=f"Images per training step. Unset: 32 for tap with at most {FEW_TASKS} columns, else 64.",
        envvar=variable("--batch-size"),
        rich_help_panel=TRAINING,
    ),
]
OptionalLearningRateOption = Annotated[
    float | None,
    typer.Option(
        "--learning-rate",
        min=1e-7,
        max=10.0,
        metavar="RATE",
        help=f"Adam's learning rate. Unset: 4e-3 for tap with at most {FEW_TASKS} columns, else 2e-3.",
        envvar=variable("--learning-rate"),
        rich_help_panel=TRAINING,
    ),
]
