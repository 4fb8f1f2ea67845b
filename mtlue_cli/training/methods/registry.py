"""All training methods by name."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from mtlue_cli.choices import TrainingMethodName
from mtlue_cli.errors import InputError
from mtlue_cli.training.methods.base import TrainingMethod
from mtlue_cli.training.methods.full_fine_tuning import FullFineTuning
from mtlue_cli.training.methods.gradient_selection import GradientSelection, GradientSelectionSettings
from mtlue_cli.training.methods.head_only import HeadOnly
from mtlue_cli.training.methods.scratch import FromScratch
from mtlue_cli.training.methods.sparse import SparseSettings, SparseTraining
from mtlue_cli.training.named_settings import Choice, NoSettings, choose
from mtlue_cli.training.pretrained import PretrainedStart

SettingsT = TypeVar("SettingsT")


@dataclass(frozen=True, kw_only=True)
class MethodChoice(Choice[SettingsT]):
    """One training method with its settings.

    Attributes:
        make: Makes it, from a start and its settings.
        needs_start: Whether it cannot do without a start.
    """

    make: Callable[[PretrainedStart | None, SettingsT], TrainingMethod]
    needs_start: bool = False

    def build(self, start: PretrainedStart | None = None) -> TrainingMethod:
        """A fresh one, for one run.

        Args:
            start: A pretrained backbone; training from scratch leaves it unused, sparse training starts from it if
                given.

        Raises:
            InputError: It needs a start, and there is none.
        """
        return self.make(start, self.settings)


def _scratch(start: PretrainedStart | None, settings: NoSettings) -> TrainingMethod:  # noqa: ARG001 - shared signature
    return FromScratch()


def _sparse(start: PretrainedStart | None, settings: SparseSettings) -> TrainingMethod:
    return SparseTraining(settings, start)


def _gps(start: PretrainedStart | None, settings: GradientSelectionSettings) -> TrainingMethod:
    return GradientSelection(settings, _needed(start, TrainingMethodName.GPS))


def _head(start: PretrainedStart | None, settings: NoSettings) -> TrainingMethod:  # noqa: ARG001 - shared signature
    return HeadOnly(_needed(start, TrainingMethodName.HEAD))


def _full(start: PretrainedStart | None, settings: NoSettings) -> TrainingMethod:  # noqa: ARG001 - shared signature
    return FullFineTuning(_needed(start, TrainingMethodName.FULL))


METHODS: Mapping[str, MethodChoice[Any]] = {
    method.name: method
    for method in (
        MethodChoice(name=TrainingMethodName.SCRATCH, settings=NoSettings(), make=_scratch),
        MethodChoice(name=TrainingMethodName.SPARSE, settings=SparseSettings(), make=_sparse),
        MethodChoice(name=TrainingMethodName.GPS, settings=GradientSelectionSettings(), make=_gps, needs_start=True),
        MethodChoice(name=TrainingMethodName.HEAD, settings=NoSettings(), make=_head, needs_start=True),
        MethodChoice(name=TrainingMethodName.FULL, settings=NoSettings(), make=_full, needs_start=True),
    )
}


def method_named(name: str) -> MethodChoice[Any]:
    """The training method that ``--method NAME[:SETTING=VALUE,...]`` names.

    Raises:
        InputError: There is none, or its settings are at fault.
    """
    return choose("method", name, METHODS.values())


def _needed(start: PretrainedStart | None, name: TrainingMethodName) -> PretrainedStart:
    if start is None:
        raise InputError(
            f"training method {name.value!r} starts from a pretrained backbone, and none is given",
            hint="give one with --start FILE|timm:NAME, or images to train one on first with "
            "--pretrain-images DIR --pretrain-labels FILE",
        )
    return start
