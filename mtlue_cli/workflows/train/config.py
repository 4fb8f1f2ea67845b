"""The options of ``train-generator``."""

import json
import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from mtlue_cli.choices import BackboneName, ObjectiveName, Precision, TrainingMethodName, Visibility
from mtlue_cli.errors import InputError
from mtlue_cli.options import (
    COMPUTATION,
    EPSILON,
    OUTPUT,
    PROTECTION,
    TRAINING,
    Device,
    Images,
    KeyFile,
    Limit,
    Option,
    Overwrite,
    Seed,
    Tasks,
    Workers,
    listed_names,
    usable_threads,
)
from mtlue_cli.tasks.label_options import LabelOptions, Labels

if TYPE_CHECKING:
    from mtlue_cli.generator.checkpoint import CheckpointCard
    from mtlue_cli.training.distortions import DistortionSettings


def _distortions(text: str) -> "DistortionSettings":
    from mtlue_cli.training.distortions import distortions_named  # brings torch

    return distortions_named(text)


IMAGENET_SURROGATES = {"imagenet-head": TrainingMethodName.HEAD, "imagenet-full": TrainingMethodName.FULL}
"""Surrogates that start from ImageNet weights, and how they are trained from there."""


SURROGATE_BATCH = 64
"""Least images per step of a surrogate: on a CPU half as many take nearly as long."""

SURROGATE_EPOCHS = 6
"""Passes of a surrogate over the images by default."""


@dataclass(frozen=True)
class SurrogateChoice:
    """One surrogate: its backbone, whether it starts from ImageNet weights, and its share of the generator's steps."""

    name: str
    backbone: BackboneName
    method: TrainingMethodName
    share: float


def trained_through_grey(card: "CheckpointCard") -> bool:
    """Whether the surrogate saw grey images, so that the perturbation does not rest on colour alone."""
    return bool(card.settings.get("distortions", {}).get("grey", 0) > 0)


def surrogates_named(text: str) -> tuple[SurrogateChoice, ...]:
    """Read ``NAME[=SHARE],...``; shares sum to 1 in the result.

    Raises:
        InputError: Lists every name and share that is none.
    """
    known = {name.value: (name, TrainingMethodName.SCRATCH) for name in BackboneName}
    known |= {name: (BackboneName.EFFICIENTNET_LITE0, method) for name, method in IMAGENET_SURROGATES.items()}
    weights: dict[str, float] = {}
    faults: list[str] = []
    for part in text.split(","):
        name, _, share = (piece.strip() for piece in part.partition("="))
        try:
            weight = float(share or 1)
        except ValueError:
            weight = math.nan
        if name not in known:
            faults.append(f"there is no surrogate {name!r}")
        elif name in weights:
            faults.append(f"{name} is given twice")
        elif not 0 < weight < math.inf:
            faults.append(f"the share of {name} is {share!r}, expected a positive number")
        weights[name] = weight
    if faults:
        raise InputError(f"--surrogate {text} cannot be used", faults, f"known: {', '.join(known)}")
    total = sum(weights.values())
    return tuple(SurrogateChoice(name, *known[name], weight / total) for name, weight in weights.items())


@dataclass(frozen=True)
class TrainConfig:
    """What a user asks of ``train-generator``; the help of each option says the rest.

    Attributes:
        keep: Columns that are to stay useful, separated by commas; may be repeated. They are not protected. Each
            training step is projected so that the surrogate's loss on them does not grow; mtlue verify measures whether
            that helped. For tap and sep.
        out: Checkpoint to write. An unfinished training is kept beside it, in FILE.safetensors.training.
        objective: em: minimise the surrogate's loss. tap: make a surrogate that was trained on clean images predict
            wrong classes. sep: the same for the surrogate after each of its last epochs.
        size: Side in pixels of the crops that the surrogate sees.
        epsilon: Largest change of a pixel value, in 255ths.
        epochs: Passes over the images. Without --epochs and --max-minutes, training takes {TRAIN_MINUTES:g} minutes.
        max_minutes: Time for surrogate and generator together, in minutes; instead of --epochs.
        max_steps: Generator steps after which training ends, also if ``max_minutes`` has time left.
        surrogate: Network that the generator is trained against; it plays the attacker. One of {BackboneName}, or with
            tap or sep: imagenet-head (EfficientNet-Lite0 with frozen ImageNet weights, only the layers after them are
            trained) and imagenet-full (all layers are trained). Of several, separated by commas, the first is alone
            for {FIRST_ALONE} steps, unless --from names trained weights; then they take turns, as often as NAME=SHARE
            says. Unset: small,imagenet-head for tap with at most {FEW_TASKS} columns, none of them of maps, images in
            colour, --size 32 or more and --visibility normal or low; else small. May be repeated.
        surrogate_epochs: Passes over the clean images for the surrogate of tap and sep.
        intra_weight: Weight of the regulariser that separates the classes of a task; 0 removes it.
        inter_weight: Weight of the regulariser that separates the tasks; 0 removes it.
        learnability_weight: tap and sep: weight of a second loss that makes the perturbation easy to learn; 0 turns it
            off. Unset: 0 for tap with at most {FEW_TASKS} columns if one of them is of maps, if images are grey or with
            --visibility high; else 1.
        distortions: Data augmentation in training. attacks: random windows, JPEG, grey, blur, half size, bit depth and
            jitter, each with its probability, such as attacks:grey=0.3,jpeg=0.25. plain: crops and flips only. Unset:
            attacks for tap with at most {FEW_TASKS} columns (with --visibility high or if most images are grey,
            attacks:smallest_view=0.8), else plain.
        chroma: Share of colour difference that the perturbation may use: 0 changes luminance only, which is less
            visible and survives conversion to grey. Unset: 0 for grey images, and for tap with at most {FEW_TASKS}
            columns and --visibility high; else 1.
        visibility: How visible the perturbation may be: high sets no limit, normal aims at a FLIP of {FLIP_NORMAL},
            low at {FLIP_LOW}. FLIP is a measure of visible differences; uniform noise has 0.05. Unset: normal for tap
            with at most {FEW_TASKS} columns, none of them of maps, and images in colour; else high.
        batch_size: Images per training step. Unset: 32 for tap with at most {FEW_TASKS} columns, else 64.
        accumulate: Compute each step's images in N parts, for less memory. On labelled images with tap or sep and
            --learnability-weight 0 the weights differ by rounding only.
        learning_rate: Adam's learning rate. Unset: 4e-3 for tap with at most {FEW_TASKS} columns, else 2e-3.
        precision: Number format of the training; auto uses bfloat16 where it is faster.
        licence: Licence to record in the checkpoint, for example that of the images.
        contact_sheet: Picture of originals, protected images and ten times the perturbation. Unset: beside the
            generator.
        most_images: Train on at most so many images, spread evenly over the rows.
        private: Nobody but the owner may read the checkpoint, and images that cannot be read are left out with a note
            instead of refused: ``protect`` trains for itself.
        start: Weights to start from: universal ones with your key, or ones that know these columns and classes.
    """

    images: Images
    labels: Labels
    out: Annotated[Path, Option(flags="--out -o", panel=OUTPUT, metavar="FILE.safetensors")]
    reading: LabelOptions = field(default_factory=LabelOptions)
    tasks: Tasks = None
    keep: Annotated[tuple[str, ...] | None, Option(panel=PROTECTION, metavar="C", typed=str, convert=listed_names)] = (
        None
    )
    objective: Annotated[ObjectiveName, Option(panel=TRAINING)] = ObjectiveName.TAP
    size: Annotated[int, Option(panel=TRAINING, metavar="PIXELS", minimum=16, maximum=512)] = 64
    epsilon: Annotated[int, EPSILON] = 8
    epochs: Annotated[int | None, Option(panel=TRAINING, metavar="N", minimum=1)] = None
    max_minutes: Annotated[float | None, Option(panel=TRAINING, metavar="M", minimum=0.01)] = None
    max_steps: int | None = None
    least_steps: int = 0
    surrogate: Annotated[
        str | None,
        Option(
            panel=TRAINING,
            metavar="NAME[=SHARE],...",
            listed=True,
            completions=(*BackboneName, *IMAGENET_SURROGATES),
        ),
    ] = None
    surrogate_epochs: Annotated[int, Option(panel=TRAINING, metavar="N", minimum=1)] = SURROGATE_EPOCHS
    intra_weight: Annotated[float, Option(panel=TRAINING, metavar="W", minimum=0.0)] = 1.0
    inter_weight: Annotated[float, Option(panel=TRAINING, metavar="W", minimum=0.0)] = 10.0
    learnability_weight: Annotated[float | None, Option(panel=TRAINING, metavar="W", minimum=0.0)] = None
    distortions: Annotated[
        "DistortionSettings | None",
        Option(panel=TRAINING, metavar="NAME[:SETTING=VALUE,...]", typed=str, convert=_distortions),
    ] = None
    chroma: Annotated[float | None, Option(panel=TRAINING, metavar="SHARE", minimum=0.0, maximum=1.0)] = None
    visibility: Annotated[Visibility | None, Option(panel=TRAINING)] = None
    batch_size: Annotated[
        int | None, Option(flags="--batch-size -b", panel=TRAINING, metavar="N", minimum=2, shared=True)
    ] = None
    accumulate: Annotated[int, Option(panel=TRAINING, metavar="N", minimum=1)] = 1
    learning_rate: Annotated[
        float | None, Option(panel=TRAINING, metavar="RATE", minimum=1e-7, maximum=10.0, shared=True)
    ] = None
    seed: Seed = 0
    device: Device = "auto"
    precision: Annotated[Precision, Option(panel=COMPUTATION)] = Precision.AUTO
    licence: Annotated[str, Option(panel=OUTPUT, metavar="TEXT")] = "unspecified"
    contact_sheet: Annotated[Path | None, Option(panel=OUTPUT, metavar="FILE.png", result=True)] = None
    overwrite: Overwrite = False
    workers: Workers = field(default_factory=usable_threads)
    limit: Limit = None
    most_images: int | None = None
    private: bool = False
    start: Annotated[str | None, Option(flags="--from", panel=TRAINING, metavar="NAME|FILE", file_or_name=True)] = None
    key: KeyFile = None

    @property
    def named_columns(self) -> tuple[str, ...] | None:
        """The columns of :attr:`tasks` and :attr:`keep`; None: those that are tasks by default."""
        return None if self.tasks is None else (*self.tasks, *(self.keep or ()))

    @property
    def state_folder(self) -> Path:
        """Where an unfinished run keeps what it needs to resume."""
        return state_folder(self.out)

    @property
    def sheet_path(self) -> Path:
        """Where the contact sheet goes: where it is wanted, else beside the checkpoint."""
        return self.contact_sheet or self.out.with_suffix(".png")

    def recorded_settings(self) -> dict[str, Any]:
        """Everything that decides the weights, without paths and without the weights to begin from."""
        aside = {"images", "labels", "out", "device", "licence", "contact_sheet", "overwrite", "workers", "reading"}
        aside |= {"start", "key", "private", "least_steps"} | (set() if self.keep else {"keep"})
        return {
            name: value
            for name, value in json.loads(json.dumps(asdict(self), default=str)).items()
            if name not in aside
        }


def state_folder(out: Path) -> Path:
    """Where the unfinished run that will write the checkpoint ``out`` keeps what it needs to resume."""
    return out.with_name(out.name + ".training")


def check_usage(config: TrainConfig) -> None:
    """Refuse what keeps the run from leaving its result, or from knowing when to end.

    Raises:
        InputError: Lists all of it.
    """
    out, sheet = config.out, config.sheet_path
    faults: list[str] = []
    if out.suffix != ".safetensors":
        faults.append(f"--out {out}: checkpoints are safetensors files; end the name in .safetensors")
    if out.exists() and not config.overwrite:
        faults.append(f"--out {out} exists; --overwrite replaces it")
    if sheet.suffix != ".png":
        faults.append(f"--contact-sheet {sheet}: the sheet is a PNG; end the name in .png")
    among_images = sheet.resolve().is_relative_to(config.images.resolve())
    if sheet.exists() and (not config.overwrite or among_images):
        faults.append(f"the contact sheet {sheet} would replace a file; name another with --contact-sheet")
    if config.epochs is not None and config.max_minutes is not None:
        faults.append("--epochs and --max-minutes cannot be used together")
    if config.epochs is None and config.max_minutes is None:
        faults.append("one of --epochs and --max-minutes is needed")
    if config.key is not None and config.start is None:
        faults.append("--key needs --from: training from scratch uses no key")
    try:
        surrogates = () if config.surrogate is None else surrogates_named(config.surrogate)
    except InputError as error:
        faults += [f"--surrogate: {fault}; {error.hint}" for fault in error.faults]
    else:
        from_scratch = all(one.name not in IMAGENET_SURROGATES for one in surrogates)
        if config.objective is ObjectiveName.EM and (len(surrogates) > 1 or not from_scratch):
            faults.append("--objective em trains one surrogate from scratch; name one backbone with --surrogate")
    if config.keep is not None and not config.keep:
        faults.append("--keep names no column")
    if config.keep and config.objective is ObjectiveName.EM:
        faults.append("--keep needs a surrogate of clean images: use --objective tap or sep")
    if not config.images.is_dir():
        faults.append(f"{config.images} is not a folder")
    if faults:
        raise InputError("the training cannot start", faults)
