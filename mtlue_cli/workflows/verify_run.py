"""Runs the conditions and probes of one verification plan; what cannot be run is listed, not fatal."""

from dataclasses import dataclass, field

from mtlue_cli.errors import InputError
from mtlue_cli.verification.conditions import Condition, Material, Role, VictimSpec
from mtlue_cli.verification.experiment import FROM_CLEAN, DivergedError, Laboratory
from mtlue_cli.verification.figures import ConditionFigures, figures_of
from mtlue_cli.verification.learner import images_an_epoch
from mtlue_cli.verification.probes.base import FEWEST_IMAGES, ProbeResult, ProbeSample
from mtlue_cli.verification.probes.registry import PROBES
from mtlue_cli.verification.promise import Promise
from mtlue_cli.verification.tiers import NotTested
from mtlue_cli.verification.verdict import Judgement, judge
from mtlue_cli.verification.victim_result import CurvePoint, VictimResult
from mtlue_cli.workflows.progress import Progress
from mtlue_cli.workflows.verify_config import VerifyConfig
from mtlue_cli.workflows.verify_settings import VerifyPlan


@dataclass
class PlanRun:
    """All conditions of one plan, as far as their clean victims learn anything.

    Attributes:
        lab: Where they are run.
        config, plan: What was asked for.
        promise: Which tasks are judged.
        progress: Whom it tells.
        skipped: What was planned and could not be run, with the reason.
    """

    lab: Laboratory
    config: VerifyConfig
    plan: VerifyPlan
    promise: Promise
    progress: Progress
    skipped: list[NotTested] = field(default_factory=list)

    def judgement(self) -> Judgement:
        """Train everything and judge it; what rests on a clean victim that learned nothing is skipped."""
        clean: dict[VictimSpec, list[VictimResult]] = {}
        useless: dict[VictimSpec, str] = {}
        found: list[ConditionFigures] = []
        for condition in self.plan.conditions:
            if condition.victim in useless:
                self._skip(condition, useless[condition.victim])
                continue
            try:
                victims = [self._victim(condition, seed) for seed in self.config.seed_range]
            except (DivergedError, InputError) as error:
                self._skip(condition, _reason(error))
                if condition.role is Role.REFERENCE:
                    useless[condition.victim] = f"its victim cannot be trained on clean images: {_reason(error)}"
                continue
            if condition.role is Role.REFERENCE:
                clean[condition.victim] = victims
            found.append(self._figures(condition, victims, clean[condition.victim]))
            if condition.role is Role.REFERENCE and found[-1].average is None:
                useless[condition.victim] = "its victim learns nothing from clean images either"
        first = self.plan.conditions[0].victim
        return judge(
            found, self.config.metric, self.config.max_learned, self.promise.tasks, complete=first not in useless
        )

    def probes(self) -> tuple[ProbeResult, ...]:
        """What is measured without a victim."""
        if not self.plan.probes:
            return ()
        if len(self.lab.images.clean) < FEWEST_IMAGES:
            self.skipped += [NotTested(f"probe {name.value}", "too few images") for name in self.plan.probes]
            return ()
        data = self.lab.data
        # Loading the release is a stage of its own.
        sample = ProbeSample(
            self.lab.images.clean, self.lab.images.release(), data.train_labels, data.tasks.image_level
        )
        self.progress.start("probes", len(self.plan.probes))
        results: list[ProbeResult] = []
        for name in self.plan.probes:
            try:
                results.append(PROBES[name].run(sample, self.config.seed, self.lab.device))
            except ValueError as error:
                self.skipped.append(NotTested(f"probe {name.value}", str(error)))
            self.progress.advance()
        self.progress.finish()
        return tuple(results)

    def _skip(self, condition: Condition, reason: str) -> None:
        self.skipped.append(NotTested(condition.name, reason))
        self.progress.note(f"not tested: {condition.name}: {reason}")

    def _figures(
        self, condition: Condition, victims: list[VictimResult], clean: list[VictimResult]
    ) -> ConditionFigures:
        data, metric = self.lab.data, self.config.metric
        floor, placed = self.lab.scoring.floors(metric), self.lab.scoring.place_floors()
        steps = self.lab.steps_per_epoch(condition)
        return figures_of(condition, victims, clean, floor, data.tasks, self.promise.tasks, metric, placed, steps)

    def _victim(self, condition: Condition, seed: int) -> VictimResult:
        name = condition.name if self.config.seeds == 1 else f"{condition.name} (seed {seed})"
        if condition.material not in FROM_CLEAN:
            self.lab.images.release()  # loading the release is a stage of its own
        data = self.lab.data
        total = images_an_epoch(condition.victim.learner, data.train_labels, data.tasks)
        total *= self.lab.settings.epochs
        if condition.material is Material.CLEAN_PART:
            total = round(total * (1 - condition.protected_fraction))
        self.progress.start(name, total)

        def on_epoch(point: CurvePoint) -> None:
            accuracy = sum(point.test_accuracy.values()) / len(point.test_accuracy)
            self.progress.advance(0, {"loss": point.loss, "accuracy": accuracy})

        try:
            result = self.lab.run(
                condition,
                seed,
                on_step=self.progress.advance,
                on_epoch=on_epoch,
                on_preparation=lambda share: self.progress.advance(0, {"prepared %": 100 * share}),
            )
            if result.cached:
                self.progress.advance(total)
        finally:
            self.progress.finish()
        if result.cached:
            self.progress.note(f"{name}: finished earlier, taken from the cache")
        return result


def _reason(error: DivergedError | InputError) -> str:
    faults = "; ".join(error.faults) if isinstance(error, InputError) else ""
    return f"{error}: {faults}" if faults else str(error)
