"""The options of ``verify``."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from enum import Enum, StrEnum
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from mtlue_cli.choices import (
    BackboneName,
    CountermeasureName,
    LearnerName,
    MetricName,
    Tier,
    TrainingMethodName,
    WeightingName,
)
from mtlue_cli.errors import InputError
from mtlue_cli.options import (
    INPUT,
    OUTPUT,
    TRAINING,
    Device,
    Images,
    KeyFile,
    Limit,
    Option,
    Seed,
    Workers,
    usable_threads,
)
from mtlue_cli.tasks.label_options import LabelOptions, Labels

if TYPE_CHECKING:
    from mtlue_cli.workflows.verify.settings import VerifyPlan

ATTACK = "What is tried"

MARGIN = 1.1
"""Side of the loaded images over the side of the crops that a victim sees."""


def _all(names: type[StrEnum]) -> str:
    return ", ".join(name.value for name in names)


@dataclass(frozen=True)
class VerifyConfig:
    """What to verify, and how.

    What is None takes the tier's choice, or the usual one where there is no tier.

    Attributes:
        clean, labels: The original images and their label file.
        protected: The release to judge; or
        weights: a generator, by name or path, to judge without a release. Exactly one of the two.
        key: File of the key for weights that take one; None: ``MTLUE_KEY``, else the user's own.
        test, test_labels: Clean test images; None: a share of ``clean`` is held out.
        test_fraction: That share, in (0, 1).
        reading: How the labels are read. With a split, its test part is the test side, unless ``test`` is given.
        tier: How much is tried.
        backbones, learners, weightings, methods: Victims: every combination. The first is tried with everything.
            Methods may have settings: ``sparse:share=0.1``.
        countermeasures: Tried with the first victim; may have settings: ``jpeg:quality=20``.
        fractions: Shares of the release that are protected, in (0, 1), each compared with its clean part alone.
        start: Where fine-tuned victims start from: a safetensors file or ``timm:NAME``; or
        pretrain_images, pretrain_labels: other clean images to train that start on first.
        epochs, batch_size, learning_rate: Of every victim.
        size: Side in pixels of the crops that a victim sees.
        metric: What victims are judged by.
        max_learned: Highest average learned fraction that still counts as protected.
        control: Whether to train a victim on uniform noise too.
        probes: Whether to measure detectability and label recovery.
        seeds: Victims a condition, with seeds from ``seed`` on.
        cache: Folder of finished victims; None: none is kept.
        limit: Only the first rows of the labels.
        seed: Of split, noise and victims.
        device: As the option says, such as ``auto``.
        workers: Threads that decode.
        command_line: What was typed, for the report.
    """

    clean: Images
    labels: Labels
    protected: Annotated[
        Path | None,
        Option(
            flags="--protected -p",
            help="The release to judge, made from IMAGES. It is audited first.",
            panel=INPUT,
            metavar="DIR",
            takes="folder",
            exists=True,
        ),
    ] = None
    weights: Annotated[
        str | None,
        Option(
            flags="--weights -w",
            help="Instead of a release: protect in memory with this generator and judge that.",
            panel=INPUT,
            metavar="NAME|FILE",
            file_or_name=True,
        ),
    ] = None
    key: KeyFile = None
    test: Annotated[
        Path | None,
        Option(
            flags="--test",
            help="Clean test images. Unset: a share of IMAGES is held out.",
            panel=INPUT,
            metavar="DIR",
            takes="folder",
            exists=True,
        ),
    ] = None
    test_labels: Annotated[
        Path | None,
        Option(
            flags="--test-labels",
            help="Labels of the test images. Unset: those among the test images, as with --labels.",
            panel=INPUT,
            metavar="FILE",
            takes="file",
            exists=True,
        ),
    ] = None
    test_fraction: Annotated[
        float,
        Option(
            flags="--test-fraction",
            help="Share of IMAGES held out for testing, chosen by content.",
            panel=INPUT,
            metavar="SHARE",
            minimum=0.01,
            maximum=0.9,
        ),
    ] = 0.2
    reading: LabelOptions = field(default_factory=LabelOptions)
    tier: Annotated[
        Tier | None,
        Option(
            flags="--tier",
            help="smoke (minutes on a CPU), standard (an hour on a GPU), full, or converged (few conditions, at least "
            "3,000 steps each: 12 minutes per victim on two cores with 8,000 images); what it leaves out is listed.",
            panel=ATTACK,
        ),
    ] = None
    backbones: Annotated[
        tuple[BackboneName, ...] | None,
        Option(
            flags="--backbone",
            help="The victim's network; repeat it for more. Everything else is tried with the first. "
            f"One of {_all(BackboneName)}.",
            panel=ATTACK,
            metavar="NAME",
        ),
    ] = None
    learners: Annotated[
        tuple[LearnerName, ...] | None,
        Option(
            flags="--learner",
            help="One network for all tasks (mtl) or one per task (stl); may be repeated.",
            panel=ATTACK,
        ),
    ] = None
    weightings: Annotated[
        tuple[WeightingName, ...] | None,
        Option(
            flags="--weighting",
            help=f"How a network weighs its tasks; may be repeated. One of {_all(WeightingName)}.",
            panel=ATTACK,
            metavar="NAME",
        ),
    ] = None
    methods: Annotated[
        tuple[str, ...] | None,
        Option(
            flags="--method",
            help=f"Which part of the victim is trained; may be repeated. One of {_all(TrainingMethodName)}; gps, head "
            "and full need a start. Settings follow a colon: sparse:share=0.1; an unknown one lists the known ones.",
            panel=ATTACK,
            metavar="NAME[:SETTING=VALUE,...]",
            completions=TrainingMethodName,
        ),
    ] = None
    countermeasures: Annotated[
        tuple[str, ...] | None,
        Option(
            flags="--countermeasure",
            help="What the attacker does against the protection; may be repeated. One of "
            f"{_all(CountermeasureName)}. Settings follow a colon: jpeg:quality=20, "
            "adversarial-training:steps=10,radius=4.",
            panel=ATTACK,
            metavar="NAME[:SETTING=VALUE,...]",
            completions=CountermeasureName,
        ),
    ] = None
    fractions: Annotated[
        tuple[float, ...] | None,
        Option(
            flags="--protected-fraction",
            help="Also try a release of which only this share is protected, and its clean part alone; may be repeated.",
            panel=ATTACK,
            metavar="SHARE",
        ),
    ] = None
    start: Annotated[
        str | None,
        Option(
            flags="--start",
            help="Backbone to start from: a .safetensors file, or timm:NAME for a network of timm.",
            panel=ATTACK,
            metavar="FILE|timm:NAME",
            file_or_name=True,
        ),
    ] = None
    pretrain_images: Annotated[
        Path | None,
        Option(
            flags="--pretrain-images",
            help="Other clean images; the start is trained on them first.",
            panel=ATTACK,
            metavar="DIR",
            takes="folder",
            exists=True,
        ),
    ] = None
    pretrain_labels: Annotated[
        Path | None,
        Option(
            flags="--pretrain-labels",
            help="Their labels.",
            panel=ATTACK,
            metavar="FILE",
            takes="file",
            exists=True,
        ),
    ] = None
    epochs: Annotated[
        int | None,
        Option(
            flags="--epochs",
            help="Passes of every victim over the images. Unset: 8, or the tier's; --tier converged takes as many as "
            "its steps need.",
            panel=TRAINING,
            metavar="N",
            minimum=1,
        ),
    ] = None
    size: Annotated[
        int,
        Option(
            flags="--size",
            help="Side of the random crops that a victim sees, of images a tenth larger.",
            panel=TRAINING,
            metavar="PIXELS",
            minimum=16,
            maximum=512,
        ),
    ] = 64
    batch_size: Annotated[
        int | None,
        Option(
            flags="--batch-size -b",
            help="Images per training step. Unset: 128, or the tier's.",
            panel=TRAINING,
            metavar="N",
            minimum=2,
        ),
    ] = None
    learning_rate: Annotated[
        float,
        Option(
            flags="--learning-rate",
            help="Adam's learning rate.",
            panel=TRAINING,
            metavar="RATE",
            minimum=1e-7,
            maximum=10.0,
            shared=True,
        ),
    ] = 1e-3
    metric: Annotated[MetricName, Option(flags="--metric", help="What victims are judged by.", panel=OUTPUT)] = (
        MetricName.ACCURACY
    )
    max_learned: Annotated[
        float,
        Option(
            flags="--max-learned",
            help="Highest average learned fraction that still counts as protected: 0 nothing, 1 as from clean images.",
            panel=OUTPUT,
            metavar="FRACTION",
            minimum=-10.0,
            maximum=1.0,
        ),
    ] = 0.25
    control: Annotated[
        bool,
        Option(
            flags="--control/--no-control",
            help="Also train a victim on plain noise of the same epsilon, which must not protect.",
            panel=ATTACK,
        ),
    ] = True
    probes: Annotated[
        bool,
        Option(
            flags="--probes/--no-probes",
            help="Also measure how well a linear model detects protected images and reads their labels.",
            panel=ATTACK,
        ),
    ] = True
    seeds: Annotated[
        int,
        Option(
            flags="--seeds",
            help="Victims per condition, with seeds from --seed on; figures become means with an interval.",
            panel=TRAINING,
            metavar="N",
            minimum=1,
            maximum=100,
        ),
    ] = 1
    cache: Annotated[
        Path | None,
        Option(
            flags="--cache",
            help="Folder of finished victims. Unset: mtlue/verify in the user's cache folder.",
            panel=OUTPUT,
            metavar="DIR",
            takes="folder",
        ),
    ] = None
    limit: Limit = None
    seed: Seed = 0
    device: Device = "auto"
    workers: Workers = field(default_factory=usable_threads)
    command_line: str = ""

    @property
    def side(self) -> int:
        """Side in pixels of the square images that are loaded."""
        return max(round(self.size * MARGIN), self.size)

    @property
    def seed_range(self) -> range:
        """Seeds of the victims of every condition."""
        return range(self.seed, self.seed + self.seeds)

    @property
    def has_start(self) -> bool:
        """Whether fine-tuned victims have something to start from."""
        return self.start is not None or self.pretrain_images is not None

    def with_test_labels(self) -> "VerifyConfig":
        """This config with the labels that lie among the test images, if none are named and there are any."""
        from mtlue_cli.layouts.find import find_labels

        if self.test is None or self.test_labels is not None or not self.test.is_dir():
            return self
        try:
            return replace(self, test_labels=find_labels(self.test, self.reading.format))
        except InputError:
            return self

    @property
    def whole_reading(self) -> LabelOptions:
        """How labels of other folders than ``clean`` are read: a split is of ``clean`` alone."""
        return replace(self.reading, split_file=None)

    @property
    def has_own_test(self) -> bool:
        """Whether test images are given, rather than held out of the training images."""
        return self.test is not None or self.reading.split_file is not None

    def settings_to_json(self) -> dict[str, Any]:
        """All of it, JSON-ready, without the command line; ``epochs`` is final once the training images are known."""
        document = {name: _plain(value) for name, value in asdict(self).items() if name != "command_line"}
        document["reading"].pop("maps_folder")
        plan = self.plan
        return {
            **document,
            "epochs": plan.epochs,
            "least_steps": plan.least_steps,
            "batch_size": plan.batch_size,
            "limit": plan.limit,
        }

    @cached_property
    def plan(self) -> "VerifyPlan":
        """What is to be run; made once, since it looks into the release."""
        from mtlue_cli.workflows.verify.settings import planned  # brings torch

        return planned(self)


def check_options(config: VerifyConfig) -> None:
    """Refuse options that do not go together.

    Raises:
        InputError: Says what, and what to do instead.
    """
    if (config.protected is None) == (config.weights is None):
        raise InputError("give exactly one of --protected and --weights: a release to judge, or a generator")
    if config.key is not None and config.weights is None:
        raise InputError("--key needs --weights: a release is judged as it is")
    if (config.test is None) != (config.test_labels is None):
        raise InputError("--test and --test-labels belong together: a folder of clean test images and its labels")
    if not config.has_own_test and not 0 < config.test_fraction < 1:
        raise InputError(f"--test-fraction is {config.test_fraction:g}, expected a share between 0 and 1")
    if config.protected is not None and not config.protected.is_dir():
        raise InputError(f"{config.protected} is not a folder", hint="make a release with mtlue protect")
    if config.protected is not None and config.protected.resolve() == config.clean.resolve():
        raise InputError("the release and the clean images are the same folder")
    odd = [share for share in config.fractions or () if not 0 < share < 1]
    if odd:
        raise InputError(f"--protected-fraction is {odd[0]:g}, expected a share between 0 and 1")
    if (config.pretrain_images is None) != (config.pretrain_labels is None):
        raise InputError("--pretrain-images and --pretrain-labels belong together: other clean images and their labels")
    if config.start is not None and config.pretrain_images is not None:
        raise InputError("give one of --start and --pretrain-images: an existing start, or one to be trained")
    if config.seeds < 1:
        raise InputError(f"--seeds is {config.seeds}, expected at least 1")


def _plain(value: Any) -> Any:  # noqa: ANN401 - whatever a setting holds
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Mapping):
        return {name: _plain(part) for name, part in value.items()}
    return [_plain(part) for part in value] if isinstance(value, tuple) else value
