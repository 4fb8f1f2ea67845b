"""Values that options accept, and exit codes. Imports nothing heavy: ``--help`` loads this module."""

from collections.abc import Iterable
from enum import IntEnum, StrEnum

MAX_EPSILON = 64
"""Largest bound that any command accepts, in 255ths."""

FEW_TASKS = 8
"""Up to so many columns TAP trains through the distortions of attackers: measured with 3 and with 40, not between."""

TRAIN_MINUTES = 15.0
"""Time limit for the weights that ``protect`` trains on the given images, in minutes; the default of ``--train``."""

FEWEST_IMAGES = 500
"""Labelled images below which ``protect`` does not train. Chosen, not measured; 800 were enough (docs/results.md)."""

USEFUL_STEPS = 1100
"""Steps from which training was measured to protect: tap, in luminance (docs/research/luminance.md)."""

QUICK_EPSILON = 5
"""Bound in 255ths of ready-made patterns for at most :data:`FEW_TASKS` columns of image labels: FLIP 0.127 in place of
0.176. Of CelebA's forty columns 0.29 are learned with it, and of more columns all of the bound is taken
(docs/research/quick.md)."""

FIRST_ALONE = 1500
"""Steps against the first of several surrogates, before all take turns: more than training against one needs to protect
(docs/research/surrogates.md). So a run that is too short for several is one against the first. Measured with tap and
three columns."""

CPU_CALL_SIZE = 8
"""Images per call of the network on a CPU, where 8 stay in its cache: 1.9 ms per image at 72 pixels on one core,
and 2.9 ms with 16."""

GPU_CALL_SIZE = 256
"""Images per call of the network on a GPU, unless memory runs out or the user says otherwise."""

LEAST_COPY_SHARE = 0.8
"""Share of the perturbation that a copy must have left, unless the user says otherwise. Victims that were trained to
the end learned at most 0.10 with 0.85 left; short ones learned 0.26 with 0.75 left, 0.89 with half (docs/trace.md)."""

FLIP_LOW, FLIP_NORMAL = 0.09, 0.13
"""Mean FLIP that training with ``--visibility low`` and ``normal`` aims at."""

TRACE_LEVELS = 6
"""Bound in 255ths of the codes that ``--traceable`` without a number adds."""

MAX_PATTERN_CELLS = 256
"""Largest side in cells of patterns that a checkpoint or a release may state."""

MAX_PIXELS = 178_956_970
"""Larger photos are refused unless the user says otherwise; Pillow's own limit."""


class ExitCode(IntEnum):
    """What the process says when it ends."""

    SUCCESS = 0
    UNEXPECTED = 1
    INPUT = 2
    QUARANTINE = 3
    NOT_PROTECTED = 4
    INCONCLUSIVE = 5
    INTERRUPTED = 130


class TaskKind(StrEnum):
    """How a task is labelled: an image by a class, or every pixel of it by a class or a number (a dense task)."""

    BINARY = "binary"
    CATEGORICAL = "categorical"
    SEGMENTATION = "segmentation"
    DEPTH = "depth"
    NORMALS = "normals"

    @property
    def is_dense(self) -> bool:
        """Whether the label is a map as large as the image."""
        return self not in (TaskKind.BINARY, TaskKind.CATEGORICAL)


class LabelFormat(StrEnum):
    """How labels are written down."""

    CSV = "csv"
    TSV = "tsv"
    JSONL = "jsonl"
    PARQUET = "parquet"
    CELEBA = "celeba"
    NIH = "nih"
    UTKFACE = "utkface"
    NYUV2 = "nyuv2"
    IMAGEFOLDER = "imagefolder"
    VOC = "voc"
    CITYSCAPES = "cityscapes"
    ADE20K = "ade20k"
    COCO = "coco"


class SplitPart(StrEnum):
    """A part of a data set whose authors divided it."""

    TRAIN = "train"
    VALIDATION = "validation"
    TEST = "test"


class Uncertain(StrEnum):
    """What a cell becomes that says that the class is uncertain."""

    UNLABELLED = "unlabelled"
    POSITIVE = "positive"
    NEGATIVE = "negative"


class Unlabelled(StrEnum):
    """What happens to an image that has no row in the labels."""

    PROTECT = "protect"
    SKIP = "skip"
    FAIL = "fail"


class EngineName(StrEnum):
    """Where units of work run."""

    LOCAL = "local"
    RAY = "ray"


class ObjectiveName(StrEnum):
    """The base method a generator is trained on."""

    EM = "em"
    TAP = "tap"
    SEP = "sep"


class Visibility(StrEnum):
    """How much of a trained perturbation people may see."""

    LOW = "low"
    NORMAL = "normal"
    HIGH = "high"


class BackboneName(StrEnum):
    """The shared part of a surrogate or victim."""

    RESNET18 = "resnet18"
    RESNET18_SMALL_STEM = "resnet18-small-stem"
    RESNET50 = "resnet50"
    VGG16 = "vgg16"
    DENSENET121 = "densenet121"
    VIT_B_16 = "vit_b_16"
    SMALL = "small"
    EFFICIENTNET_LITE0 = "efficientnet-lite0"
    EFFICIENTNET_LITE2 = "efficientnet-lite2"


class WeightingName(StrEnum):
    """How a multi-task victim puts the losses of its tasks together."""

    LS = "ls"
    UW = "uw"
    RLW = "rlw"
    ALIGNED_MTL = "aligned-mtl"
    FAIRGRAD = "fairgrad"
    EXCESS_MTL = "excess-mtl"
    DWA = "dwa"
    PCGRAD = "pcgrad"
    CAGRAD = "cagrad"
    MGDA = "mgda"
    IMTL_G = "imtl-g"
    NASH_MTL = "nash-mtl"
    UPGRAD = "upgrad"


class MetricName(StrEnum):
    """What a victim is judged by."""

    ACCURACY = "accuracy"
    BALANCED = "balanced-accuracy"
    AUROC = "auroc"


class Tier(StrEnum):
    """How much a verification tries.

    Smoke, standard and full form a chain: each includes those before it. Converged and adaptive stand beside the chain:
    the one tries little and trains long, the other trains long what is strongest in short runs. Text compares by its
    letters, so ask :meth:`includes` rather than ``<``.
    """

    SMOKE = "smoke"
    STANDARD = "standard"
    FULL = "full"
    CONVERGED = "converged"
    ADAPTIVE = "adaptive"

    def includes(self, other: "Tier") -> bool:
        """Whether whoever runs this tier runs what belongs to ``other``."""
        chain = [Tier.SMOKE, Tier.STANDARD, Tier.FULL]
        if self not in chain or other not in chain:
            return self is other
        return chain.index(other) <= chain.index(self)


class CountermeasureName(StrEnum):
    """What an attacker does so that his network learns from a protected release all the same."""

    JPEG_10 = "jpeg-10"
    JPEG_30 = "jpeg-30"
    JPEG_50 = "jpeg-50"
    JPEG_75 = "jpeg-75"
    GRAYSCALE = "grayscale"
    BIT_DEPTH = "bit-depth"
    GAUSSIAN_BLUR = "gaussian-blur"
    LOW_PASS = "low-pass"
    CHROMA_LOW_PASS = "chroma-low-pass"
    RESIZE = "resize"
    GAUSSIAN_NOISE = "gaussian-noise"
    CUTOUT = "cutout"
    MIXUP = "mixup"
    CUTMIX = "cutmix"
    RANDOM_RESIZED_CROP = "random-resized-crop"
    COLOUR_JITTER = "colour-jitter"
    RANDOM_INTERPOLATION = "random-interpolation"
    RANDOM_SHARPENING = "random-sharpening"
    NONLINEAR = "nonlinear"
    LABEL_REGRESSION = "label-regression"
    ORTHOGONAL_PROJECTION = "orthogonal-projection"
    UERASER = "ueraser"
    FGSM_TRAINING = "fgsm-training"
    ADVERSARIAL_TRAINING = "adversarial-training"
    PURIFICATION = "purification"
    PAIR_PURIFICATION = "pair-purification"
    PAIR_REMOVER = "pair-remover"
    RECOMPUTE_REMOVAL = "recompute-removal"
    EARLY_STOP = "early-stop"


class TrainingMethodName(StrEnum):
    """Where a victim starts from, and which of its parameters change."""

    SCRATCH = "scratch"
    SPARSE = "sparse"
    STAGED = "staged"
    GPS = "gps"
    HEAD = "head"
    FULL = "full"
    RES_CBM = "res-cbm"


class LearnerName(StrEnum):
    """How many networks a victim is: one for all tasks, or one per task."""

    MTL = "mtl"
    STL = "stl"


class ProbeName(StrEnum):
    """What is read off a release without training a victim on it."""

    DETECTABILITY = "detectability"
    LABEL_RECOVERY = "label-recovery"


class ImageFormat(StrEnum):
    """How protected images are written."""

    PNG = "png"
    WEBP = "webp"
    JXL = "jxl"
    KEEP = "keep"


class Quality(StrEnum):
    """How strongly a JPEG that stays one is compressed."""

    HIGH = "95"
    SAME = "same"


class MetadataGroup(StrEnum):
    """What a photo's file says beside its pixels, by what it is about."""

    COPYRIGHT = "copyright"
    CAMERA = "camera"
    TIME = "time"
    DESCRIPTION = "description"
    PLACE = "place"


def metadata_groups(kept: bool | Iterable[MetadataGroup]) -> tuple[MetadataGroup, ...]:
    """The groups that a setting names; True is all but the place."""
    if isinstance(kept, bool):
        return tuple(group for group in MetadataGroup if group is not MetadataGroup.PLACE) if kept else ()
    return tuple(kept)


class Precision(StrEnum):
    """Arithmetic of training."""

    AUTO = "auto"
    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"
