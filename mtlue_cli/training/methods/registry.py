"""All ways of training by name."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from mtlue_cli.choices import TrainingMethodName
from mtlue_cli.errors import InputError
from mtlue_cli.training.methods.base import TrainingMethod
from mtlue_cli.training.methods.full_fine_tuning import FullFineTuning
from mtlue_cli.training.methods.gradient_selection import GradientSelection, GradientSelectionSettings
from mtlue_cli.training.methods.head_only import HeadOnly
from mtlue_cli.training.methods.scratch import FromScratch
from mtlue_cli.training.methods.sparse import SparseSettings, SparseTraining
from mtlue_cli.training.pretrained import PretrainedStart


@dataclass(frozen=True)
class MethodSettings:
    """The settings of all ways of training; each takes its own."""

    sparse: SparseSettings = field(default_factory=SparseSettings)
    gps: GradientSelectionSettings = field(default_factory=GradientSelectionSettings)


@dataclass(frozen=True)
class MethodSpec:
    """One way of training.

    Attributes:
        build: Makes it, from a start and the settings of all.
        needs_start: Whether it cannot do without a start.
    """

    build: Callable[[PretrainedStart | None, MethodSettings], TrainingMethod]
    needs_start: bool


def _scratch(start: PretrainedStart | None, settings: MethodSettings) -> TrainingMethod:  # noqa: ARG001 - shared signature
    return FromScratch()


def _sparse(start: PretrainedStart | None, settings: MethodSettings) -> TrainingMethod:
    return SparseTraining(settings.sparse, start)


def _gps(start: PretrainedStart | None, settings: MethodSettings) -> TrainingMethod:
    return GradientSelection(settings.gps, _needed(start, TrainingMethodName.GPS))


def _head(start: PretrainedStart | None, settings: MethodSettings) -> TrainingMethod:  # noqa: ARG001 - shared signature
    return HeadOnly(_needed(start, TrainingMethodName.HEAD))


def _full(start: PretrainedStart | None, settings: MethodSettings) -> TrainingMethod:  # noqa: ARG001 - shared signature
    return FullFineTuning(_needed(start, TrainingMethodName.FULL))


METHODS: Mapping[TrainingMethodName, MethodSpec] = {
    TrainingMethodName.SCRATCH: MethodSpec(_scratch, needs_start=False),
    TrainingMethodName.SPARSE: MethodSpec(_sparse, needs_start=False),
    TrainingMethodName.GPS: MethodSpec(_gps, needs_start=True),
    TrainingMethodName.HEAD: MethodSpec(_head, needs_start=True),
    TrainingMethodName.FULL: MethodSpec(_full, needs_start=True),
}


def build_method(
    name: TrainingMethodName, start: PretrainedStart | None = None, settings: MethodSettings | None = None
) -> TrainingMethod:
    """A fresh way of training, for one run.

    Args:
        name: Which.
        start: A pretrained backbone; training from scratch leaves it unused, sparse training starts from it if given.
        settings: Of all ways of training; None: their defaults.

    Raises:
        InputError: It needs a start, and there is none.
    """
    return METHODS[name].build(start, settings or MethodSettings())


def _needed(start: PretrainedStart | None, name: TrainingMethodName) -> PretrainedStart:
    if start is None:
        raise InputError(
            f"training method {name.value!r} starts from a pretrained backbone, and none is given",
            hint="give one with --start FILE|timm:NAME, or images to train one on first with "
            "--pretrain-images DIR --pretrain-labels FILE",
        )
    return start
