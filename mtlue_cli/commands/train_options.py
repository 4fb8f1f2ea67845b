"""Options of ``train-generator`` alone that decide what it trains."""

from pathlib import Path
from typing import Annotated

import typer

from mtlue_cli.commands.options import TRAINING, variable

OptionalImagesArgument = Annotated[
    Path | None,
    typer.Argument(
        metavar="[IMAGES]",
        help="Folder of images; folders in it are read too. None with --universal.",
        exists=True,
        file_okay=False,
        readable=True,
        show_default=False,
    ),
]
UniversalOption = Annotated[
    bool,
    typer.Option(
        "--universal",
        help="Train weights for any labels, on drawn images: what they add will depend on a key.",
        envvar=variable("--universal", "train"),
        rich_help_panel=TRAINING,
    ),
]
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
    str,
    typer.Option(
        "--distortions",
        metavar="NAME[:SETTING=VALUE,...]",
        help="What happens to images in training. attacks: random JPEG, grey, blur, half size, bit depth, jitter and "
        "zoom, each by its chance, such as attacks:grey=0.3,jpeg=0.25. plain: crops and flips alone.",
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
        "visible and holds in grey. Unset: 0, or 1 where a task labels every pixel.",
        envvar=variable("--chroma", "train"),
        rich_help_panel=TRAINING,
    ),
]
