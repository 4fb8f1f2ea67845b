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
