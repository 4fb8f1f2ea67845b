"""How names and figures read in every report."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mtlue_cli.metrics.flip import SCALE
from mtlue_cli.metrics.measures import in_unit
from mtlue_cli.verification.figures import SAME

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
_TO_THE_LAST_EPOCH = frozenset({"control", "reference"})
"""Roles without an attacker who would stop early: the verdict reads them after the last epoch."""


@dataclass(frozen=True)
class Learned:
    """What the stronger attacker reaches: he who stops at the last epoch, or he who stops at the best.

    Attributes:
        fraction: Learned fraction, a measure.
        score: Measure under the metric at the same epoch.
        best_epoch: Whether it is that of the best epoch, which is then higher than that of the last.
    """

    fraction: Document
    score: Document
    best_epoch: bool

    @property
    def mean(self) -> float:
        """Mean learned fraction over the seeds."""
        return float(self.fraction["mean"])

    @property
    def remark(self) -> str:
        """What stands behind the figure: :data:`BEST_EPOCH` after a space, or nothing."""
        return f" {BEST_EPOCH}" if self.best_epoch else ""

    def told(self, gate: float) -> str:
        """Mean, interval and epoch: ``0.12 (0.05 to 0.19) (best epoch)``."""
        return fraction_with_interval(self.fraction, gate) + self.remark

    def told_briefly(self, gate: float) -> str:
        """Mean and epoch for a place within parentheses: ``0.12, best epoch``."""
        return fraction(self.mean, gate) + (f", {BEST_EPOCH.strip('()')}" if self.best_epoch else "")


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
    place = task.get("place_floor")
    if place is None:
        return None
    sign = "" if task.get("lower_is_better") else " %"
    beyond = fraction(mean_of(task["learned_beyond_place"]), gate)
    return f"by place alone {figure_of(task, place)}{sign}, learned beyond it {beyond}"


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
    """Backbone, learner, weighting and way of training of a condition's victim, in one phrase."""
    victim = condition["victim"]
    parts = [victim["backbone"], victim["learner"], victim["weighting"], victim["method"]]
    return ", ".join(clean_text(part) for part in parts if part)


def average_learned(condition: Document) -> Learned | None:
    """What the gate compares: learned over the conclusive judged tasks; None if there is none.

    Controls and references, which are not compared with the gate, are read after the last epoch.
    """
    last, best = condition["average"], condition["best_epoch_average"]
    return _higher(
        None if last is None else Learned(last["learned_fraction"], last["score"], best_epoch=False),
        None if best is None else Learned(best["learned_fraction"], best["score"], best_epoch=True),
        condition["role"],
    )


def task_learned(task: Document, role: str) -> Learned | None:
    """The same of one task of a condition with this role; None if it is inconclusive."""
    last, best = task["learned_fraction"], task["best_epoch_learned_fraction"]
    return _higher(
        None if last is None else Learned(last, task["score"], best_epoch=False),
        None if best is None else Learned(best, task["best_epoch_accuracy"], best_epoch=True),
        role,
    )


def _higher(last: Learned | None, best: Learned | None, role: str) -> Learned | None:
    if best is None or role in _TO_THE_LAST_EPOCH:
        return last
    return best if last is None or best.mean > last.mean + SAME else last


def worst_first(conditions: Sequence[Document]) -> list[Document]:
    """Judged conditions by falling learned fraction, then controls, comparisons and references as they were run."""

    def rank(condition: Document) -> tuple[int, float]:
        rank_of_role = _RANKS.get(condition["role"], len(_RANKS))
        if condition["role"] != "judged":
            return rank_of_role, 0.0
        learned = average_learned(condition)
        return rank_of_role, math.inf if learned is None else -learned.mean

    return sorted(conditions, key=rank)


def worst_task(condition: Document) -> tuple[str, Learned] | None:
    """Name of the judged task that a condition's victim learns most of, and how much; None if none is conclusive."""
    figures = [(task["task"], task_learned(task, condition["role"])) for task in condition["tasks"] if task["judged"]]
    measured = [(name, learned) for name, learned in figures if learned is not None]
    return max(measured, key=lambda one: one[1].mean, default=None)


def task_names(conditions: Sequence[Document]) -> list[str]:
    """Every task of any condition, in the order of the first that has it."""
    return list(dict.fromkeys(task["task"] for condition in conditions for task in condition["tasks"]))
