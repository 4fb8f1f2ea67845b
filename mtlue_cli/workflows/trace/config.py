"""The options of ``trace probes``, ``trace judge`` and ``trace copy``."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from mtlue_cli.choices import LEAST_COPY_SHARE, MAX_EPSILON
from mtlue_cli.options import (
    COMPUTATION,
    INPUT,
    OUTPUT,
    PROTECTION,
    Device,
    Images,
    KeyFile,
    Option,
    Workers,
    listed_names,
    usable_threads,
)

LEVEL = 0.001
"""Chance of calling a model trained on the release that has never seen it, unless the user says otherwise."""

QUERIES = 200
"""Probes that are made unless the user says otherwise."""

FULL_SIGNAL = 0.9
"""Follow rate of the model that the power is stated for."""


@dataclass(frozen=True)
class ProbesConfig:
    """What ``trace probes`` makes.

    Attributes:
        release: The release, made with a key (--traceable, --quick or --weights default).
        out: New folder for the probes. The sealed answers are written beside it, to OUT.sealed.json.
        queries: Most probes to make; the model is asked once about each.
        epsilon: Bound of the probes in 255ths. Unset: twice that of the release.
        weights: File of the universal weights of the release, if they are not shipped ones.
        seed: Make earlier probes again: the seed in their sealed answers, 64 hexadecimal digits.
    """

    images: Images
    release: Annotated[Path, Option(panel=INPUT, metavar="RELEASE", takes="folder", exists=True)]
    out: Annotated[Path, Option(flags="--out -o", panel=OUTPUT, metavar="DIR")]
    queries: Annotated[int, Option(panel=COMPUTATION, metavar="N", minimum=2, maximum=100_000)] = QUERIES
    epsilon: Annotated[int | None, Option(panel=PROTECTION, metavar="N", minimum=1, maximum=MAX_EPSILON)] = None
    key: KeyFile = None
    weights: Annotated[Path | None, Option(panel=PROTECTION, metavar="FILE", takes="file", exists=True)] = None
    seed: Annotated[str | None, Option(panel=COMPUTATION, metavar="HEX", environment=False)] = None
    device: Device = "auto"


@dataclass(frozen=True)
class JudgeConfig:
    """What ``trace judge`` reads, and how.

    Attributes:
        probes: Folder made by trace probes.
        sealed: The sealed answers. Unset: PROBES.sealed.json, beside the folder.
        answers: Table of what the model answered (CSV, TSV, JSON Lines or Parquet): a file column, and a column per
            task (label) or per class (score, such as age:young).
        model: Ask this model: TorchScript, torch.export (.pt2) or ONNX (needs the extra onnx).
        outputs: Tasks of the outputs of --model, in their order, separated by commas. Unset: by their names, else in
            the order of the release.
        map: Name of a class in the answers that differs from the release, as theirs=ours or task:theirs=ours. May be
            repeated.
        unknown_names: The answers use other class names, and nobody knows which is which. Needs more probes.
        size: Side in pixels to which --model has images scaled. Unset: what the file says, else 224.
        mean: Subtracted from each channel (range 0 to 1). Unset: what the file says, else that of ImageNet.
        std: Each channel is divided by it. Unset: what the file says, else that of ImageNet.
        level: Chance of a false alarm that is accepted.
    """

    probes: Annotated[Path, Option(argument=True, metavar="PROBES", takes="folder", exists=True)]
    sealed: Annotated[Path | None, Option(panel=INPUT, metavar="FILE", takes="file", exists=True)] = None
    answers: Annotated[Path | None, Option(panel=INPUT, metavar="FILE", takes="file", exists=True)] = None
    model: Annotated[Path | None, Option(panel=INPUT, metavar="FILE", takes="file", exists=True)] = None
    outputs: Annotated[tuple[str, ...] | None, Option(panel=INPUT, metavar="A,B", typed=str, convert=listed_names)] = (
        None
    )
    map: Annotated[tuple[str, ...], Option(panel=INPUT, metavar="THEIRS=OURS")] = ()
    unknown_names: Annotated[bool, Option(panel=INPUT)] = False
    size: Annotated[int | None, Option(panel=COMPUTATION, metavar="N", minimum=8, maximum=4096)] = None
    mean: Annotated[
        tuple[str, ...] | None, Option(panel=COMPUTATION, metavar="R,G,B", typed=str, convert=listed_names)
    ] = None
    std: Annotated[
        tuple[str, ...] | None, Option(panel=COMPUTATION, metavar="R,G,B", typed=str, convert=listed_names)
    ] = None
    level: Annotated[float, Option(panel=COMPUTATION, metavar="P", minimum=1e-12, maximum=0.5)] = LEVEL
    device: Device = "auto"


@dataclass(frozen=True)
class CopyConfig:
    """What ``trace copy`` compares.

    Attributes:
        copies: A photo, or a folder of photos, as they came back.
        release: The release that they were copied from.
        against: Folder of the originals: the share is measured exactly. Unset: the perturbation is computed again from
            the weights of the release, which are found by their digest, and from its key.
        weights: Weights of the release, if they are neither shipped nor in the data folder.
        least_share: Exit with code 4 if the copies in all may have less of the perturbation left than this share, from
            0 to 1, or if one of them clearly has.
    """

    copies: Annotated[Path, Option(argument=True, metavar="COPY_FOLDER|PHOTO", exists=True)]
    release: Annotated[Path, Option(panel=INPUT, metavar="RELEASE", takes="folder", exists=True, environment=False)]
    against: Annotated[Path | None, Option(panel=INPUT, metavar="ORIGINALS", takes="folder", exists=True)] = None
    key: KeyFile = None
    weights: Annotated[
        Path | None, Option(panel=PROTECTION, metavar="FILE", takes="file", exists=True, environment=False)
    ] = None
    least_share: Annotated[float, Option(panel=COMPUTATION, metavar="SHARE", minimum=0, maximum=1)] = LEAST_COPY_SHARE
    device: Device = "auto"
    workers: Workers = field(default_factory=usable_threads)
