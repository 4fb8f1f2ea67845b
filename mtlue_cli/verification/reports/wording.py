"""How names and figures read in every report."""

import math
import re
from collections.abc import Callable, Sequence
from functools import partial

from mtlue_cli.metrics.flip import SCALE, MeanFlip
from mtlue_cli.metrics.measures import in_unit
from mtlue_cli.metrics.repeated import Repeated
from mtlue_cli.tasks.wording import counted
from mtlue_cli.verification.conditions import Role
from mtlue_cli.verification.document import VerifyDocument
from mtlue_cli.verification.figures import ConditionFigures, Learned, TaskFigures
from mtlue_cli.verification.verdict import Verdict

NOTHING = "\N{EN DASH}"
"""Stands where a figure was not measured."""

BEST_EPOCH = "(best epoch)"
"""Stands beside a figure that was not reached after the last epoch."""

SIGNS = {
    Verdict.PROTECTED: "\N{HEAVY CHECK MARK}",
    Verdict.NOT_PROTECTED: "\N{HEAVY MULTIPLICATION X}",
    Verdict.INCONCLUSIVE: "?",
}
"""Verdict to the sign beside its word, so that colour never stands alone."""

_UNWANTED = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ufffe\uffff]")
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")
_RANKS = (Role.JUDGED, Role.CONTROL, Role.COMPARISON, Role.REFERENCE)


def clean_text(text: object) -> str:
    """``text`` without control characters, as XML and UTF-8 can carry it; tabs and line ends stay.

    Half a surrogate pair, which a file name with undecodable bytes turns into, becomes the replacement character.
    """
    return _LONE_SURROGATE.sub("\N{REPLACEMENT CHARACTER}", _UNWANTED.sub("", str(text)))


def clipped(text: object, most: int) -> str:
    """The cleaned ``text``, cut to ``most`` characters; a cut shows as an ellipsis."""
    cleaned = clean_text(text)
    return cleaned if len(cleaned) <= most else cleaned[: most - 1] + "\N{HORIZONTAL ELLIPSIS}"


def mean_of(figure: Repeated | None) -> float | None:
    """The mean over the seeds, or None where nothing was measured."""
    return None if figure is None else figure.mean


def with_interval(
    figure: Repeated | None,
    written: Callable[[float | None], str],
    written_mean: Callable[[float | None], str] | None = None,
) -> str:
    """A mean and, if several seeds were run, its 95 % interval: ``71.2 (69.0 to 73.4)``.

    Args:
        figure: What was measured.
        written: How a value reads.
        written_mean: How the mean reads; None: as the ends of the interval.
    """
    mean = (written_mean or written)(mean_of(figure))
    if figure is None or figure.low is None:
        return mean
    return f"{mean} ({written(figure.low)} to {written(figure.high)})"


def fraction(value: float | None, gate: float | None = None) -> str:
    """A learned fraction with two digits, or with four where two would hide on which side of ``gate`` it lies."""
    if value is None:
        return NOTHING
    if gate is not None and (round(value, 2) > gate) != (value > gate):
        return f"{value:.4f}"
    text = f"{value:.2f}"
    return "0.00" if text == "-0.00" else text


def percent(value: float | None) -> str:
    """A share in [0, 1] as percent with one digit, without the sign."""
    return NOTHING if value is None else f"{100 * value:.1f}"


def share_with_interval(figure: Repeated | None) -> str:
    """A mean share in percent with its interval."""
    return with_interval(figure, percent)


def figure_of(task: TaskFigures, value: float | None) -> str:
    """A figure of a task in its metric: a share as bare percent, an error with its unit."""
    return NOTHING if value is None else in_unit(value, task.metric)


def with_sign(task: TaskFigures, text: str) -> str:
    """A figure of a task, as :func:`figure_of` gives it, with the sign of percent where it is a share."""
    return text if task.lower_is_better else f"{text} %"


def task_figure_with_interval(task: TaskFigures, figure: Repeated | None) -> str:
    """A mean figure of a task with its interval; a share with the sign."""
    return with_sign(task, with_interval(figure, partial(figure_of, task)))


def by_place(task: TaskFigures, gate: float | None = None) -> str | None:
    """What one guess per position reaches, and what is learned beyond it; None unless every pixel is labelled."""
    if task.place_floor is None:
        return None
    floor = with_sign(task, figure_of(task, task.place_floor))
    return f"by position alone {floor}, learned beyond it {fraction(mean_of(task.learned_beyond_place), gate)}"


def fraction_with_interval(figure: Repeated | None, gate: float | None = None) -> str:
    """A mean learned fraction with its interval: ``0.12 (0.05 to 0.19)``."""
    return with_interval(figure, fraction, partial(fraction, gate=gate))


def flip_in_words(found: MeanFlip | None) -> str | None:
    """Mean FLIP, what it is the mean of, and how to read it; None where it was not measured."""
    return None if found is None else f"{found.mean:.3f} (mean of {counted(found.files, 'image')}; {SCALE})"


def elapsed(seconds: float) -> str:
    """``4.2 s``, ``1 min 15 s`` or ``2 h 3 min``."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def victim_in_words(condition: ConditionFigures) -> str:
    """Backbone, learner, weighting and training method of a condition's victim, in one phrase."""
    victim = condition.victim
    parts = victim.backbone, victim.learner, victim.weighting, victim.method, stopped_in_words(condition)
    return ", ".join(map(clean_text, filter(None, parts)))


def stopped_in_words(condition: ConditionFigures) -> str:
    """Which epochs validation images chose, such as ``epoch 3 of 8 by validation``; empty where the last counts."""
    chosen = sorted({epoch for found in condition.stopped_epochs if found is not None for epoch in found.values()})
    total = max((len(curve.epochs) for curve in condition.curves), default=0)
    return f"epoch {' or '.join(map(str, chosen))} of {total} by validation" if chosen else ""


def trajectory_in_words(condition: ConditionFigures) -> str | None:
    """What is learned after each release of a sequence, by its protected share; None without one."""
    if not condition.trajectory:
        return None
    learned = (
        f"{fraction(one.learned_fraction.mean)} at {100 * one.protected_fraction:g} %" for one in condition.trajectory
    )
    return f"learned after each release, by the share that is protected: {', '.join(learned)}"


def concepts_in_words(condition: ConditionFigures) -> str | None:
    """What is predicted through concepts, and how well; None without a concept bottleneck."""
    found = condition.concepts
    if found is None:
        return None
    return (
        f"{clean_text(found.target)} through {found.concepts} concepts {share_with_interval(found.by_concepts)} %, "
        f"with {found.residuals} residual vectors {share_with_interval(found.accuracy)} %; learned through the "
        f"concepts alone {fraction_with_interval(found.learned_by_concepts)}; concept utilisation efficiency "
        f"{fraction(found.efficiency_by_concepts.mean)}, with the vectors {fraction(found.efficiency.mean)}"
    )


def trade_off_in_words(condition: ConditionFigures) -> str | None:
    """What is forgotten of the protected tasks, and left of the kept ones; None where no task is kept."""
    if condition.role is Role.REFERENCE or condition.utility is None or condition.learned is None:
        return None
    names = ", ".join(map(clean_text, condition.utility.tasks))
    return (
        f"forgotten of what is protected {fraction(1 - condition.learned.mean)}, learned of what is kept ({names}) "
        f"{fraction_with_interval(condition.utility.learned_fraction)}"
    )


def epoch_remark(learned: Learned | None) -> str:
    """What stands behind a learned fraction: :data:`BEST_EPOCH` after a space, or nothing."""
    return f" {BEST_EPOCH}" if learned is not None and learned.at_best_epoch else ""


def bounded_fraction(learned: Learned, gate: float | None = None) -> str:
    """A learned fraction with its interval, or that of its seeds where it has none: ``0.12 (0.05 to 0.19)``."""
    if learned.interval is None:
        return fraction_with_interval(learned.fraction, gate)
    return f"{fraction(learned.mean, gate)} ({fraction(learned.interval.low)} to {fraction(learned.interval.high)})"


def learned_with_interval(learned: Learned, gate: float) -> str:
    """Mean, interval and epoch: ``0.12 (0.05 to 0.19) (best epoch)``."""
    return bounded_fraction(learned, gate) + epoch_remark(learned)


def gate_in_words(document: VerifyDocument) -> str:
    """What may not exceed the gate."""
    if document.confidence is None:
        return f"the average learned fraction of no condition may exceed {document.max_learned:g}"
    return (
        f"the {100 * document.confidence:g} % interval of no condition's average learned fraction may reach above "
        f"{document.max_learned:g}"
    )


def learned_in_parentheses(learned: Learned, gate: float) -> str:
    """Mean and epoch, to stand within parentheses: ``0.12, best epoch``."""
    return fraction(learned.mean, gate) + (f", {BEST_EPOCH.strip('()')}" if learned.at_best_epoch else "")


def worst_first(conditions: Sequence[ConditionFigures]) -> list[ConditionFigures]:
    """Judged conditions by falling learned fraction, then controls, comparisons and references as they were run."""

    def rank(condition: ConditionFigures) -> tuple[int, float]:
        most = math.inf if condition.learned is None else -condition.learned.mean
        return _RANKS.index(condition.role), most if condition.role is Role.JUDGED else 0.0

    return sorted(conditions, key=rank)
