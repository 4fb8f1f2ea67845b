"""Which objective needs what, and how it is made."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from torch import nn

from mtlue_cli.choices import ObjectiveName
from mtlue_cli.objectives.base import Objective
from mtlue_cli.objectives.error_minimizing import ErrorMinimizing, ErrorMinimizingSettings
from mtlue_cli.objectives.learnable import Learnable
from mtlue_cli.objectives.self_ensemble import SelfEnsemble, SelfEnsembleSettings
from mtlue_cli.objectives.targeted_adversarial import TargetedAdversarial
from mtlue_cli.tasks.spec import TaskSet


@dataclass(frozen=True)
class Ingredients:
    """What objectives are made from; each takes what it needs.

    Attributes:
        tasks: The tasks.
        clean: Checkpoints of a clean-trained surrogate, oldest first.
        fresh: Makes an untrained surrogate from a seed.
        seed: Of whatever the objective draws.
        learnability: Weight of an error-minimising companion beside TAP and SEP; 0 goes without.
    """

    tasks: TaskSet
    clean: Sequence[nn.Module]
    fresh: Callable[[int], nn.Module]
    seed: int
    learnability: float = 0.0


@dataclass(frozen=True)
class ObjectiveSpec:
    """One objective.

    Attributes:
        build: Makes it.
        clean_checkpoints: How many last checkpoints of a clean surrogate it needs; 0 if it trains its own.
    """

    build: Callable[[Ingredients], Objective]
    clean_checkpoints: int


def _em(given: Ingredients) -> ErrorMinimizing:
    return ErrorMinimizing(given.tasks, given.fresh, ErrorMinimizingSettings(), given.seed)


def _tap(given: Ingredients) -> Objective:
    return _with_companion(TargetedAdversarial(given.tasks, given.clean[-1]), given)


def _sep(given: Ingredients) -> Objective:
    return _with_companion(SelfEnsemble(given.tasks, given.clean, SelfEnsembleSettings(), given.seed), given)


def _with_companion(main: Objective, given: Ingredients) -> Objective:
    return Learnable(main, _em(given), given.learnability) if given.learnability else main


OBJECTIVES: Mapping[ObjectiveName, ObjectiveSpec] = {
    ObjectiveName.EM: ObjectiveSpec(_em, 0),
    ObjectiveName.TAP: ObjectiveSpec(_tap, 1),
    ObjectiveName.SEP: ObjectiveSpec(_sep, 15),
}
