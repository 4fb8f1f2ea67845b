"""All ways of training by name."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Generic, TypeVar

from mtlue_cli.choices import TrainingMethodName
from mtlue_cli.errors import InputError
from mtlue_cli.training.methods.base import TrainingMethod
from mtlue_cli.training.methods.full_fine_tuning import FullFineTuning
from mtlue_cli.training.methods.gradient_selection import GradientSelection, GradientSelectionSettings
from mtlue_cli.training.methods.head_only import HeadOnly
from mtlue_cli.training.methods.scratch import FromScratch
from mtlue_cli.training.methods.sparse import SparseSettings, SparseTraining
from mtlue_cli.training.named_settings import Entry, NoSettings, configure, to_json
from mtlue_cli.training.pretrained import PretrainedStart

SettingsT = TypeVar("SettingsT")


@dataclass(frozen=True)
class MethodSpec(Generic[SettingsT]):
    """One way of training.

    Attributes:
        build: Makes it, from a start and its settings.
        settings: Those that it has unless told otherwise.
        needs_start: Whether it cannot do without a start.
    """

    build: Callable[[PretrainedStart | None, SettingsT], TrainingMethod]
    settings: SettingsT
    needs_start: bool


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


METHODS: Mapping[TrainingMethodName, MethodSpec[Any]] = {
    TrainingMethodName.SCRATCH: MethodSpec(_scratch, NoSettings(), needs_start=False),
    TrainingMethodName.SPARSE: MethodSpec(_sparse, SparseSettings(), needs_start=False),
    TrainingMethodName.GPS: MethodSpec(_gps, GradientSelectionSettings(), needs_start=True),
    TrainingMethodName.HEAD: MethodSpec(_head, NoSettings(), needs_start=True),
    TrainingMethodName.FULL: MethodSpec(_full, NoSettings(), needs_start=True),
}

ENTRIES = tuple(Entry(name.value, spec.settings, name.value) for name, spec in METHODS.items())
"""What ``--method`` may name."""


@dataclass(frozen=True)
class Way:
    """A way of training under given settings.

    Attributes:
        name: As ``--method`` takes it, such as ``sparse`` or ``sparse:share=0.1``.
        entry: Which it is.
        settings: All of its settings.
    """

    name: str
    entry: TrainingMethodName
    settings: Any

    @property
    def needs_start(self) -> bool:
        """Whether it cannot do without a start."""
        return METHODS[self.entry].needs_start

    def build(self, start: PretrainedStart | None = None) -> TrainingMethod:
        """A fresh one, for one run.

        Args:
            start: A pretrained backbone; training from scratch leaves it unused, sparse training starts from it if
                given.

        Raises:
            InputError: It needs a start, and there is none.
        """
        return METHODS[self.entry].build(start, self.settings)

    def settings_to_json(self) -> dict[str, Any]:
        """Every setting by name."""
        return to_json(self.settings)


@cache
def way_named(name: str) -> Way:
    """The way of training that ``--method NAME[:SETTING=VALUE,...]`` names.

    Raises:
        InputError: There is none, or its settings are at fault.
    """
    found = configure("method", str(name), ENTRIES)
    return Way(found.name, TrainingMethodName(found.entry), found.settings)


def _needed(start: PretrainedStart | None, name: TrainingMethodName) -> PretrainedStart:
    if start is None:
        raise InputError(
            f"training method {name.value!r} starts from a pretrained backbone, and none is given",
            hint="give one with --start FILE|timm:NAME, or images to train one on first with "
            "--pretrain-images DIR --pretrain-labels FILE",
        )
    return start
