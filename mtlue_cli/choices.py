"""Values that options accept, and exit codes. Imports nothing heavy: ``--help`` loads this module."""

from enum import IntEnum, StrEnum

MAX_EPSILON = 64
"""Largest bound that any command accepts, in 255ths."""


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
    """How a task is labelled."""

    BINARY = "binary"
    CATEGORICAL = "categorical"


class ObjectiveName(StrEnum):
    """The base method a generator is trained on."""

    EM = "em"
    TAP = "tap"
    SEP = "sep"


class BackboneName(StrEnum):
    """The shared part of a surrogate or victim."""

    RESNET18 = "resnet18"
    RESNET50 = "resnet50"
    VGG16 = "vgg16"
    DENSENET121 = "densenet121"
    VIT_B_16 = "vit_b_16"
    SMALL = "small"


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


class ImageFormat(StrEnum):
    """How protected images are written."""

    PNG = "png"
    WEBP = "webp"
    KEEP = "keep"


class Precision(StrEnum):
    """Arithmetic of training."""

    AUTO = "auto"
    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"
