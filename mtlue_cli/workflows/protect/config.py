"""The options of ``protect``."""

import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from mtlue_cli.choices import (
    CPU_CALL_SIZE,
    FEWEST_IMAGES,
    GPU_CALL_SIZE,
    MAX_PIXELS,
    TRAIN_MINUTES,
    ImageFormat,
    Unlabelled,
)
from mtlue_cli.errors import InputError
from mtlue_cli.options import (
    COMPUTATION,
    INPUT,
    OUTPUT,
    PROTECTION,
    Device,
    Images,
    KeyFile,
    MaxPixels,
    Option,
    Overwrite,
    Tasks,
    Workers,
    epsilon_option,
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


@dataclass(frozen=True)
class ProtectConfig:
    """What a user asks of ``protect``.

    Attributes:
        images: Folder of the originals; never changed.
        labels: Label file, or ``images`` itself if the labels are in the file names.
        out: Release folder; None: beside ``images``, with ``-protected`` after its name.
        reading: How the labels are read.
        unlabelled: What happens to images without a row, or with one whose protected cells are all empty.
        weights: Name or path of a generator; None: one that is trained on these images (see
            :mod:`mtlue_cli.workflows.protect.own_weights`).
        train_minutes: Most time for that training; None: :data:`~mtlue_cli.choices.TRAIN_MINUTES`.
        quick: Take ready-made patterns, the closed form, in place of training.
        key: File of the key for weights that take one; None: ``MTLUE_KEY``, else the user's own.
        epsilon: Bound in 255ths; None: the generator's own. Another than its own scales the perturbation.
        tasks: Protect only these tasks.
        exclude: Protect all tasks but these; not together with ``tasks``.
        image_format: How files are written.
        batch_size: Images per call of the network on a GPU; None: :data:`~mtlue_cli.choices.GPU_CALL_SIZE`. A CPU
            takes :data:`~mtlue_cli.choices.CPU_CALL_SIZE` whatever is asked for.
        device: ``auto``, ``cpu``, ``cuda`` and so on.
        workers: Threads that decode and encode.
        keep_metadata: Keep EXIF data, XMP and text.
        overwrite: Replace a release that was made with other settings.
        force: Protect images again that a manifest says are protected already.
        max_pixels: Larger photos are refused.
    """

    images: Images
    labels: Labels
    out: Annotated[
        Path | None,
        Option(
            flags="--out -o",
            help="Folder of the release. Unset: beside IMAGES, with -protected after its name.",
            panel=OUTPUT,
            metavar="DIR",
        ),
    ] = None
    reading: LabelOptions = field(default_factory=LabelOptions)
    unlabelled: Annotated[
        Unlabelled,
        Option(
            flags="--unlabelled",
            help="Images without a row: leave them out, protect them, or refuse to start. protect: they, and rows with "
            "no label in any protected column, are protected as images of random classes; their cells stay empty.",
            panel=INPUT,
        ),
    ] = Unlabelled.SKIP
    weights: Annotated[
        str | None,
        Option(
            flags="--weights -w",
            help="Generator: a .safetensors file, or the name of a shipped one. Unset: one trained on these images.",
            panel=PROTECTION,
            metavar="NAME|FILE",
            file_or_name=True,
        ),
    ] = None
    train_minutes: Annotated[
        float | None,
        Option(
            flags="--train",
            help=f"Time limit for training weights on these images, in minutes. Unset: {TRAIN_MINUTES:g}; with fewer "
            f"than {FEWEST_IMAGES} labelled images none. Weights that an earlier run trained for this folder are "
            "used again; --train with --overwrite trains new ones.",
            panel=PROTECTION,
            metavar="MINUTES",
        ),
    ] = None
    quick: Annotated[
        bool,
        Option(
            flags="--quick",
            help="Skip training and use ready-made patterns. They stop plain training only: turning the images grey "
            "undoes them.",
            panel=PROTECTION,
        ),
    ] = False
    key: KeyFile = None
    epsilon: Annotated[int | None, epsilon_option(" Unset: the generator's own, 8 if trained here.")] = None
    tasks: Tasks = None
    exclude: Annotated[
        tuple[str, ...] | None,
        Option(
            flags="--except",
            help="All tasks but these, separated by commas; also columns that the weights do not know.",
            panel=PROTECTION,
            metavar="C",
            typed=str,
            convert=listed_names,
        ),
    ] = None
    image_format: Annotated[
        ImageFormat,
        Option(
            flags="--format",
            help="png and webp are lossless: the bound holds for every pixel. keep: JPEG stays JPEG, and so on.",
            panel=OUTPUT,
        ),
    ] = ImageFormat.PNG
    batch_size: Annotated[
        int | None,
        Option(
            flags="--batch-size -b",
            help=f"Images per call of the network on a GPU, halved when memory runs out; auto: {GPU_CALL_SIZE}. "
            f"No effect on a CPU, which always takes {CPU_CALL_SIZE}.",
            panel=COMPUTATION,
            metavar="N|auto",
            minimum=1,
            typed=str,
            convert=_batch_size,
        ),
    ] = None
    device: Device = "auto"
    workers: Workers = field(default_factory=usable_threads)
    keep_metadata: Annotated[
        bool,
        Option(
            flags="--keep-metadata",
            help="Keep EXIF data (including place and time), XMP and text; previews are always dropped.",
            panel=OUTPUT,
        ),
    ] = False
    overwrite: Overwrite = False
    force: Annotated[
        bool,
        Option(
            flags="--force",
            help="Protect images again that a manifest lists as protected; the changes add up beyond the bound.",
            panel=INPUT,
        ),
    ] = False
    max_pixels: MaxPixels = MAX_PIXELS

    @property
    def release(self) -> Path:
        """The output folder."""
        if self.out is not None:
            return self.out
        absolute = self.images.resolve()
        return absolute.with_name(absolute.name + "-protected")

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
