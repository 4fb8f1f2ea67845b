"""The figures of one condition: one line per task, and averages over the tasks that count."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from mtlue_cli.choices import MetricName
from mtlue_cli.metrics.dense import beats_floor, learned_fraction, lower_is_better
from mtlue_cli.metrics.measures import gain, measure_of
from mtlue_cli.metrics.repeated import Repeated
from mtlue_cli.tasks.spec import Task, TaskSet
from mtlue_cli.verification.conditions import Condition, Role
from mtlue_cli.verification.victim_result import VictimResult

SAME = 1e-5
"""Learned fractions that differ by less are the same: what is left of rounding in two ways of counting one epoch."""


@dataclass(frozen=True)
class Learned:
    """What a victim learned by one of two epochs: the last, or the best.

    Attributes:
        fraction: Learned fraction.
        score: Figure that it was computed from.
        at_best_epoch: Whether it is that of the best epoch.
    """

    fraction: Repeated
    score: Repeated
    at_best_epoch: bool = False

    @property
    def mean(self) -> float:
        """Mean learned fraction over the seeds."""
        return self.fraction.mean


def stronger(last: Learned | None, best: Learned | None) -> Learned | None:
    """What the stronger attacker learns: who stops at the last epoch, unless who stops at the best learns more."""
    return best if best is not None and (last is None or best.mean > last.mean + SAME) else last


@dataclass(frozen=True)
class TaskFigures:
    """One task under one condition; shares in [0, 1], errors of dense tasks in their units.

    Attributes:
        name: The task.
        judged: Whether the release means to protect it; others are shown and not judged.
        conclusive: Whether the clean victim beats the floor clearly: a share by 2 points, an error by 2 % of the floor.
        floor: What a constant guess reaches.
        clean: The clean victim of the same kind.
        score: This victim after its last epoch.
        best: At the best epoch by clean validation images; None where that is not measured.
        others: All metrics after the last epoch, by name; None where a metric does not exist.
        measure: Name of the figure that floor, clean, score and best are of.
        place_floor: What one guess a place in the image reaches; None for a task of whole images.
    """

    name: str
    judged: bool
    conclusive: bool
    floor: float
    clean: Repeated
    score: Repeated
    best: Repeated | None
    others: Mapping[str, Repeated | None]
    measure: str = MetricName.ACCURACY.value
    place_floor: float | None = None

    @property
    def lower_is_better(self) -> bool:
        """Whether the figures are errors."""
        return lower_is_better(self.measure)

    def gains(self, figure: Repeated) -> Repeated:
        """A figure as gains, which are better the larger they are and know no unit."""
        return Repeated(tuple(gain(value, self.floor, self.measure) for value in figure.values))

    @property
    def learned(self) -> Repeated | None:
        """Learned fraction; None if inconclusive."""
        return self._learned(self.score)

    @property
    def best_learned(self) -> Repeated | None:
        """Learned fraction at the best epoch; None if inconclusive or not measured."""
        return self._learned(self.best)

    @property
    def stronger(self) -> Learned | None:
        """What the stronger attacker learns of it; None if inconclusive."""
        return stronger(self.after_last_epoch, self._as_learned(self.best_learned, self.best, at_best_epoch=True))

    @property
    def after_last_epoch(self) -> Learned | None:
        """What is learned of it after the last epoch; None if inconclusive."""
        return self._as_learned(self.learned, self.score)

    @staticmethod
    def _as_learned(
        fraction: Repeated | None, score: Repeated | None, *, at_best_epoch: bool = False
    ) -> Learned | None:
        return None if fraction is None or score is None else Learned(fraction, score, at_best_epoch)

    @property
    def learned_beyond_place(self) -> Repeated | None:
        """Learned fraction with the place floor in place of the floor; None if the clean victim hardly beats that."""
        floor, clean = self.place_floor, self.clean.mean
        if floor is None or not beats_floor(clean, floor, self.measure):
            return None
        return Repeated(tuple(learned_fraction(value, clean, floor) for value in self.score.values))

    def _learned(self, score: Repeated | None) -> Repeated | None:
        if score is None or not self.conclusive:
            return None
        clean, floor = self.clean.mean, self.floor
        return Repeated(tuple(learned_fraction(value, clean, floor) for value in score.values))


@dataclass(frozen=True)
class Average:
    """Means over the judged, conclusive tasks.

    An error, which may be in metres or in degrees, goes in as its gain: the share of the floor that it falls by.

    Attributes:
        tasks: Their names.
        floor: Mean floor; that of a gain is 0.
        clean, score: Mean figures, one value a seed.
    """

    tasks: tuple[str, ...]
    floor: float
    clean: Repeated
    score: Repeated

    @property
    def learned(self) -> Repeated:
        """Ratio of the means: single ratios with a small denominator would drown the rest."""
        clean, floor = self.clean.mean, self.floor
        return Repeated(tuple(learned_fraction(value, clean, floor) for value in self.score.values))


@dataclass(frozen=True)
class ConditionFigures:
    """All figures of one condition.

    Attributes:
        condition: Which.
        victims: The victims that they rest on, one a seed.
        tasks: One line per task.
        average: Over the judged, conclusive tasks after the last epoch; None if there is none.
        best_average: The same at the best epoch; None if there is none, or none was measured.
        steps_per_epoch: Optimiser steps of one epoch.
    """

    condition: Condition
    victims: tuple[VictimResult, ...]
    tasks: tuple[TaskFigures, ...]
    average: Average | None
    best_average: Average | None
    steps_per_epoch: int = 0

    @property
    def stronger(self) -> Learned | None:
        """What the stronger attacker learns on average; None if no judged task is conclusive."""
        best = self.best_average
        at_best = None if best is None else Learned(best.learned, best.score, at_best_epoch=True)
        return stronger(self.after_last_epoch, at_best)

    @property
    def after_last_epoch(self) -> Learned | None:
        """What is learned on average after the last epoch; None if no judged task is conclusive."""
        return None if self.average is None else Learned(self.average.learned, self.average.score)

    @property
    def learned(self) -> float | None:
        """Mean of :attr:`stronger` over the seeds: what the gate compares."""
        return None if self.stronger is None else self.stronger.mean

    @property
    def has_early_stop(self) -> bool:
        """Whether an attacker may stop early; a control or a reference is read after the last epoch."""
        return self.condition.role not in (Role.CONTROL, Role.REFERENCE)

    @property
    def steps(self) -> int:
        """Optimiser steps of one victim."""
        return self.steps_per_epoch * max(len(victim.curve) for victim in self.victims)

    @property
    def best_steps(self) -> tuple[tuple[int, int] | None, ...]:
        """Optimiser steps up to the best epochs by either half of the test images, a seed; None: not measured."""
        pairs = (victim.best_epochs for victim in self.victims)
        return tuple(pair and (pair[0] * self.steps_per_epoch, pair[1] * self.steps_per_epoch) for pair in pairs)

    @property
    def worst_task(self) -> tuple[TaskFigures, Learned] | None:
        """The judged task that the stronger attacker learns most of, and how much; None if none is conclusive."""
        return max(self._judged, key=lambda pair: pair[1].mean, default=None)

    def above(self, gate: float) -> list[tuple[TaskFigures, Learned]]:
        """Judged tasks that are learned by more than ``gate``, whatever the average says; highest last."""
        return sorted((pair for pair in self._judged if pair[1].mean > gate), key=lambda pair: pair[1].mean)

    @property
    def _judged(self) -> list[tuple[TaskFigures, Learned]]:
        return [(task, found) for task in self.tasks if task.judged and (found := task.stronger) is not None]


def figures_of(
    condition: Condition,
    victims: Sequence[VictimResult],
    clean: Sequence[VictimResult],
    floor: Mapping[str, float],
    tasks: TaskSet,
    judged: Collection[str],
    metric: MetricName,
    place_floor: Mapping[str, float] | None = None,
    steps_per_epoch: int = 0,
) -> ConditionFigures:
    """Put the figures of one condition together.

    Args:
        condition: Which.
        victims: Its victims, one a seed.
        clean: The victims of the same kind and seeds that were trained on clean images.
        floor: What a constant guess reaches under ``metric``, of a dense task in its main figure, a task.
        tasks: All tasks.
        judged: Names of those that the release means to protect.
        metric: What is measured of image-level tasks.
        place_floor: What one guess a place in the image reaches, a dense task.
        steps_per_epoch: Optimiser steps of one epoch of the victims.
    """
    place_floors = place_floor or {}
    lines = tuple(
        _line(task, task.name in judged, victims, clean, (floor[task.name], place_floors.get(task.name)), metric)
        for task in tasks
    )
    kept = [line for line in lines if line.judged and line.conclusive]
    return ConditionFigures(
        condition,
        tuple(victims),
        lines,
        _average(kept, [line.score for line in kept]),
        _average(kept, [line.best for line in kept]),
        steps_per_epoch,
    )


def _line(
    task: Task,
    judged: bool,
    victims: Sequence[VictimResult],
    clean: Sequence[VictimResult],
    floors: tuple[float, float | None],
    metric: MetricName,
) -> TaskFigures:
    measure = measure_of(task, metric)
    floor, place_floor = floors

    def scores(results: Sequence[VictimResult], which: str) -> Repeated | None:
        values = [result.figure(task, which) for result in results]
        known = [value for value in values if value is not None]
        return Repeated(tuple(known)) if known and len(known) == len(values) else None

    # A metric that does not exist for a task, AUROC with one class, counts as the floor.
    unknown = Repeated((floor,) * len(victims))
    reference = scores(clean, measure) or unknown
    best = [result.best_accuracy[task.name] for result in victims if result.best_accuracy is not None]
    measured = (task.is_dense or metric is MetricName.ACCURACY) and len(best) == len(victims)
    return TaskFigures(
        task.name,
        judged,
        beats_floor(reference.mean, floor, measure),
        floor,
        reference,
        scores(victims, measure) or unknown,
        Repeated(tuple(best)) if measured else None,
        {which: scores(victims, which) for which in victims[0].measures(task)},
        measure,
        place_floor,
    )


def _average(lines: Sequence[TaskFigures], scores: Sequence[Repeated | None]) -> Average | None:
    known = [score for score in scores if score is not None]
    if not lines or len(known) < len(lines):
        return None
    return Average(
        tuple(line.name for line in lines),
        sum(gain(line.floor, line.floor, line.measure) for line in lines) / len(lines),
        _mean([line.gains(line.clean) for line in lines]),
        _mean([line.gains(score) for line, score in zip(lines, known, strict=True)]),
    )


def _mean(figures: Sequence[Repeated]) -> Repeated:
    """Mean over tasks, seed by seed."""
    return Repeated(tuple(sum(values) / len(figures) for values in zip(*(f.values for f in figures), strict=True)))
