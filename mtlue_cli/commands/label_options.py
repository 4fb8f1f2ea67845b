"""Options that say where labels are and how they are read, shared by all commands that take labels."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mtlue_cli.choices import LabelFormat, SplitPart
from mtlue_cli.commands.options import INPUT, variable
from mtlue_cli.errors import InputError

if TYPE_CHECKING:
    from mtlue_cli.tasks.labels import LabelOptions

LabelsOption = Annotated[
    Path | None,
    typer.Option(
        "--labels",
        "-l",
        metavar="FILE",
        help="Table with one row an image: a file column and one column a task; an empty cell means unlabelled. CSV, "
        "TSV, JSON Lines, Parquet, or CelebA's or NIH's own. Unset: metadata.csv, .jsonl or .parquet among IMAGES.",
        exists=True,
        dir_okay=False,
        readable=True,
        envvar=variable("--labels"),
        rich_help_panel=INPUT,
    ),
]
LabelFormatOption = Annotated[
    LabelFormat | None,
    typer.Option(
        "--label-format",
        help="Format of the labels. Unset: told by suffix and content. utkface reads them from the file names.",
        envvar=variable("--label-format"),
        rich_help_panel=INPUT,
    ),
]
FileColumnOption = Annotated[
    str | None,
    typer.Option(
        "--file-column",
        metavar="NAME",
        help="Column with the file names, if it is none of file_name, filename, image, image_id, path.",
        envvar=variable("--file-column"),
        rich_help_panel=INPUT,
    ),
]
MissingValuesOption = Annotated[
    list[str] | None,
    typer.Option(
        "--missing-value",
        metavar="TEXT",
        help="Text that means no label, beside the empty cell, such as NA; may be repeated.",
        envvar=variable("--missing-value"),
        rich_help_panel=INPUT,
    ),
]
BinsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--bins",
        metavar="COLUMN=EDGE,...",
        help="Sort a column of numbers into classes; an edge is the last value of its class: age=2,9,19 gives 0-2, "
        "3-9, 10-19 and 20+. May be repeated.",
        envvar=variable("--bins"),
        rich_help_panel=INPUT,
    ),
]
KindsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--task",
        metavar="NAME=KIND[:KEY=VALUE...]",
        help="Kind of a column: binary, categorical, or, for paths of masks or maps, segmentation (classes=12 or "
        "classes=sky|road, ignore=11), depth (scale=0.001) or normals. May be repeated. Unset: told by its cells.",
        envvar=variable("--task"),
        rich_help_panel=INPUT,
    ),
]
SplitFileOption = Annotated[
    Path | None,
    typer.Option(
        "--split-file",
        metavar="FILE",
        help="CelebA's list_eval_partition.txt. Only the images of one part are used; verify tests on its test part.",
        exists=True,
        dir_okay=False,
        readable=True,
        envvar=variable("--split-file"),
        rich_help_panel=INPUT,
    ),
]
SplitOption = Annotated[
    SplitPart,
    typer.Option(
        "--split",
        help="The part of --split-file that is used.",
        envvar=variable("--split"),
        rich_help_panel=INPUT,
    ),
]


def label_options(
    label_format: LabelFormat | None,
    file_column: str | None,
    missing_values: list[str] | None,
    bins: list[str] | None,
    split_file: Path | None,
    split: SplitPart = SplitPart.TRAIN,
    kinds: list[str] | None = None,
) -> "LabelOptions":
    """What the options together say of how labels are read.

    Raises:
        InputError: ``--bins`` or ``--task`` is not understood, or ``--split`` is given without ``--split-file``.
    """
    from mtlue_cli.tasks.bins import parse_bins
    from mtlue_cli.tasks.declared import parse_declarations
    from mtlue_cli.tasks.labels import LabelOptions

    if split_file is None and split is not SplitPart.TRAIN:
        raise InputError(f"--split {split.value} is a part of --split-file, which is not given")
    missing = tuple(text.strip() for text in missing_values or ())
    declarations = parse_declarations(kinds or ())
    return LabelOptions(label_format, file_column, missing, parse_bins(bins or ()), split_file, split, declarations)
