"""What victims there are, and what each is trained on."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from itertools import product
from typing import Any

from mtlue_cli.choices import BackboneName, LearnerName, TrainingMethodName, WeightingName
from mtlue_cli.errors import InputError
from mtlue_cli.tasks.spec import TaskSet
from mtlue_cli.training.methods import METHODS, MethodChoice
from mtlue_cli.verification.countermeasures.base import Countermeasure, CountermeasureChoice
from mtlue_cli.verification.learner import LEARNERS


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
        trajectory: Protected shares of a sequence of releases that the victim is trained on one after the other,
            falling; empty: there is one release.
    """

    victim: VictimSpec
    material: Material = Material.RELEASE
    countermeasure: CountermeasureChoice | None = None
    protected_fraction: float = 1.0
    trajectory: tuple[float, ...] = ()

    def stage_epochs(self, epochs: int) -> int:
        """Epochs on each release of the trajectory, where a whole run has ``epochs``; without one, these."""
        return -(-epochs // max(1, len(self.trajectory)))

    def total_epochs(self, epochs: int) -> int:
        """Epochs on all releases of the trajectory, where a whole run has ``epochs``; without one, these."""
        return self.stage_epochs(epochs) * max(1, len(self.trajectory))

    def notes(self, tasks: TaskSet) -> tuple[str, ...]:
        """What a reader should know before the victim is trained on ``tasks``.

        Raises:
            InputError: They do not fit.
        """
        if self.trajectory and len(tasks.dense):
            raise InputError("a trajectory is measured on labels of whole images alone")
        method = self.victim.method
        found = (method.note(method.settings, own) for own in LEARNERS[self.victim.learner](tasks))
        return tuple(note for note in found if note is not None)

    @property
    def attack(self) -> Countermeasure:
        """What the attacker does; without a countermeasure one that does nothing."""
        return Countermeasure() if self.countermeasure is None else self.countermeasure.settings

    @property
    def name(self) -> str:
        """What a table calls it; no two conditions of one plan share a name."""
        # Exact, for shares that differ must read differently.
        stages = self.trajectory or (self.protected_fraction,)
        shares = [f"{(100 * Decimal(str(share))).normalize():f}" for share in stages]
        share = f"{', '.join(shares)} % protected"
        images = {
            Material.CLEAN: ": clean images",
            Material.RELEASE: f": {share}" if self.trajectory or self.protected_fraction < 1 else "",
            Material.NOISE: ": noise",
            Material.CLEAN_PART: f": the clean part of {share} alone",
        }[self.material]
        attacked = "" if self.countermeasure is None else f" + {self.countermeasure.name}"
        return f"{self.victim.name}{images}{attacked}"

    @property
    def role(self) -> Role:
        """Only a release that is protected as a whole can fail to protect."""
        roles = {Material.CLEAN: Role.REFERENCE, Material.NOISE: Role.CONTROL, Material.CLEAN_PART: Role.COMPARISON}
        is_whole = self.protected_fraction == 1 and not self.trajectory
        return roles.get(self.material, Role.JUDGED if is_whole else Role.COMPARISON)


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
    trajectory: tuple[float, ...] = (),
    control: bool = True,
) -> tuple[Condition, ...]:
    """What is trained, in order: for each victim clean images, then the release.

    Noise (the ``control``), countermeasures, releases of which a fraction in (0, 1) is protected, each beside its
    clean part alone, and the sequence of releases of a ``trajectory`` are tried with the first victim alone; the others
    show whether the protection holds for them too.
    """
    first, *others = victims
    planned = [Condition(first, Material.CLEAN), Condition(first)]
    if control:
        planned.append(Condition(first, Material.NOISE))
    planned += [Condition(first, countermeasure=choice) for choice in countermeasures]
    materials = (Material.RELEASE, Material.CLEAN_PART)
    planned += [Condition(first, which, protected_fraction=share) for share in fractions for which in materials]
    planned += [Condition(first, trajectory=trajectory)] if trajectory else []
    planned += [Condition(victim, which) for victim in others for which in (Material.CLEAN, Material.RELEASE)]
    return tuple(dict.fromkeys(planned))
