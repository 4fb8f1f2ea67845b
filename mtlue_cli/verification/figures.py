"""The figures of one condition, as the result document has them: one line per task, averages, curves."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from msgspec import structs

from mtlue_cli.choices import LearnerName, MetricName
from mtlue_cli.documents import Document
from mtlue_cli.metrics.dense import beats_floor, learned_fraction, lower_is_better
from mtlue_cli.metrics.measures import gain, measure_of
from mtlue_cli.metrics.repeated import Repeated
from mtlue_cli.tasks.spec import Task, TaskSet
from mtlue_cli.verification.bootstrap import Bootstrap, Interval
from mtlue_cli.verification.conditions import Condition, Role, VictimSpec
from mtlue_cli.verification.victim_result import CurvePoint, VictimResult

SAME = 1e-5
"""Learned fractions that differ by less are the same: what is left of rounding in two ways of counting one epoch."""


class Learned(Document, frozen=True):
    """What the stronger attacker learns: the one who stops at the last epoch, or the one who stops at the best.

    Controls and references have no attacker who would stop early; theirs is after the last epoch.

    Attributes:
        fraction: Learned fraction.
        score: The figure under the metric that it comes from.
        at_best_epoch: Whether it is of the best epoch, which is higher than the last by more than 0.00001.
        interval: Of the mean; null of a single task, and where the average has none.
    """

    fraction: Repeated
    score: Repeated
    at_best_epoch: bool = False
    interval: Interval | None = None

    @property
    def mean(self) -> float:
        """Mean learned fraction over the seeds."""
        return self.fraction.mean


class Victim(Document, frozen=True):
    """The network and how it learns.

    Attributes:
        backbone: As ``--backbone``.
        learner: ``mtl``: one model for all tasks; ``stl``: one model per task.
        weighting: As ``--weighting``.
        method: How it is trained, as ``--method``, such as ``sparse:share=0.1``.
        method_settings: Every setting of the method by name.
    """

    backbone: str
    learner: LearnerName
    weighting: str
    method: str
    method_settings: Mapping[str, Any]

    @classmethod
    def of(cls, spec: VictimSpec) -> "Victim":
        """What a victim is called in the document."""
        names = spec.backbone.value, spec.learner, spec.weighting.value, str(spec.method.name)
        return cls(*names, spec.method.settings_to_json())


class TaskFigures(Document, frozen=True, kw_only=True):
    """One task under one condition; shares in [0, 1], errors of tasks that label every pixel in their units.

    Attributes:
        task: Name of the label column.
        judged: Whether the release means to protect it; others are shown and not judged.
        conclusive: Whether the clean victim beats the floor by at least 2 points, an error by at least 2 % of the
            floor; if not, nothing can be concluded from the task, and it is left out of averages.
        floor: What a constant guess reaches under the metric.
        place_floor: Of a task that labels every pixel: what one guess per position in the image reaches, which label
            maps alone teach; null for labels of whole images.
        clean, score: What the reference victim reaches under the metric, and this condition's victim.
        metric: What ``floor``, ``clean`` and ``score`` are figures of: the document's metric, or ``miou``,
            ``absolute_error``, ``mean_angle`` for a task that labels every pixel.
        lower_is_better: Whether they are errors.
        accuracy: Its accuracy; null, as the two that follow, for a task that labels every pixel.
        balanced_accuracy: Mean of the recalls of all classes.
        auroc: Area under the ROC curve, of one class against the rest where there are several; null if only one occurs.
        dense: Every figure of a task that labels every pixel: ``miou``, ``pixel_accuracy``; ``absolute_error``,
            ``relative_error``; ``mean_angle``, ``median_angle``, ``within_11.25``, ``within_22.5``, ``within_30``; null
            for labels of whole images.
        learned: What reports say was learned of it; null if inconclusive.
        learned_fraction: After the last epoch; null if inconclusive.
        learned_beyond_place: The same with ``place_floor`` in place of ``floor``; null where there is none, or the
            clean victim hardly beats it.
        best_epoch_accuracy: Accuracy (of a task that labels every pixel: the figure called ``metric``) at the best
            epoch, each half of the clean test images measured at the epoch that the other half chose; null under
            another metric.
        best_epoch_learned_fraction: Learned fraction at the best epoch.
    """

    task: str
    judged: bool
    conclusive: bool
    floor: float
    place_floor: float | None
    clean: Repeated
    score: Repeated
    metric: str
    lower_is_better: bool
    accuracy: Repeated | None
    balanced_accuracy: Repeated | None
    auroc: Repeated | None
    dense: Mapping[str, Repeated | None] | None
    learned: Learned | None
    learned_fraction: Repeated | None
    learned_beyond_place: Repeated | None
    best_epoch_accuracy: Repeated | None
    best_epoch_learned_fraction: Repeated | None


class Average(Document, frozen=True):
    """Means over the judged, conclusive tasks.

    An error, which may be in metres or in degrees, goes in as its gain: the share of the floor that it falls by.

    Attributes:
        tasks: The tasks that the means run over.
        score, clean_score: Means of this condition's victim under the metric, and of the reference victim; one value
            per seed.
        floor: Mean floor; that of a gain is 0.
        learned_fraction: Ratio of the means: single ratios with a small denominator would drown the rest.
        interval: Where its mean may lie, as the test images are a sample; null for clean victims, for AUROC, with tasks
            that label every pixel, and where the clean victim hardly beats the floor.
    """

    tasks: tuple[str, ...]
    score: Repeated
    clean_score: Repeated
    floor: float
    learned_fraction: Repeated
    interval: Interval | None = None


class Curve(Document, frozen=True):
    """A victim over its training.

    Attributes:
        seed: Of the victim.
        epochs: In order.
    """

    seed: int
    epochs: tuple[CurvePoint, ...]


class Stage(Document, frozen=True, kw_only=True):
    """A victim after the last epoch on one release of a sequence; means over the judged, conclusive tasks.

    Attributes:
        protected_fraction: Share of this release that is protected.
        score: Accuracy on clean test images.
        learned_fraction: As everywhere, against the victim that was trained on clean images alone.
        error: Learning error on the release itself: 1 minus the accuracy in training.
        mean_error: Mean of the errors so far, on which the bound of Dong et al., TMLR 2022 (arXiv 2204.11644) on the
            error on the last release depends linearly.
    """

    protected_fraction: float
    score: Repeated
    learned_fraction: Repeated
    error: Repeated
    mean_error: Repeated


class Concepts(Document, frozen=True, kw_only=True):
    """One column predicted through the others as concepts, on clean test images after the last epoch.

    Attributes:
        target: The column that is predicted.
        concepts, residuals: Number of concepts (classes of the other columns), and of vectors that complete them.
        accuracy: Of the target, with the vectors.
        by_concepts: Of the target from the concepts alone.
        learned_by_concepts: Learned fraction from the concepts alone, against the victim on clean images from its
            concepts alone; null if that hardly beats the floor.
        efficiency: Concept utilisation efficiency (Shang et al., CVPR 2024): accuracy in percent over number times mean
            length of concepts in characters, without a factor of scale; the vectors count as concepts.
        efficiency_by_concepts: The same of the concepts alone.
    """

    target: str
    concepts: int
    residuals: int
    accuracy: Repeated
    by_concepts: Repeated
    learned_by_concepts: Repeated | None
    efficiency: Repeated
    efficiency_by_concepts: Repeated


class ConditionFigures(Document, frozen=True, kw_only=True):
    """One kind of victim on one kind of training images.

    Attributes:
        name, title: Unique within the document, such as ``resnet18 + jpeg-10``; the name for a reader.
        role: ``reference`` (clean images: what can be learned), ``judged`` (the gate is on these), ``control`` (plain
            noise, which must not protect) or ``comparison`` (shown beside, never judged).
        victim: The network and how it learns.
        countermeasure: What the attacker does, as ``--countermeasure``, such as ``jpeg:quality=20``; null: nothing.
        countermeasure_settings: Every setting of the countermeasure by name.
        source: Where the countermeasure comes from.
        protected_fraction: Share of the training images that is protected.
        seeds: One victim each.
        tasks: Figures on clean test images.
        average: After the last epoch; null if no judged task is conclusive.
        best_epoch_average: The same at the epoch that clean validation images show to be best.
        best_epochs: One pair of epochs per seed, each chosen by one half of the clean test images, or null.
        steps_per_epoch: Optimiser steps of one epoch; of several networks, of the one with most images.
        best_epoch_steps: The same pairs in optimiser steps from the start of the training, or null.
        learned: What reports say was learned on average; null if no judged task is conclusive.
        learned_fraction: What the gate compares: the higher of the two averages' learned fractions.
        above_gate: Whether a judged condition's average learned fraction exceeds ``max_learned``; with ``confidence``,
            the lower end of its interval at the last or the best epoch.
        undecided: Whether, with ``confidence``, one of these two intervals holds ``max_learned``, or is missing.
        recovers_half: Whether a judged condition recovers more than half of the gap to clean images.
        utility: The average over the conclusive tasks that are not judged, which are to stay useful; null without any.
        trajectory: Of a victim that is trained on a sequence of releases, after each of them; else empty.
        stopped_epochs: Per seed, task to the epoch that validation images chose, which all figures are of in place of
            the last; null: the last counts.
        concepts: Of a victim that predicts one column through the others; else null.
        curves: One per seed.
        seconds: What training took, over all seeds (when it was trained, if it comes from the cache).
        cached: Whether all of it comes from the cache.
    """

    name: str
    title: str
    role: Role
    victim: Victim
    countermeasure: str | None
    countermeasure_settings: Mapping[str, Any] | None
    source: str | None
    protected_fraction: float
    seeds: tuple[int, ...]
    tasks: tuple[TaskFigures, ...]
    average: Average | None
    best_epoch_average: Average | None
    best_epochs: tuple[tuple[int, int] | None, ...]
    steps_per_epoch: int
    best_epoch_steps: tuple[tuple[int, int] | None, ...]
    learned: Learned | None
    learned_fraction: float | None
    above_gate: bool = False
    undecided: bool = False
    recovers_half: bool = False
    utility: Average | None = None
    trajectory: tuple[Stage, ...] = ()
    stopped_epochs: tuple[Mapping[str, int] | None, ...] = ()
    concepts: Concepts | None = None
    curves: tuple[Curve, ...]
    seconds: float
    cached: bool

    @property
    def steps(self) -> int:
        """Optimiser steps of one victim."""
        return self.steps_per_epoch * max(len(curve.epochs) for curve in self.curves)

    @property
    def best_steps(self) -> list[int]:
        """Optimiser steps up to each best epoch, over all seeds."""
        return [step for pair in self.best_epoch_steps if pair is not None for step in pair]

    @property
    def judged_tasks(self) -> list[tuple[TaskFigures, Learned]]:
        """The judged tasks that are conclusive, and what is learned of each."""
        return [(task, task.learned) for task in self.tasks if task.judged and task.learned is not None]

    @property
    def worst_task(self) -> tuple[TaskFigures, Learned] | None:
        """The one that most is learned of; None if none is conclusive."""
        return max(self.judged_tasks, key=lambda pair: pair[1].mean, default=None)


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
    bootstrap: Bootstrap | None = None,
) -> ConditionFigures:
    """Put the figures of one condition together; whether it passes the gate is for the verdict to say.

    Args:
        condition: Which.
        victims: Its victims, one per seed.
        clean: The victims of the same kind and seeds that were trained on clean images.
        floor: What a constant guess reaches under ``metric``, of a dense task in its main figure, per task.
        tasks: All tasks.
        judged: Names of those that the release means to protect.
        metric: What is measured of image-level tasks.
        place_floor: What one guess per position in the image reaches, per dense task.
        steps_per_epoch: Optimiser steps of one epoch of the victims.
        bootstrap: Draws the test images anew, for intervals; None: there are none.
    """
    countermeasure, place_floor = condition.countermeasure, place_floor or {}
    stops_early = condition.role not in (Role.CONTROL, Role.REFERENCE)
    lines = tuple(
        _line(
            task,
            victims,
            clean,
            (floor[task.name], place_floor.get(task.name)),
            metric,
            judged=task.name in judged,
            stops_early=stops_early,
        )
        for task in tasks
    )
    kept = [line for line in lines if line.judged and line.conclusive]

    def bounded(average: Average | None, *, at_best_epoch: bool = False) -> Average | None:
        if average is None or bootstrap is None or condition.role is Role.REFERENCE:
            return average
        names, learned = average.tasks, average.learned_fraction
        interval = bootstrap.interval(victims, clean, names, learned, at_best_epoch=at_best_epoch)
        return structs.replace(average, interval=interval)

    average = bounded(average_of(kept, [line.score for line in kept]))
    best_average = bounded(average_of(kept, [line.best_epoch_accuracy for line in kept]), at_best_epoch=True)
    last, best = reached(average), reached(best_average, at_best_epoch=True)
    most = stronger(last, best)
    best_epochs = tuple(victim.best_epochs for victim in victims)
    unjudged = [line for line in lines if not line.judged and line.conclusive]
    return ConditionFigures(
        name=condition.name,
        title=f"{condition.victim.name} + {countermeasure.title}" if countermeasure else condition.name,
        role=condition.role,
        victim=Victim.of(condition.victim),
        countermeasure=str(countermeasure.name) if countermeasure else None,
        countermeasure_settings=countermeasure.settings_to_json() if countermeasure else None,
        source=countermeasure.settings.source if countermeasure else None,
        protected_fraction=condition.protected_fraction,
        seeds=tuple(victim.seed for victim in victims),
        tasks=lines,
        average=average,
        best_epoch_average=best_average,
        best_epochs=best_epochs,
        steps_per_epoch=steps_per_epoch,
        best_epoch_steps=tuple(pair and (pair[0] * steps_per_epoch, pair[1] * steps_per_epoch) for pair in best_epochs),
        learned=most if stops_early else last,
        learned_fraction=None if most is None else most.mean,
        utility=average_of(unjudged, [line.score for line in unjudged]),
        trajectory=_trajectory(condition, victims, average, metric),
        stopped_epochs=tuple(victim.stopped for victim in victims),
        concepts=_concepts(victims, clean, floor, metric),
        curves=tuple(Curve(victim.seed, victim.curve) for victim in victims),
        seconds=round(sum(victim.seconds for victim in victims), 2),
        cached=all(victim.cached for victim in victims),
    )


def _trajectory(
    condition: Condition, victims: Sequence[VictimResult], average: Average | None, metric: MetricName
) -> tuple[Stage, ...]:
    """After each release of a sequence; nothing under another metric than accuracy, which alone is kept per epoch."""
    if not condition.trajectory or average is None or metric is not MetricName.ACCURACY:
        return ()

    def mean(accuracy: Mapping[str, float | None]) -> float:
        return sum(accuracy[name] or 0.0 for name in average.tasks) / len(average.tasks)

    each = len(victims[0].curve) // len(condition.trajectory)
    ends = [[victim.curve[(stage + 1) * each - 1] for victim in victims] for stage in range(len(condition.trajectory))]
    errors = [[1 - mean(point.train_accuracy) for point in points] for points in ends]
    stages: list[Stage] = []
    for share, points, error in zip(condition.trajectory, ends, errors, strict=True):
        scores = [mean(point.test_accuracy) for point in points]
        so_far = errors[: len(stages) + 1]
        stages.append(
            Stage(
                protected_fraction=share,
                score=Repeated.of(scores),
                learned_fraction=Repeated.of(
                    learned_fraction(score, average.clean_score.mean, average.floor) for score in scores
                ),
                error=Repeated.of(error),
                mean_error=Repeated.of(sum(values) / len(values) for values in zip(*so_far, strict=True)),
            )
        )
    return tuple(stages)


def _concepts(
    victims: Sequence[VictimResult], clean: Sequence[VictimResult], floor: Mapping[str, float], metric: MetricName
) -> Concepts | None:
    """What concept bottlenecks reach; None if the victims have none."""
    found = [victim.concepts for victim in victims if victim.concepts is not None]
    reference = [victim.concepts for victim in clean if victim.concepts is not None]
    if not found:
        return None
    target, alone = found[0].target, Repeated.of(one.by_concepts for one in found)
    learned = None
    if metric is MetricName.ACCURACY and reference:
        above, best = floor[target], Repeated.of(one.by_concepts for one in reference).mean
        if beats_floor(best, above, metric.value):
            learned = Repeated.of(learned_fraction(value, best, above) for value in alone.values)
    return Concepts(
        target=target,
        concepts=found[0].concepts,
        residuals=found[0].residuals,
        accuracy=Repeated.of(one.accuracy for one in found),
        by_concepts=alone,
        learned_by_concepts=learned,
        efficiency=Repeated.of(one.efficiency for one in found),
        efficiency_by_concepts=Repeated.of(one.efficiency_by_concepts for one in found),
    )


def stronger(last: Learned | None, best: Learned | None) -> Learned | None:
    """What the stronger attacker learns: who stops at the last epoch, unless who stops at the best learns more."""
    return best if best is not None and (last is None or best.mean > last.mean + SAME) else last


def reached(average: Average | None, *, at_best_epoch: bool = False) -> Learned | None:
    """What an average says was learned; None without one."""
    if average is None:
        return None
    return Learned(average.learned_fraction, average.score, at_best_epoch, average.interval)


def _line(
    task: Task,
    victims: Sequence[VictimResult],
    clean: Sequence[VictimResult],
    floors: tuple[float, float | None],
    metric: MetricName,
    *,
    judged: bool,
    stops_early: bool,
) -> TaskFigures:
    measure = measure_of(task, metric)
    floor, place_floor = floors

    def scores(results: Sequence[VictimResult], which: str) -> Repeated | None:
        values = [result.figure(task, which) for result in results]
        known = [value for value in values if value is not None]
        return Repeated.of(known) if known and len(known) == len(values) else None

    # A metric that does not exist for a task, AUROC with one class, counts as the floor.
    unknown = Repeated.of([floor] * len(victims))
    reference, score = scores(clean, measure) or unknown, scores(victims, measure) or unknown
    best = [result.best_accuracy[task.name] for result in victims if result.best_accuracy is not None]
    measured = (task.is_dense or metric is MetricName.ACCURACY) and len(best) == len(victims)
    best_score = Repeated.of(best) if measured else None
    others = {which: scores(victims, which) for which in victims[0].measures(task)}

    def learned(of: Repeated | None, above: float | None) -> Repeated | None:
        if of is None or above is None or not beats_floor(reference.mean, above, measure):
            return None
        return Repeated.of(learned_fraction(value, reference.mean, above) for value in of.values)

    last, at_best = learned(score, floor), learned(best_score, floor)
    after_last = None if last is None else Learned(last, score)
    after_best = None if at_best is None or best_score is None else Learned(at_best, best_score, at_best_epoch=True)
    return TaskFigures(
        task=task.name,
        judged=judged,
        conclusive=beats_floor(reference.mean, floor, measure),
        floor=floor,
        place_floor=place_floor,
        clean=reference,
        score=score,
        metric=measure,
        lower_is_better=lower_is_better(measure),
        accuracy=others.get(MetricName.ACCURACY),
        balanced_accuracy=others.get(MetricName.BALANCED),
        auroc=others.get(MetricName.AUROC),
        dense=others if task.is_dense else None,
        learned=stronger(after_last, after_best) if stops_early else after_last,
        learned_fraction=last,
        learned_beyond_place=learned(score, place_floor),
        best_epoch_accuracy=best_score,
        best_epoch_learned_fraction=at_best,
    )


def average_of(lines: Sequence[TaskFigures], scores: Sequence[Repeated | None]) -> Average | None:
    """Means over judged, conclusive tasks and the victim's score in each; None without any, or if one is missing."""
    known = [score for score in scores if score is not None]
    if not lines or len(known) < len(lines):
        return None
    score = _mean_gain(zip(lines, known, strict=True))
    clean = _mean_gain((line, line.clean) for line in lines)
    floor = sum(gain(line.floor, line.floor, line.metric) for line in lines) / len(lines)
    learned = Repeated.of(learned_fraction(value, clean.mean, floor) for value in score.values)
    return Average(tuple(line.task for line in lines), score, clean, floor, learned)


def _mean_gain(figures: Iterable[tuple[TaskFigures, Repeated]]) -> Repeated:
    """Mean over tasks, seed by seed, of figures as gains, which are better the larger they are and know no unit."""
    gains = [[gain(value, line.floor, line.metric) for value in figure.values] for line, figure in figures]
    return Repeated.of(sum(values) / len(gains) for values in zip(*gains, strict=True))
