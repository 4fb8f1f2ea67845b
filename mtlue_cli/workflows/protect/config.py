"""The options of ``protect``."""

import shlex
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from mtlue_cli.choices import (
    MAX_EPSILON,
    TRACE_LEVELS,
    EngineName,
    ImageFormat,
    MetadataGroup,
    Quality,
    Unlabelled,
    Visibility,
    metadata_groups,
)
from mtlue_cli.errors import InputError
from mtlue_cli.files import remote_of
from mtlue_cli.options import (
    COMPUTATION,
    EPSILON,
    INPUT,
    OUTPUT,
    PROTECTION,
    Device,
    Engine,
    Images,
    KeyFile,
    Option,
    Overwrite,
    RayAddress,
    Tasks,
    Workers,
    listed_names,
    usable_threads,
)
from mtlue_cli.tasks.label_options import LabelOptions, Labels


def _batch_size(text: str) -> int | None:
    if text == "auto":
        return None
    if not text.isdecimal() or int(text) < 1:
        raise InputError(f"--batch-size is {text!r}, expected auto or a number from 1 up")
    return int(text)


def _groups(text: str) -> bool | tuple[MetadataGroup, ...]:
    """What ``--keep-metadata`` says; yes and no in the words of a switch, which it was."""
    word = text.strip().lower()
    if word in ("true", "t", "yes", "y", "on", "1"):
        return True
    return () if word in ("", "false", "f", "no", "n", "off", "0") else _checked_groups(listed_names(text))


def _checked_groups(names: Iterable[str]) -> tuple[MetadataGroup, ...]:
    given = list(names)
    if unknown := [name for name in given if name not in list(MetadataGroup)]:
        raise InputError(f"--keep-metadata is {', '.join(map(str, unknown))}, expected {', '.join(MetadataGroup)}")
    return tuple(group for group in MetadataGroup if group in given)


@dataclass(frozen=True)
class ProtectConfig:
    """What a user asks of ``protect``.

    Attributes:
        out: Folder of the release, or a URL such as s3://bucket/release. Unset: beside IMAGES, with -protected after
            its name.
        reading: How the labels are read.
        unlabelled: Images without a row: skip leaves them out, protect protects them as images of random classes, fail
            refuses to start. protect also covers rows without a label in any protected column; cells stay empty.
        weights: Generator: a .safetensors file, or the name of a shipped one. Unset: one trained on these images.
        train_minutes: Time limit for training weights on these images, in minutes. Unset: {TRAIN_MINUTES:g}, or
            no training with fewer than {FEWEST_IMAGES} labelled images. Weights that an earlier run trained for this
            folder are used again; --train with --overwrite trains new ones.
        quick: Skip training and use ready-made patterns. They stop plain training only: turning the images grey removes
            them.
        visibility: How visible the perturbation may be, for training weights on these images: high sets no limit,
            normal aims at a FLIP of {FLIP_NORMAL}, low at {FLIP_LOW}. Unset: that of weights from an earlier run, else
            normal, or high where no limit was measured: for grey images, more than {FEW_TASKS} columns, and maps.
        traceable: Add codes of your key, LEVELS 255ths strong ({TRACE_LEVELS} without a number), so that mtlue trace
            can find models trained on the release. The bound stays the same, so the weights' own perturbation becomes
            weaker and protects much less against training in grey. Ready-made patterns can always be traced.
        epsilon: Largest change of a pixel value, in 255ths. Unset: the generator's own, 8 if trained here,
            {QUICK_EPSILON} of ready-made patterns for at most {FEW_TASKS} columns of image labels.
        exclude: Leave out these tasks, separated by commas; may be repeated. Columns that the weights do not know may
            be named too.
        image_format: png, webp and jxl are lossless: the bound holds for every pixel. jxl, JPEG XL, needs the extra
            mtlue[jxl]. keep: JPEG stays JPEG, and so on.
        fast: Write PNG with fpng: a tenth of the time, and files a quarter larger. Needs the extra mtlue[fast].
        quality: Quality of JPEG files with --format keep. same: the tables and subsampling of each original.
        batch_size: Images per call of the network on a GPU, halved when memory runs out; auto: {GPU_CALL_SIZE}. No
            effect on a CPU, which always takes {CPU_CALL_SIZE}.
        keep_metadata: Keep these groups of EXIF data, XMP and text, separated by commas: {MetadataGroup}. Without a
            list: all but place. Anything that may show the original, such as a preview, is always dropped.
        sign: Also sign the records with the Ed25519 key in FILE. If FILE does not exist, the key is made, with its
            public half in FILE.pub, by which anyone can check the release. Needs the extra mtlue[sign].
        force: Protect images again that a manifest lists as protected; the changes add up beyond the bound.
    """

    images: Images
    labels: Labels
    out: Annotated[Path | None, Option(flags="--out -o", panel=OUTPUT, metavar="DIR", url="written")] = None
    reading: LabelOptions = field(default_factory=LabelOptions)
    unlabelled: Annotated[Unlabelled, Option(panel=INPUT)] = Unlabelled.SKIP
    weights: Annotated[
        str | None, Option(flags="--weights -w", panel=PROTECTION, metavar="NAME|FILE", file_or_name=True)
    ] = None
    train_minutes: Annotated[float | None, Option(flags="--train", panel=PROTECTION, metavar="MINUTES")] = None
    quick: Annotated[bool, Option(panel=PROTECTION)] = False
    visibility: Annotated[Visibility | None, Option(panel=PROTECTION)] = None
    key: KeyFile = None
    traceable: Annotated[
        int | None,
        Option(panel=PROTECTION, metavar="[LEVELS]", minimum=1, maximum=MAX_EPSILON, bare=str(TRACE_LEVELS)),
    ] = None
    epsilon: Annotated[int | None, EPSILON] = None
    tasks: Tasks = None
    exclude: Annotated[
        tuple[str, ...] | None, Option(flags="--except", panel=PROTECTION, metavar="C", typed=str, convert=listed_names)
    ] = None
    image_format: Annotated[ImageFormat, Option(flags="--format", panel=OUTPUT)] = ImageFormat.PNG
    fast: Annotated[bool, Option(panel=OUTPUT)] = False
    quality: Annotated[Quality, Option(panel=OUTPUT)] = Quality.HIGH
    batch_size: Annotated[
        int | None,
        Option(flags="--batch-size -b", panel=COMPUTATION, metavar="N|auto", minimum=1, typed=str, convert=_batch_size),
    ] = None
    device: Device = "auto"
    workers: Workers = field(default_factory=usable_threads)
    engine: Engine = EngineName.LOCAL
    ray_address: RayAddress = None
    keep_metadata: Annotated[
        bool | tuple[MetadataGroup, ...],
        Option(
            panel=OUTPUT,
            metavar="[GROUPS]",
            typed=str,
            convert=_groups,
            bare="true",
            optional=True,
            completions=MetadataGroup,
        ),
    ] = False
    sign: Annotated[Path | None, Option(panel=OUTPUT, metavar="FILE", takes="file")] = None
    overwrite: Overwrite = False
    force: Annotated[bool, Option(panel=INPUT)] = False

    @property
    def release(self) -> Path:
        """The output folder.

        Raises:
            InputError: It is not given, and the images lie in an object store.
        """
        if self.out is not None:
            return self.out
        if remote_of(self.images) is not None:
            raise InputError("--out is not given, and IMAGES is a URL", hint="give the folder or URL of the release")
        absolute = self.images.resolve()
        return absolute.with_name(absolute.name + "-protected")

    @property
    def metadata(self) -> bool | tuple[MetadataGroup, ...]:
        """:attr:`keep_metadata`, of several ways to say the same always the one.

        Raises:
            InputError: It names a group that there is not.
        """
        groups = _checked_groups(metadata_groups(self.keep_metadata))
        return bool(groups) if groups in ((), metadata_groups(True)) else groups

    @property
    def training_command(self) -> str:
        """The command that trains a generator for this very folder."""
        words = [str(self.images), *self.reading.arguments(self.labels), "--out", "weights.safetensors"]
        return shlex.join(["mtlue", "train-generator", *words])

    @property
    def retraining_command(self) -> str:
        """The command that trains weights anew, and longer, where ``protect`` trained them."""
        words = [str(self.images), *self.reading.arguments(self.labels), "--overwrite", "--train"]
        return shlex.join(["mtlue", "protect", *words]) + " MINUTES"
