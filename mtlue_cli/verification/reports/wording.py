"""How names and figures read in every report."""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from mtlue_cli.metrics.flip import SCALE
from mtlue_cli.metrics.measures import in_unit

Document = Mapping[str, Any]
"""A result of ``mtlue verify``, or a part of one, as read from JSON; ``docs/verify-result.md`` names its fields."""

NOTHING = "\N{EN DASH}"
"""Stands where a figure was not measured."""

BEST_EPOCH = "(best epoch)"
"""Stands beside a figure that was not reached after the last epoch."""

SIGNS = {
    "protected": "\N{HEAVY CHECK MARK}",
    "not protected": "\N{HEAVY MULTIPLICATION X}",
    "inconclusive": "?",
}
"""Verdict to the sign beside its word, so that colour never stands alone."""

_UNWANTED = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ufffe\uffff]")
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")
_RANKS = {"judged": 0, "control": 1, "comparison": 2, "reference": 3}


def clean_text(text: object) -> str:
    """``text`` without control characters, as XML and UTF-8 can carry it; tabs and line ends stay.

    Half a surrogate pair, which a file name with undecodable bytes turns into, becomes the replacement character.
    """
    return _LONE_SURROGATE.sub("\N{REPLACEMENT CHARACTER}", _UNWANTED.sub("", str(text)))


def clipped(text: object, most: int) -> str:
    """The cleaned ``text``, cut to ``most`` characters; a cut shows as an ellipsis."""
    cleaned = clean_text(text)
    return cleaned if len(cleaned) <= most else cleaned[: most - 1] + "\N{HORIZONTAL ELLIPSIS}"


def mean_of(figure: Document | None) -> float | None:
    """The mean over the seeds, or None where nothing was measured."""
    return None if figure is None else float(figure["mean"])


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


def share_with_interval(figure: Document | None) -> str:
    """A mean share in percent and, if several seeds were run, its 95 % interval: ``71.2 (69.0 to 73.4)``."""
    if figure is None or figure["low"] is None or figure["high"] is None:
        return percent(mean_of(figure))
    return f"{percent(figure['mean'])} ({percent(figure['low'])} to {percent(figure['high'])})"


def figure_of(task: Document, value: float | None) -> str:
    """A figure of a task in its metric: a share as bare percent, an error with its unit."""
    if value is None:
        return NOTHING
    return in_unit(value, task["metric"]) if task.get("lower_is_better") else percent(value)


def task_figure_with_interval(task: Document, figure: Document | None) -> str:
    """A mean figure of a task and, if several seeds were run, its 95 % interval; a share with the sign."""
    sign = "" if task.get("lower_is_better") else " %"
    text = figure_of(task, mean_of(figure))
    if figure is not None and figure["low"] is not None and figure["high"] is not None:
        text += f" ({figure_of(task, figure['low'])} to {figure_of(task, figure['high'])})"
    return text + sign


def by_place(task: Document, gate: float | None = None) -> str | None:
    """What a guess a place reaches of a task that labels every pixel, and what is learned beyond it; else None."""
    floor = task.get("place_floor")
    if floor is None:
        return None
    sign = "" if task.get("lower_is_better") else " %"
    beyond = fraction(mean_of(task["learned_beyond_place"]), gate)
    return f"by place alone {figure_of(task, floor)}{sign}, learned beyond it {beyond}"


def fraction_with_interval(figure: Document | None, gate: float | None = None) -> str:
    """A mean learned fraction and, if several seeds were run, its 95 % interval: ``0.12 (0.05 to 0.19)``."""
    if figure is None or figure["low"] is None or figure["high"] is None:
        return fraction(mean_of(figure), gate)
    return f"{fraction(figure['mean'], gate)} ({fraction(figure['low'])} to {fraction(figure['high'])})"


def flip_in_words(found: Document | None) -> str | None:
    """Mean FLIP, what it is the mean of, and how to read it; None where it was not measured."""
    if found is None:
        return None
    return f"{found['mean']:.3f} (mean of {counted(found['files'], 'image')}; {SCALE})"


def elapsed(seconds: float) -> str:
    """``4.2 s``, ``1 min 15 s`` or ``2 h 3 min``."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def counted(number: int, noun: str) -> str:
    """``1 fault``, ``2 faults``, ``1,200 faults``."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def victim_in_words(condition: Document) -> str:
    """Backbone, learner, weighting and training method of a condition's victim, in one phrase."""
    victim = condition["victim"]
    parts = [victim["backbone"], victim["learner"], victim["weighting"], victim["method"]]
    return ", ".join(clean_text(part) for part in parts if part)


def epoch_remark(learned: Document | None) -> str:
    """What stands behind a learned fraction: :data:`BEST_EPOCH` after a space, or nothing."""
    return f" {BEST_EPOCH}" if learned is not None and learned["at_best_epoch"] else ""


def learned_with_interval(learned: Document, gate: float) -> str:
    """Mean, interval and epoch: ``0.12 (0.05 to 0.19) (best epoch)``."""
    return fraction_with_interval(learned["fraction"], gate) + epoch_remark(learned)


def learned_in_parentheses(learned: Document, gate: float) -> str:
    """Mean and epoch, to stand within parentheses: ``0.12, best epoch``."""
    best = f", {BEST_EPOCH.strip('()')}" if learned["at_best_epoch"] else ""
    return fraction(learned["fraction"]["mean"], gate) + best


def worst_first(conditions: Sequence[Document]) -> list[Document]:
    """Judged conditions by falling learned fraction, then controls, comparisons and references as they were run."""

    def rank(condition: Document) -> tuple[int, float]:
        rank_of_role = _RANKS.get(condition["role"], len(_RANKS))
        if condition["role"] != "judged":
            return rank_of_role, 0.0
        learned = condition["learned"]
        return rank_of_role, math.inf if learned is None else -learned["fraction"]["mean"]

    return sorted(conditions, key=rank)


def worst_task(condition: Document) -> Document | None:
    """The judged task that a condition's victim learns most of; None if none is conclusive."""
    measured = [task for task in condition["tasks"] if task["judged"] and task["learned"] is not None]
    return max(measured, key=lambda task: float(task["learned"]["fraction"]["mean"]), default=None)


def task_names(conditions: Sequence[Document]) -> list[str]:
    """Every task of any condition, in the order of the first that has it."""
    return list(dict.fromkeys(task["task"] for condition in conditions for task in condition["tasks"]))
