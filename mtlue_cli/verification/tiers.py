"""What a tier tries, and what a run leaves untried."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from mtlue_cli.choices import (
    BackboneName,
    CountermeasureName,
    LearnerName,
    ProbeName,
    Tier,
    TrainingMethodName,
    WeightingName,
)
from mtlue_cli.documents import Document
from mtlue_cli.training.methods import METHODS
from mtlue_cli.verification.conditions import Condition, VictimSpec
from mtlue_cli.verification.countermeasures.base import CountermeasureChoice
from mtlue_cli.verification.countermeasures.registry import COUNTERMEASURES, countermeasures_of


@dataclass(frozen=True)
class TierSpec:
    """What one tier tries unless options say otherwise.

    Attributes:
        epochs: Passes of every victim over the images; at least, where ``least_steps`` asks for more.
        batch_size: Images per step.
        victims: The first is tried with everything, the others on clean images and the release.
        countermeasures: Tried with the first victim.
        limit: Images that are used at most; None: all.
        fractions: Shares of the release that are protected.
        least_steps: Optimiser steps of every victim at least: with few images it takes more epochs to reach them.
    """

    epochs: int
    batch_size: int
    victims: tuple[VictimSpec, ...]
    countermeasures: tuple[CountermeasureChoice, ...]
    limit: int | None = None
    fractions: tuple[float, ...] = ()
    least_steps: int = 0


PAPER_WEIGHTINGS = (WeightingName.UW, WeightingName.RLW, WeightingName.ALIGNED_MTL, WeightingName.FAIRGRAD)
"""Those of Yu et al., ICML 2025, beside linear scalarisation, which every tier uses."""

_NAMED_ONLY = (BackboneName.RESNET18, BackboneName.EFFICIENTNET_LITE2)
"""The first comes first, and the other is there for its ImageNet weights, which are an extra."""

_STANDARD_VICTIMS = (
    VictimSpec(),
    VictimSpec(learner=LearnerName.STL),
    *(VictimSpec(backbone) for backbone in BackboneName if backbone not in _NAMED_ONLY),
    *(VictimSpec(weighting=weighting) for weighting in PAPER_WEIGHTINGS),
    VictimSpec(method=METHODS[TrainingMethodName.SPARSE]),
    VictimSpec(method=METHODS[TrainingMethodName.STAGED]),
)

TIERS: Mapping[Tier, TierSpec] = {
    Tier.SMOKE: TierSpec(
        # With 8,000 images an epoch has 125 steps, as in the converged tier: a best epoch after fewer steps says how
        # fast a network learns from pictures, whatever was added to them.
        epochs=3,
        least_steps=375,
        limit=8000,
        batch_size=64,
        victims=(VictimSpec(BackboneName.SMALL),),
        countermeasures=countermeasures_of(Tier.SMOKE),
    ),
    Tier.STANDARD: TierSpec(
        epochs=30,
        batch_size=128,
        victims=_STANDARD_VICTIMS,
        countermeasures=countermeasures_of(Tier.STANDARD),
        fractions=(0.5,),
    ),
    Tier.FULL: TierSpec(
        epochs=60,
        batch_size=128,
        # Each weighting once: those that the standard tier has come first.
        victims=tuple(dict.fromkeys((*_STANDARD_VICTIMS, *(VictimSpec(weighting=name) for name in WeightingName)))),
        countermeasures=countermeasures_of(Tier.FULL),
        fractions=(0.2, 0.5, 0.8),
    ),
    Tier.CONVERGED: TierSpec(
        epochs=24,
        least_steps=3000,
        batch_size=64,
        victims=(VictimSpec(BackboneName.SMALL),),
        # The cheapest way past a perturbation in colour; each further one costs more than the smoke tier.
        countermeasures=(COUNTERMEASURES[CountermeasureName.GRAYSCALE],),
    ),
    Tier.ADAPTIVE: TierSpec(
        epochs=27,
        batch_size=64,
        victims=(VictimSpec(BackboneName.SMALL),),
        countermeasures=countermeasures_of(Tier.STANDARD),
    ),
}


class NotTested(Document, frozen=True):
    """What a run left out; it did not pass.

    Attributes:
        name: A condition or probe that exists and was not run.
        reason: Why.
    """

    name: str
    reason: str


def not_tested(conditions: Sequence[Condition], probes: Collection[ProbeName]) -> tuple[NotTested, ...]:
    """Everything on offer that ``conditions`` and ``probes`` leave out; a reader must not take it for passed."""
    victims = {condition.victim for condition in conditions}
    countermeasures = {found.countermeasure.variant for found in conditions if found.countermeasure is not None}
    tried: list[tuple[str, type[StrEnum], Collection[str]]] = [
        ("backbone", BackboneName, {victim.backbone for victim in victims}),
        ("learner", LearnerName, {victim.learner for victim in victims}),
        ("weighting", WeightingName, {one.weighting for one in victims if one.learner is LearnerName.MTL}),
        ("method", TrainingMethodName, {victim.method.variant for victim in victims}),
        ("countermeasure", CountermeasureName, countermeasures),
        ("probe", ProbeName, probes),
    ]
    missing = [f"{kind} {name}" for kind, names, done in tried for name in names if name not in done]
    if all(condition.protected_fraction == 1 for condition in conditions):
        missing.append("a release that is protected in part")
    if not any(condition.trajectory for condition in conditions):
        missing.append("a sequence of releases with fewer and fewer protected images")
    return tuple(NotTested(name, "not part of this run") for name in missing)
