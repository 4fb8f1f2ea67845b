"""What victims there are, and what each is trained on."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import Any

from mtlue_cli.choices import BackboneName, LearnerName, TrainingMethodName, WeightingName
from mtlue_cli.training.methods.registry import METHODS, MethodChoice
from mtlue_cli.verification.countermeasures.base import CountermeasureChoice


class Material(StrEnum):
    """Which training images a victim gets."""

    CLEAN = "clean"
    RELEASE = "release"
    NOISE = "noise"
    CLEAN_PART = "clean part"


class Role(StrEnum):
    """What a condition is there for."""

    REFERENCE = "reference"
    JUDGED = "judged"
    CONTROL = "control"
    COMPARISON = "comparison"


@dataclass(frozen=True)
class VictimSpec:
    """One kind of victim.

    Attributes:
        backbone: Its network.
        learner: One network for all tasks, or one per task.
        weighting: How the losses of several tasks are put together; plays no part for one network per task.
        method: Where it starts from, and what of it is trained.
    """

    backbone: BackboneName = BackboneName.RESNET18
    learner: LearnerName = LearnerName.MTL
    weighting: WeightingName = WeightingName.LS
    method: MethodChoice[Any] = METHODS[TrainingMethodName.SCRATCH]

    @property
    def name(self) -> str:
        """Such as ``resnet18`` or ``vit_b_16 stl``; what is usual goes without saying."""
        usual = VictimSpec()
        named = [
            part
            for part, default in (
                (self.learner.value, usual.learner),
                (self.weighting.value, usual.weighting),
                (self.method.name, usual.method.name),
            )
            if part != default
        ]
        return " ".join([self.backbone.value, *named])


@dataclass(frozen=True)
class Condition:
    """One row of the experiment: a victim, and what it is trained on.

    Attributes:
        victim: Which.
        material: Training images.
        countermeasure: What the attacker does against the protection; None: nothing.
        protected_fraction: Share of the release that is protected; below 1 the rest is clean.
    """

    victim: VictimSpec
    material: Material = Material.RELEASE
    countermeasure: CountermeasureChoice[Any] | None = None
    protected_fraction: float = 1.0

    @property
    def name(self) -> str:
        """What a table calls it; no two conditions of one plan share a name."""
        # Exact, for shares that differ must read differently.
        share = f"{(100 * Decimal(str(self.protected_fraction))).normalize():f} % protected"
        name = {
            Material.CLEAN: f"{self.victim.name}: clean images",
            Material.RELEASE: self.victim.name,
            Material.NOISE: f"{self.victim.name}: noise",
            Material.CLEAN_PART: f"{self.victim.name}: the clean part of {share} alone",
        }[self.material]
        if self.material is Material.RELEASE and self.protected_fraction < 1:
            name += f": {share}"
        if self.countermeasure is not None:
            name += f" + {self.countermeasure.name}"
        return name

    @property
    def role(self) -> Role:
        """Only a release that is protected as a whole can fail to protect."""
        if self.material is Material.CLEAN:
            return Role.REFERENCE
        if self.material is Material.NOISE:
            return Role.CONTROL
        if self.material is Material.CLEAN_PART or self.protected_fraction < 1:
            return Role.COMPARISON
        return Role.JUDGED


def plan_victims(
    backbones: Sequence[BackboneName],
    learners: Sequence[LearnerName],
    weightings: Sequence[WeightingName],
    methods: Sequence[MethodChoice[Any]],
) -> tuple[VictimSpec, ...]:
    """Every combination once, in the order given; one network per task knows no weighting."""
    found: dict[VictimSpec, None] = {}
    for backbone in backbones:
        for method in methods:
            for learner in learners:
                for weighting in weightings if learner is LearnerName.MTL else [WeightingName.LS]:
                    found[VictimSpec(backbone, learner, weighting, method)] = None
    return tuple(found)


def plan_conditions(
    victims: Sequence[VictimSpec],
    countermeasures: Sequence[CountermeasureChoice[Any]] = (),
    fractions: Sequence[float] = (),
    *,
    control: bool = True,
) -> tuple[Condition, ...]:
    """What is trained, in order: for each victim clean images, then the release.

    Noise, countermeasures and partly protected releases are tried with the first victim alone; the others show whether
    the protection holds for them too.

    Args:
        victims: At least one.
        countermeasures: Each gives a condition.
        fractions: Each, in (0, 1), gives a partly protected release and its clean part alone.
        control: Whether noise is tried.
    """
    first, *others = victims
    planned = [Condition(first, Material.CLEAN), Condition(first)]
    if control:
        planned.append(Condition(first, Material.NOISE))
    planned += [Condition(first, countermeasure=choice) for choice in countermeasures]
    for fraction in fractions:
        planned.append(Condition(first, protected_fraction=fraction))
        planned.append(Condition(first, Material.CLEAN_PART, protected_fraction=fraction))
    for victim in others:
        planned += [Condition(victim, Material.CLEAN), Condition(victim)]
    return tuple(dict.fromkeys(planned))
