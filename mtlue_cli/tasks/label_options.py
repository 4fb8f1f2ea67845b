"""How a user wants labels to be read."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from mtlue_cli.choices import LabelFormat, SplitPart, Uncertain
from mtlue_cli.errors import InputError
from mtlue_cli.options import INPUT, Option, listed_names, option_fields
from mtlue_cli.tasks.bins import Bins, parse_bins
from mtlue_cli.tasks.multi_label import MultiLabel, parse_multi_labels

if TYPE_CHECKING:
    from mtlue_cli.tasks.declared import Declaration
    from mtlue_cli.tasks.presets.preset import Preset

_option = partial(Option, panel=INPUT, shared=True)

Labels = Annotated[
    Path,
    _option(
        flags="--labels -l",
        help="Table with one row per image: a file column and one column per task; an empty cell means unlabelled. "
        "CSV, TSV, JSON Lines, Parquet, or CelebA's or NIH's own. Unset: labels.csv or metadata.csv, .jsonl or "
        ".parquet among IMAGES, else a folder per class.",
        metavar="FILE",
        takes="file",
        exists=True,
        optional=True,
        url="read",
    ),
]
"""The label file of a command; unset, it is looked for among the images."""


def _declarations(texts: Sequence[str]) -> "tuple[Declaration, ...]":
    from mtlue_cli.tasks.declared import parse_declarations  # brings numpy

    return parse_declarations(texts)


def _preset(given: str) -> "Preset":
    from mtlue_cli.tasks.presets.preset import load_preset

    return load_preset(given)


def _stripped(texts: Sequence[str]) -> tuple[str, ...]:
    return tuple(text.strip() for text in texts)


@dataclass(frozen=True)
class LabelOptions:
    """How labels are read.

    Attributes:
        format: Format of the labels. Unset: the suffix and the content decide. utkface reads them from the file names,
            imagefolder from the folders.
        file_column: Column with the file names, if it is none of file_name, filename, image, image_id, path.
        missing_values: Text that means no label, besides the empty cell, such as NA; a number counts in any spelling.
            May be repeated.
        bins: Sort a column of numbers into classes; an edge is the last value of its class: age=2,9,19 gives 0-2, 3-9,
            10-19 and 20+. age=quantiles:5 makes five classes of about equal size. May be repeated.
        split_file: CelebA's list_eval_partition.txt. Only the images of one part are used; verify tests on its test
            part.
        split: The part of --split-file that is used.
        declarations: Kind of a column: binary, categorical, or, for paths of masks or maps, segmentation (classes=12 or
            classes=sky|road, ignore=11, colours=FILE), depth (scale=0.001, ignore=65535) or normals. May be repeated.
            Unset: the cells decide. Also uses a column that would be left out.
        levels: With --label-format imagefolder: a task for each level of folders, from the top, as country,city for
            france/paris/a.jpg; - skips a level.
        preset: How the table of a published data set is read: chexpert, mimic-cxr, odir, isic, fairface, or a TOML file
            of your own.
        uncertain: With --preset: what its uncertain cells become, such as -1.0 in CheXpert. Unset: unlabelled.
        multi_labels: A column whose cells list several labels, such as smile|hat: each label becomes a binary task. A
            separator may follow a colon (tags:;). Unset: the first of | ; , and blanks that the cells hold. May be
            repeated.
        maps_folder: Where the paths of masks and maps lead from; None: the folder of the label file.
    """

    format: Annotated[LabelFormat | None, _option(flags="--label-format")] = None
    file_column: Annotated[str | None, _option(metavar="NAME")] = None
    missing_values: Annotated[tuple[str, ...], _option(flags="--missing-value", metavar="TEXT", convert=_stripped)] = ()
    bins: Annotated[tuple[Bins, ...], _option(metavar="COLUMN=EDGE,...", typed=list[str], convert=parse_bins)] = ()
    split_file: Annotated[Path | None, _option(metavar="FILE", takes="file", exists=True)] = None
    split: Annotated[SplitPart, _option()] = SplitPart.TRAIN
    declarations: Annotated[
        "tuple[Declaration, ...]",
        _option(flags="--task", metavar="NAME=KIND[:KEY=VALUE...]", typed=list[str], convert=_declarations),
    ] = ()
    levels: Annotated[tuple[str, ...] | None, _option(metavar="A,B", typed=str, convert=listed_names)] = None
    preset: Annotated[
        "Preset | None", _option(metavar="NAME|FILE.toml", file_or_name=True, typed=str, convert=_preset)
    ] = None
    uncertain: Annotated[Uncertain | None, _option()] = None
    multi_labels: Annotated[
        tuple[MultiLabel, ...],
        _option(flags="--multi-label", metavar="COLUMN[:SEP]", typed=list[str], convert=parse_multi_labels),
    ] = ()
    maps_folder: Path | None = None

    def refuse_lone_split(self) -> None:
        """Refuse a part of a split file that is not given.

        Raises:
            InputError: ``split`` would decide nothing.
        """
        if self.split_file is None and self.split is not SplitPart.TRAIN:
            raise InputError(f"--split {self.split.value} is a part of --split-file, which is not given")

    def arguments(self, labels: Path) -> tuple[str, ...]:
        """The command-line arguments that read ``labels`` with these options."""
        found = [] if labels.is_dir() else ["--labels", str(labels)]
        for field in option_fields(type(self)):
            value = getattr(self, field.name)
            if value and value != field.field.default:
                texts = map(str, value) if isinstance(value, tuple) else (str(value),)
                for text in texts if field.repeated else (",".join(texts),):
                    found += [field.option.flag, text]
        return tuple(found)
