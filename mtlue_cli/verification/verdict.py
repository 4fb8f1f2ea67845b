"""From the figures of all victims to one verdict: the gate is the worst condition."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from mtlue_cli.choices import MetricName
from mtlue_cli.metrics.classification import is_conclusive
from mtlue_cli.metrics.repeated import Repeated
from mtlue_cli.tasks.spec import TaskSet
from mtlue_cli.verification.conditions import Condition, Role
from mtlue_cli.verification.victim_result import VictimResult

RELIABLE_CONTROL = 0.5
"""Noise that protects better than this learned fraction shows that the victims are too weak to judge by."""

HALF = 0.5
"""A condition that recovers more than this share of the gap breaks the protection, whatever the gate says."""


class Verdict(StrEnum):
    """What a verification ends with."""

    PROTECTED = "protected"
    NOT_PROTECTED = "not protected"
    INCONCLUSIVE = "inconclusive"


@dataclass(frozen=True)
class TaskFigures:
    """One task under one condition; figures in [0, 1].

    Attributes:
        name: The task.
        judged: Whether the release means to protect it; others are shown and not judged.
        conclusive: Whether the clean victim beats the floor clearly.
        floor: What a constant guess reaches.
        clean: The clean victim of the same kind.
        score: This victim after its last epoch.
        best: At the best epoch by clean validation images; None where that is not measured.
        others: Further metrics after the last epoch, by name; None where a metric does not exist.
    """

    name: str
    judged: bool
    conclusive: bool
    floor: float
    clean: Repeated
    score: Repeated
    best: Repeated | None
    others: Mapping[MetricName, Repeated | None]

    @property
    def learned(self) -> Repeated | None:
        """Learned fraction; None if inconclusive."""
        return self._learned(self.score)

    @property
    def best_learned(self) -> Repeated | None:
        """Learned fraction at the best epoch; None if inconclusive or not measured."""
        return self._learned(self.best)

    def _learned(self, score: Repeated | None) -> Repeated | None:
        if score is None or not self.conclusive:
            return None
        gap = self.clean.mean - self.floor
        return Repeated(tuple((value - self.floor) / gap for value in score.values))


@dataclass(frozen=True)
class Average:
    """Means over the judged, conclusive tasks.

    Attributes:
        tasks: Their names.
        floor: Mean floor.
        clean, score: Mean figures, one value a seed.
    """

    tasks: tuple[str, ...]
    floor: float
    clean: Repeated
    score: Repeated

    @property
    def learned(self) -> Repeated:
        """Ratio of the means: single ratios with a small denominator would drown the rest."""
        gap = self.clean.mean - self.floor
        return Repeated(tuple((value - self.floor) / gap for value in self.score.values))


@dataclass(frozen=True)
class ConditionFigures:
    """All figures of one condition.

    Attributes:
        condition: Which.
        victims: The victims that they rest on, one a seed.
        tasks: One line a task.
        average: Over the judged, conclusive tasks after the last epoch; None if there is none.
        best_average: The same at the best epoch; None if there is none, or none was measured.
    """

    condition: Condition
    victims: tuple[VictimResult, ...]
    tasks: tuple[TaskFigures, ...]
    average: Average | None
    best_average: Average | None

    @property
    def learned(self) -> float | None:
        """What the stronger attacker learns: he who stops at the last epoch, or he who stops at the best."""
        found = [average.learned.mean for average in (self.average, self.best_average) if average is not None]
        return max(found, default=None)

    @property
    def stopped_early(self) -> bool:
        """Whether :attr:`learned` is that of the best epoch."""
        return (
            self.average is not None
            and self.best_average is not None
            and self.best_average.learned.mean > self.average.learned.mean
        )

    @property
    def worst_task(self) -> TaskFigures | None:
        """The judged task with the highest learned fraction after the last epoch."""
        ranked = [task for task in self.tasks if task.judged and task.learned is not None]
        return max(ranked, key=lambda task: task.learned.mean if task.learned else 0.0, default=None)

    def above(self, gate: float) -> tuple[TaskFigures, ...]:
        """Judged tasks whose own learned fraction exceeds ``gate``, whatever the average says; highest last."""
        found = [task for task in self.tasks if task.judged and task.learned and task.learned.mean > gate]
        return tuple(sorted(found, key=lambda task: task.learned.mean if task.learned else 0.0))


@dataclass(frozen=True)
class Judgement:
    """The verdict, with everything that it rests on.

    Attributes:
        verdict: The outcome.
        reason: One sentence for a reader.
        max_learned: The gate on the average learned fraction of every judged condition.
        metric: What is measured.
        conditions: In the order they were run.
        worst: The judged condition whose victims learned most; None if none is conclusive.
    """

    verdict: Verdict
    reason: str
    max_learned: float
    metric: MetricName = MetricName.ACCURACY
    conditions: tuple[ConditionFigures, ...] = ()
    worst: ConditionFigures | None = None

    @property
    def warning(self) -> str | None:
        """Which tasks the victims of the worst condition learn although the gate is on the average."""
        above = self.worst.above(self.max_learned) if self.worst else ()
        if not above:
            return None
        named = ", ".join(f"{task.name} ({task.learned.mean:.2f})" for task in above if task.learned)
        return f"taken alone, a victim learns more than {self.max_learned:.2f} of: {named}"

    @property
    def breaking(self) -> tuple[ConditionFigures, ...]:
        """Judged conditions that recover more than half of the gap between floor and clean images."""
        return tuple(
            found
            for found in self.conditions
            if found.condition.role is Role.JUDGED and found.learned is not None and found.learned > HALF
        )


def figures_of(
    condition: Condition,
    victims: Sequence[VictimResult],
    clean: Sequence[VictimResult],
    floor: Mapping[str, float],
    tasks: TaskSet,
    judged: Collection[str],
    metric: MetricName,
) -> ConditionFigures:
    """Put the figures of one condition together.

    Args:
        condition: Which.
        victims: Its victims, one a seed.
        clean: The victims of the same kind and seeds that were trained on clean images.
        floor: What a constant guess reaches under ``metric``, a task.
        tasks: All tasks.
        judged: Names of those that the release means to protect.
        metric: What is measured.
    """
    lines = tuple(_line(name, name in judged, victims, clean, floor[name], metric) for name in tasks.names)
    kept = [line for line in lines if line.judged and line.conclusive]
    return ConditionFigures(
        condition,
        tuple(victims),
        lines,
        _average(kept, [line.score for line in kept]),
        _average(kept, [line.best for line in kept]),
    )


def judge(
    conditions: Sequence[ConditionFigures], metric: MetricName, max_learned: float, judged: Sequence[str]
) -> Judgement:
    """Judge a release by everything that was tried against it.

    Args:
        conditions: In the order they were run; the clean victims among them.
        metric: What was measured.
        max_learned: Highest average learned fraction that still counts as protected.
        judged: Names of the tasks that the release means to protect.
    """
    tried = [found for found in conditions if found.condition.role is Role.JUDGED and found.learned is not None]
    worst = max(tried, key=lambda found: found.learned or 0.0, default=None)
    control = next((found for found in conditions if found.condition.role is Role.CONTROL), None)
    verdict, reason = _decide(conditions, worst, control, len(tried), max_learned, judged)
    return Judgement(verdict, reason, max_learned, metric, tuple(conditions), worst)


def failed_audit(faults: int, max_learned: float) -> Judgement:
    """The judgement of a release whose files already fail; no victim was trained."""
    count = "1 fault" if faults == 1 else f"{faults} faults"
    reason = f"the audit of the release found {count}; no victim was trained"
    return Judgement(Verdict.NOT_PROTECTED, reason, max_learned)


def _line(
    name: str,
    judged: bool,
    victims: Sequence[VictimResult],
    clean: Sequence[VictimResult],
    floor: float,
    metric: MetricName,
) -> TaskFigures:
    def scores(results: Sequence[VictimResult], which: MetricName) -> Repeated | None:
        values = [result.scores[which][name] for result in results]
        known = [value for value in values if value is not None]
        return Repeated(tuple(known)) if known and len(known) == len(values) else None

    # A metric that does not exist for a task, AUROC with one class, tells nothing: the floor.
    unknown = Repeated((floor,) * len(victims))
    reference = scores(clean, metric) or unknown
    best = [result.best_accuracy[name] for result in victims if result.best_accuracy is not None]
    measured = metric is MetricName.ACCURACY and len(best) == len(victims)
    return TaskFigures(
        name,
        judged,
        is_conclusive(reference.mean, floor),
        floor,
        reference,
        scores(victims, metric) or unknown,
        Repeated(tuple(best)) if measured else None,
        {which: scores(victims, which) for which in MetricName},
    )


def _average(lines: Sequence[TaskFigures], scores: Sequence[Repeated | None]) -> Average | None:
    known = [score for score in scores if score is not None]
    if not lines or len(known) < len(lines):
        return None
    return Average(
        tuple(line.name for line in lines),
        sum(line.floor for line in lines) / len(lines),
        _mean([line.clean for line in lines]),
        _mean(known),
    )


def _mean(figures: Sequence[Repeated]) -> Repeated:
    """Mean over tasks, seed by seed."""
    return Repeated(tuple(sum(values) / len(figures) for values in zip(*(f.values for f in figures), strict=True)))


def _decide(
    conditions: Sequence[ConditionFigures],
    worst: ConditionFigures | None,
    control: ConditionFigures | None,
    tried: int,
    max_learned: float,
    judged: Sequence[str],
) -> tuple[Verdict, str]:
    references = [found for found in conditions if found.condition.role is Role.REFERENCE]
    if not any(found.average is not None for found in references):
        return Verdict.INCONCLUSIVE, (
            "the victim trained on clean images beats the floor by 2 points on no judged task; "
            "give it more images or --epochs"
        )
    if control is not None and control.average is not None and control.average.learned.mean < RELIABLE_CONTROL:
        return Verdict.INCONCLUSIVE, (
            "the measurement is unreliable: plain noise already lowers the learned fraction to "
            f"{control.average.learned.mean:.2f} (it should stay above {RELIABLE_CONTROL}); give the victims more "
            "images or --epochs"
        )
    if worst is None or worst.average is None or worst.learned is None or worst.worst_task is None:
        return Verdict.INCONCLUSIVE, "no victim was trained on protected images"
    task = worst.worst_task
    where = "" if tried == 1 else f"under the worst of {tried} conditions, {worst.condition.name}, "
    early = " when it stops at its best epoch" if worst.stopped_early else ""
    alone = task.learned.mean if task.learned else 0.0
    reason = (
        f"{where}a victim learns {worst.learned:.2f} of what clean images teach on average{early} "
        f"(at most {max_learned:.2f} allowed; worst task: {task.name} with {alone:.2f})"
    )
    untold = [name for name in judged if name not in worst.average.tasks]
    if untold:
        reason += f"; not in the average, since clean images teach hardly more than the floor: {', '.join(untold)}"
    return (Verdict.PROTECTED if worst.learned <= max_learned else Verdict.NOT_PROTECTED), reason
