"""The victims of one plan: trained here or elsewhere, and judged."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any

import torch
from torch import Tensor

from mtlue_cli.devices import choose_device
from mtlue_cli.engines.engine import Engine
from mtlue_cli.errors import DivergedError, InputError, MtlueError
from mtlue_cli.generator.shipped import shipped_weights
from mtlue_cli.verification.bootstrap import Bootstrap
from mtlue_cli.verification.conditions import Condition, Material, Role, VictimSpec
from mtlue_cli.verification.experiment import Laboratory
from mtlue_cli.verification.figures import ConditionFigures, figures_of
from mtlue_cli.verification.probes.base import FEWEST_IMAGES, ProbeFigures, ProbeSample
from mtlue_cli.verification.probes.registry import PROBES
from mtlue_cli.verification.promise import Promise
from mtlue_cli.verification.result_cache import ResultCache
from mtlue_cli.verification.tiers import NotTested
from mtlue_cli.verification.training_images import FROM_CLEAN
from mtlue_cli.verification.verdict import Judgement, judge
from mtlue_cli.verification.victim_result import CurvePoint, VictimResult
from mtlue_cli.workflows.progress import Progress, SilentProgress
from mtlue_cli.workflows.verify.config import VerifyConfig
from mtlue_cli.workflows.verify.plan import (
    VerifyPlan,
    reason_of,
    require_asked,
)

GPU_SHARE = 0.25
"""Of a GPU, that a victim on a cluster takes: networks and images are small. Whether more fit well was not measured."""

CONFIDENCE = 0.95
"""Of the intervals that are shown where none is asked for."""


@dataclass(frozen=True)
class Unit:
    """One victim.

    Attributes:
        number: Of its condition among those that are trained together.
        condition, seed: What it is.
        trains: Whether it is to be trained; else its key in the cache is asked for.
    """

    number: int
    condition: Condition
    seed: int
    trains: bool = True

    def __str__(self) -> str:
        return f"{self.condition.name}, seed {self.seed}"


Done = Callable[[tuple[int, int, Any]], None]
"""Takes the number and the seed of a unit, and its result, its key, or why there is none."""


@dataclass(frozen=True)
class ShownVictims:
    """Trains victims one after another, and shows how far each is.

    Attributes:
        lab: Everything that they share.
        progress: Where it is shown.
        seeds: How many of each there are.
    """

    lab: Laboratory
    progress: Progress
    seeds: int

    def name(self, condition: Condition, seed: int) -> str:
        """What a victim is called."""
        return condition.name if self.seeds == 1 else f"{condition.name} (seed {seed})"

    def train(self, condition: Condition, seed: int) -> VictimResult:
        """A victim, as :meth:`~mtlue_cli.verification.experiment.Laboratory.run` makes it."""
        name = self.name(condition, seed)
        if condition.material not in FROM_CLEAN:
            self.lab.images.release()  # loading the release is a stage of its own
        total = self.lab.images_seen(condition)
        self.progress.start(name, total)

        def on_epoch(point: CurvePoint) -> None:
            accuracy = sum(point.test_accuracy.values()) / len(point.test_accuracy)
            self.progress.advance(0, {"loss": math.nan if point.loss is None else point.loss, "accuracy": accuracy})

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
            self.note_cached(condition, seed)
        return result

    def note_cached(self, condition: Condition, seed: int) -> None:
        """Say that a victim need not be trained again."""
        self.progress.note(f"{self.name(condition, seed)}: finished earlier, taken from the cache")


@dataclass(frozen=True)
class RemoteVictims:
    """Work on victims in several processes.

    Attributes:
        lab: Everything that they share, without a cache.
        device: Where they are trained.
        progress: Where the process that made this shows how far its victims are; the others are silent.
        seeds: How many of each there are.
    """

    lab: Laboratory
    device: str
    progress: Progress
    seeds: int

    def __reduce__(self) -> tuple[Any, ...]:
        return RemoteVictims, (self.lab, self.device, SilentProgress(), self.seeds)

    @contextmanager
    def __call__(self) -> Iterator[Callable[[Unit, Done], None]]:
        """Make the work.

        Raises:
            MtlueError: A file that the attacker needs is not there.
        """
        weights = self.lab.weights
        if weights is not None and not weights.exists():  # those that come with the program may lie elsewhere here
            weights = shipped_weights().get(weights.stem)
            if weights is None:
                raise MtlueError(f"{self.lab.weights} is not on all computers; put it where all see it")
        lab = replace(self.lab, device=choose_device(self.device), weights=weights)

        train = ShownVictims(lab, self.progress, self.seeds).train
        yield lambda unit, done: _work(train if unit.trains else lab.key_of, unit, done)


def _work(attempt: Callable[[Condition, int], Any], unit: Unit, done: Done) -> None:
    try:
        found = attempt(unit.condition, unit.seed)
    except (DivergedError, InputError) as error:
        found = error
    done((unit.number, unit.seed, found))


def _given(images: Tensor) -> Tensor:
    return images


@dataclass
class PlanRun:
    """All conditions of one plan, as far as their clean victims learn anything.

    Attributes:
        lab: Where they are run.
        config, plan: What was asked for.
        promise: Which tasks are judged.
        progress: Reports the work.
        engine: Trains the victims.
        skipped: What was planned and could not be run, with the reason.
        failed: Names of the conditions of which a training diverged.
        victims: Digests of all victims that the judgement rests on.
    """

    lab: Laboratory
    config: VerifyConfig
    plan: VerifyPlan
    promise: Promise
    progress: Progress
    engine: Engine
    skipped: list[NotTested] = field(default_factory=list)
    failed: set[str] = field(default_factory=set)
    victims: list[str] = field(default_factory=list)

    def judgement(self) -> Judgement:
        """Train everything and judge it; what rests on a clean victim that learned nothing is skipped.

        Raises:
            InputError: Something that was asked for cannot be run; found before anything is trained.
        """
        require_asked(self.plan, self.lab.require)
        conditions = self.plan.conditions
        victims: dict[Condition, Sequence[VictimResult]] = {}
        figures: dict[Condition, ConditionFigures] = {}
        useless: dict[VictimSpec, str] = {}
        # Clean victims come first: what rests on one that learns nothing need not be trained.
        references = [condition for condition in conditions if condition.role is Role.REFERENCE]
        for wave in (references, [condition for condition in conditions if condition.role is not Role.REFERENCE]):
            trained = self._train([condition for condition in wave if condition.victim not in useless])
            for condition in wave:
                if condition.victim in useless:
                    self._skip(condition, useless[condition.victim])
                    continue
                found = trained[condition]
                if isinstance(found, Exception):
                    self._skip(condition, reason_of(found))
                    if isinstance(found, DivergedError):
                        self.failed.add(condition.name)
                    if condition.role is Role.REFERENCE:
                        useless[condition.victim] = f"its victim cannot be trained on clean images: {reason_of(found)}"
                    continue
                victims[condition] = found
                clean = victims[Condition(condition.victim, Material.CLEAN)]
                figures[condition] = self._figures(condition, found, clean)
                if condition.role is Role.REFERENCE and figures[condition].average is None:
                    useless[condition.victim] = "its victim learns nothing from clean images either"
        in_order = [condition for condition in conditions if condition in figures]
        self.victims += [victim.digest for condition in in_order for victim in victims[condition]]
        names = [condition.name for condition in conditions]
        self.skipped.sort(key=lambda left: names.index(left.name))
        first = conditions[0].victim
        # What does not fit may be left out of a tier. What failed in training might have learned something.
        needed = self.failed | {condition.name for condition in self.plan.asked}
        return judge(
            [figures[condition] for condition in in_order],
            self.config.metric,
            self.config.max_learned,
            self.promise.tasks,
            confidence=self.config.confidence,
            complete=first not in useless,
            missing=[left for left in self.skipped if left.name in needed],
        )

    def probes(self) -> tuple[ProbeFigures, ...]:
        """What is measured without a victim."""
        if not self.plan.probes:
            return ()
        if len(self.lab.images.clean) < FEWEST_IMAGES:
            self.skipped += [NotTested(f"probe {name.value}", "too few images") for name in self.plan.probes]
            return ()
        data = self.lab.data
        # Loading the release is a stage of its own.
        sample = ProbeSample(
            self.lab.images.clean,
            self.lab.images.release(),
            data.train_labels,
            data.tasks.subset(self.promise.tasks).image_level,
        )
        self.progress.start("probes", len(self.plan.probes))
        results: list[ProbeFigures] = []
        for name in self.plan.probes:
            try:
                results.append(PROBES[name].run(sample, self.config.seed, self.lab.device))
            except ValueError as error:
                self.skipped.append(NotTested(f"probe {name.value}", str(error)))
            self.progress.advance()
        self.progress.finish()
        return tuple(results)

    def _train(self, conditions: Sequence[Condition]) -> dict[Condition, Sequence[VictimResult] | Exception]:
        """The victims of each condition, or why one of them cannot be trained."""
        trained: dict[tuple[int, int], VictimResult] = {}
        errors: dict[int, Exception] = {}
        seeds = self.config.seed_range
        units = [Unit(number, condition, seed) for number, condition in enumerate(conditions) for seed in seeds]

        def done(outcome: tuple[int, int, VictimResult | Exception]) -> None:
            number, seed, found = outcome
            if isinstance(found, Exception):
                errors.setdefault(number, found)
            else:
                trained[number, seed] = found

        if self.engine.is_remote:
            self._train_afar(units, done)
        else:
            self.engine.run(self._here, (unit for unit in units if unit.number not in errors), done)
        return {
            condition: errors[number] if number in errors else [trained[number, seed] for seed in seeds]
            for number, condition in enumerate(conditions)
        }

    @contextmanager
    def _here(self) -> Iterator[Callable[[Unit, Done], None]]:
        """Work on victims in this process."""
        yield partial(_work, self._shown.train)

    @cached_property
    def _shown(self) -> ShownVictims:
        return ShownVictims(self.lab, self.progress, self.config.seeds)

    @cached_property
    def _afar(self) -> RemoteVictims:
        release = partial(_given, self.lab.images.release())
        images = replace(self.lab.images, release=release)
        return RemoteVictims(
            replace(
                self.lab,
                images=images,
                cache=ResultCache(None, None, SilentProgress().note),
                device=torch.device("cpu"),
            ),
            self.engine.device,
            self.progress,
            self.config.seeds,
        )

    def _train_afar(self, units: Sequence[Unit], done: Done) -> None:
        """Have workers train victims that are not in the cache, which is read and written here alone, with the key."""
        keys: dict[tuple[int, int], str | Exception] = {}
        self.engine.run(
            self._afar,
            [replace(unit, trains=False) for unit in units],
            lambda found: keys.__setitem__(found[:2], found[2]),
            GPU_SHARE,
        )
        left: list[Unit] = []
        for unit in units:
            key = keys[unit.number, unit.seed]
            found = self.lab.finished(key) if isinstance(key, str) else key
            if found is None:
                left.append(unit)
                continue
            if isinstance(found, VictimResult):
                self._shown.note_cached(unit.condition, unit.seed)
            done((unit.number, unit.seed, found))

        def store(outcome: tuple[int, int, VictimResult | Exception]) -> None:
            if isinstance(outcome[2], VictimResult):
                self.lab.cache.store(outcome[2].digest, outcome[2])
            done(outcome)
            progress.advance()

        # Each victim is a stage of its own where this process trains it too.
        progress: Progress = SilentProgress() if self.engine.works_here else self.progress
        progress.start("victims", len(left))
        try:
            self.engine.run(self._afar, left, store, GPU_SHARE)
        finally:
            progress.finish()

    def _skip(self, condition: Condition, reason: str) -> None:
        self.skipped.append(NotTested(condition.name, reason))
        self.progress.note(f"not tested: {condition.name}: {reason}")

    def _figures(
        self, condition: Condition, victims: Sequence[VictimResult], clean: Sequence[VictimResult]
    ) -> ConditionFigures:
        data, metric = self.lab.data, self.config.metric
        floor, place_floor = self.lab.scoring.floors(metric), self.lab.scoring.place_floors
        steps, judged = self.lab.steps_per_epoch(condition), self.promise.tasks
        return figures_of(
            condition, victims, clean, floor, data.tasks, judged, metric, place_floor, steps, self.bootstrap
        )

    @cached_property
    def bootstrap(self) -> Bootstrap:
        """What draws the test images anew for intervals."""
        data, config = self.lab.data, self.config
        confidence = CONFIDENCE if config.confidence is None else config.confidence
        first_half = self.lab.scoring.first_half
        return Bootstrap(data.tasks.image_level, data.test_labels, first_half, config.metric, confidence, config.seed)
