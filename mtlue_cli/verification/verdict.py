"""From the figures of all victims to one verdict: the gate is the worst condition."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from msgspec import structs

from mtlue_cli.choices import MetricName, Tier
from mtlue_cli.tasks.wording import counted
from mtlue_cli.verification.conditions import Role
from mtlue_cli.verification.figures import ConditionFigures, Learned
from mtlue_cli.verification.tiers import TIERS, NotTested

RELIABLE_CONTROL = 0.5
"""Noise that protects better than this learned fraction shows that the victims are too weak to judge by."""

HALF = 0.5
"""A condition that recovers more than this share of the gap breaks the protection, whatever the gate says."""

NAMED_TASKS = 6
"""Most tasks that the reason names; more are counted, and shown in the table."""

EARLY_STEPS = 500
"""A best epoch within so many optimiser steps is called early: a victim may not have found the perturbation yet."""

ENOUGH_SEEDS = 5
"""With fewer seeds, but more than one, Student's t widens an interval to 1.4 times and more of what many seeds give."""

NAMED_CONDITIONS = 4
"""Most conditions that a reason or a note names; more are counted."""


class Verdict(StrEnum):
    """What a verification ends with."""

    PROTECTED = "protected"
    NOT_PROTECTED = "not protected"
    INCONCLUSIVE = "inconclusive"


@dataclass(frozen=True)
class Judgement:
    """The verdict, with everything that it rests on.

    Attributes:
        verdict: The outcome.
        reason: One sentence for a reader.
        max_learned: The gate on the average learned fraction of every judged condition.
        metric: What is measured.
        confidence: Of the intervals that the gate is on; None: it is on the figures themselves.
        conditions: In the order they were run.
        worst: The judged condition whose victims learned most; None if none is conclusive.
    """

    verdict: Verdict
    reason: str
    max_learned: float
    metric: MetricName = MetricName.ACCURACY
    confidence: float | None = None
    conditions: tuple[ConditionFigures, ...] = ()
    worst: ConditionFigures | None = None

    @property
    def warning(self) -> str | None:
        """Which tasks the victims of the worst condition learn although the gate is on the average."""
        pairs = self.worst.judged_tasks if self.worst else ()
        above = sorted((pair for pair in pairs if pair[1].mean > self.max_learned), key=lambda pair: pair[1].mean)
        if not above:
            return None
        named = ", ".join(f"{task.task} ({learned.mean:.2f})" for task, learned in above)
        return f"taken alone, a victim learns more than {self.max_learned:.2f} of: {named}"

    @property
    def early_note(self) -> str | None:
        """Under which judged conditions the best epoch beats the last and comes within :data:`EARLY_STEPS`."""
        early = [found for found in self.conditions if found.role is Role.JUDGED and _is_early(found)]
        if not early:
            return None
        early.sort(key=lambda found: -(found.learned_fraction or 0.0))
        named = ", ".join(_best_in_words(found) for found in early[:NAMED_CONDITIONS])
        left = len(early) - NAMED_CONDITIONS
        rest = f" and {counted(left, 'more condition')}" if left > 0 else ""
        least = TIERS[Tier.CONVERGED].least_steps
        longer = f"; --tier converged measures it with at least {least:,} steps"
        return (
            f"the best epoch came within the first {EARLY_STEPS} optimiser steps, and an attacker would have to know "
            f"when to stop: {named}{rest}{longer if min(found.steps for found in early) < least else ''}"
        )


def judge(
    conditions: Sequence[ConditionFigures],
    metric: MetricName,
    max_learned: float,
    judged: Sequence[str],
    *,
    confidence: float | None = None,
    complete: bool = True,
    missing: Sequence[NotTested] = (),
) -> Judgement:
    """Judge a release by everything that was tried against it.

    Args:
        conditions: In the order they were run; the clean victims among them.
        metric: What was measured.
        max_learned: Highest average learned fraction that still counts as protected.
        judged: Names of the tasks that the release means to protect.
        confidence: Judge by the ends of the intervals, which have this confidence: the protection holds if no upper end
            exceeds ``max_learned``, and fails if a lower end does. None: judge by the figures.
        complete: Whether the first victim learned from clean images, so that noise and countermeasures were tried.
        missing: What was asked for and could not be run, and whatever failed in training: without it the release cannot
            be called protected.
    """
    conditions = [_gated(found, max_learned, certain=confidence is not None) for found in conditions]
    tried = [(found, found.learned) for found in conditions if found.role is Role.JUDGED and found.learned is not None]
    worst, most = max(tried, key=lambda pair: pair[1].mean, default=(None, None))
    reason = _in_words(worst, most, len(tried), max_learned, judged) if worst and most else ""
    above = [pair for pair in tried if pair[0].above_gate]
    undecided = [found for found in conditions if found.undecided]
    if above:
        # What was learned in spite of the protection counts even if the measurement is weak.
        verdict = Verdict.NOT_PROTECTED
        surest = max(above, key=lambda pair: pair[1].mean if confidence is None else _ends(pair[0])[0])
        if surest[0] is not worst:
            reason = _in_words(*surest, len(tried), max_learned, judged, which="a condition that is surely above")
    elif unreliable := _unreliable(conditions, complete=complete, missing=missing):
        verdict, reason = Verdict.INCONCLUSIVE, unreliable
    elif undecided and confidence is not None:
        verdict, reason = Verdict.INCONCLUSIVE, _undecided_in_words(undecided, max_learned, confidence)
    else:
        verdict = Verdict.PROTECTED
    return Judgement(verdict, reason, max_learned, metric, confidence, tuple(conditions), worst)


def _gated(found: ConditionFigures, max_learned: float, *, certain: bool) -> ConditionFigures:
    """A condition with what the gate says of it, by the ends of its interval if ``certain``."""
    learned = found.learned_fraction
    if found.role is not Role.JUDGED or found.learned is None or learned is None:
        return found
    low, high = _ends(found) if certain else (learned, learned)
    return structs.replace(
        found,
        above_gate=low > max_learned,
        undecided=low <= max_learned < high,
        recovers_half=learned > HALF,
    )


def _ends(found: ConditionFigures) -> tuple[float, float]:
    """Ends of the interval of the learned fraction: the higher low and the higher high of last and best epoch."""
    averages = [average for average in (found.average, found.best_epoch_average) if average is not None]
    ends = [
        (-math.inf, math.inf) if average.interval is None else (average.interval.low, average.interval.high)
        for average in averages
    ]
    return max(low for low, _ in ends), max(high for _, high in ends)


def failed_audit(faults: int, max_learned: float, metric: MetricName = MetricName.ACCURACY) -> Judgement:
    """The judgement of a release whose files already fail; no victim was trained."""
    reason = f"the audit of the release found {counted(faults, 'fault')}; no victim was trained"
    return Judgement(Verdict.NOT_PROTECTED, reason, max_learned, metric)


def _unreliable(conditions: Sequence[ConditionFigures], *, complete: bool, missing: Sequence[NotTested]) -> str | None:
    """Why little that was learned says nothing about the protection; None if the measurement is sound."""
    references = [found for found in conditions if found.role is Role.REFERENCE]
    if not complete or (references and references[0].average is None):
        return (
            "the victim trained on clean images beats the floor by 2 points (an error: by 2 % of it) on no judged "
            "task, so nothing can be concluded; give it more images or --epochs, or another --backbone"
        )
    control = next((found for found in conditions if found.role is Role.CONTROL), None)
    if control is not None and control.average is not None and control.average.learned_fraction.mean < RELIABLE_CONTROL:
        return (
            "the measurement is unreliable: plain noise already lowers the learned fraction to "
            f"{control.average.learned_fraction.mean:.2f} (it should stay above {RELIABLE_CONTROL}); give the victims "
            "more images or --epochs"
        )
    if missing:
        named = "; ".join(f"{left.name} ({left.reason})" for left in missing[:NAMED_CONDITIONS])
        rest = len(missing) - NAMED_CONDITIONS
        return f"some conditions could not be tested: {named}" + (f"; and {rest} more" if rest > 0 else "")
    if all(found.role is not Role.JUDGED or found.learned is None for found in conditions):
        return "no victim was trained on protected images"
    return None


def _is_early(found: ConditionFigures) -> bool:
    learned = found.learned
    return learned is not None and learned.at_best_epoch and 0 < max(found.best_steps, default=0) < EARLY_STEPS


def _best_in_words(found: ConditionFigures) -> str:
    """Such as ``small + grayscale (after 63 to 126 of 504 steps)``."""
    steps = found.best_steps
    between = " to ".join(f"{step:,}" for step in sorted({min(steps), max(steps)}))
    return f"{found.name} (after {between} of {found.steps:,} steps)"


def _undecided_in_words(undecided: Sequence[ConditionFigures], max_learned: float, confidence: float) -> str:
    """Which intervals hold the gate, the widest upward first."""
    found = sorted(undecided, key=lambda one: -_ends(one)[1])
    named = [
        f"{one.name} (no interval)" if math.isinf(high) else f"{one.name} ({low:.2f} to {high:.2f})"
        for one in found[:NAMED_CONDITIONS]
        for low, high in [_ends(one)]
    ]
    rest = len(found) - NAMED_CONDITIONS
    few_seeds = any(1 < len(one.seeds) < ENOUGH_SEEDS for one in found)
    return (
        f"the intervals are too wide to tell with {100 * confidence:g} % confidence whether a victim learns more than "
        f"{max_learned:.2f}: {', '.join(named)}"
        + (f" and {rest} more" if rest > 0 else "")
        + "; give more test images with --test or --test-fraction"
        + (", and more --seeds" if few_seeds else "")
    )


def _figure(learned: Learned) -> str:
    """Such as ``0.12 (0.05 to 0.19)``."""
    interval = learned.interval
    return f"{learned.mean:.2f}" + (f" ({interval.low:.2f} to {interval.high:.2f})" if interval is not None else "")


def _in_words(
    worst: ConditionFigures,
    learned: Learned,
    tried: int,
    max_learned: float,
    judged: Sequence[str],
    which: str | None = None,
) -> str:
    where = "" if tried == 1 else f"under {which or f'the worst of {tried} conditions'}, {worst.name}, "
    early = " when it stops at its best epoch" if learned.at_best_epoch else ""
    task = worst.worst_task
    alone = f"; worst task: {task[0].task} with {task[1].mean:.2f}" if task is not None else ""
    reason = (
        f"{where}a victim learns {_figure(learned)} of what clean images teach on average{early} "
        f"(at most {max_learned:.2f} allowed{alone})"
    )
    averaged = worst.average.tasks if worst.average is not None else ()
    others = [name for name in judged if name not in averaged]
    if others:
        named = ", ".join(others) if len(others) <= NAMED_TASKS else f"{len(others)} of {len(judged)} tasks"
        reason += f"; not in the average, as the clean victim hardly beats the floor there: {named}"
    return reason
