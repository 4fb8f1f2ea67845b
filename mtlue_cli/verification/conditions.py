"""What victims there are, and what each is trained on."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from itertools import product
from typing import Any

from mtlue_cli.choices import BackboneName, LearnerName, TrainingMethodName, WeightingName
from mtlue_cli.training.methods import METHODS, MethodChoice
from mtlue_cli.verification.countermeasures.base import Countermeasure, CountermeasureChoice


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
        parts = (self.learner, usual.learner), (self.weighting, usual.weighting), (self.method.name, usual.method.name)
        return " ".join([self.backbone, *(part for part, default in parts if part != default)])


@dataclass(frozen=True)
class Condition:
    """One row of the experiment: a victim, and what it is trained on.

    Attributes:
        victim: Which.
        material: Training images.
        countermeasure: What is done against the protection; None: nothing.
        protected_fraction: Share of the release that is protected; below 1 the rest is clean.
    """

    victim: VictimSpec
    material: Material = Material.RELEASE
    countermeasure: CountermeasureChoice | None = None
    protected_fraction: float = 1.0

    @property
    def attack(self) -> Countermeasure:
        """What the attacker does; without a countermeasure one that does nothing."""
        return Countermeasure() if self.countermeasure is None else self.countermeasure.settings

    @property
    def name(self) -> str:
        """What a table calls it; no two conditions of one plan share a name."""
        # Exact, for shares that differ must read differently.
        share = f"{(100 * Decimal(str(self.protected_fraction))).normalize():f} % protected"
        images = {
            Material.CLEAN: ": clean images",
            Material.RELEASE: f": {share}" if self.protected_fraction < 1 else "",
            Material.NOISE: ": noise",
            Material.CLEAN_PART: f": the clean part of {share} alone",
        }[self.material]
        attacked = "" if self.countermeasure is None else f" + {self.countermeasure.name}"
        return f"{self.victim.name}{images}{attacked}"

    @property
    def role(self) -> Role:
        """Only a release that is protected as a whole can fail to protect."""
        roles = {Material.CLEAN: Role.REFERENCE, Material.NOISE: Role.CONTROL, Material.CLEAN_PART: Role.COMPARISON}
        return roles.get(self.material, Role.COMPARISON if self.protected_fraction < 1 else Role.JUDGED)


def plan_victims(
    backbones: Sequence[BackboneName],
    learners: Sequence[LearnerName],
    weightings: Sequence[WeightingName],
    methods: Sequence[MethodChoice[Any]],
) -> tuple[VictimSpec, ...]:
    """Every combination once, in the order given; one network per task knows no weighting."""
    found = (
        VictimSpec(backbone, learner, weighting, method)
        for backbone, method, learner in product(backbones, methods, learners)
        for weighting in (weightings if learner is LearnerName.MTL else [WeightingName.LS])
    )
    return tuple(dict.fromkeys(found))


def plan_conditions(
    victims: Sequence[VictimSpec],
    countermeasures: Sequence[CountermeasureChoice] = (),
    fractions: Sequence[float] = (),
    *,
    control: bool = True,
) -> tuple[Condition, ...]:
    """What is trained, in order: for each victim clean images, then the release.

    Noise (the ``control``), countermeasures and releases of which a fraction in (0, 1) is protected, each beside its
    clean part alone, are tried with the first victim alone; the others show whether the protection holds for them too.
    """
    first, *others = victims
    planned = [Condition(first, Material.CLEAN), Condition(first)]
    if control:
        planned.append(Condition(first, Material.NOISE))
    planned += [Condition(first, countermeasure=choice) for choice in countermeasures]
    materials = (Material.RELEASE, Material.CLEAN_PART)
    planned += [Condition(first, which, protected_fraction=share) for share in fractions for which in materials]
    planned += [Condition(victim, which) for victim in others for which in (Material.CLEAN, Material.RELEASE)]
    return tuple(dict.fromkeys(planned))
