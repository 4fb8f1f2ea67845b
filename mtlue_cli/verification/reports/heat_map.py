"""Learned fractions of all tasks under all conditions as coloured cells."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from mtlue_cli.verification.conditions import Role
from mtlue_cli.verification.document import VerifyDocument
from mtlue_cli.verification.figures import ConditionFigures, Learned, TaskFigures
from mtlue_cli.verification.reports.wording import (
    bounded_fraction,
    epoch_remark,
    fraction,
    worst_first,
)

STEP = 0.25
"""Width of a colour in learned fraction."""

STEPS = 4
"""Colours on either side of the gate; the outermost are open-ended."""


@dataclass(frozen=True)
class Cell:
    """One figure.

    Attributes:
        text: As shown.
        colour: Class of the style sheet: ``below-4`` to ``below-1``, ``above-1`` to ``above-4``, ``none``, ``open``.
        note: What a tooltip adds.
        remark: What stands beside the text: that the figure is of the best epoch, or nothing.
    """

    text: str
    colour: str
    note: str = ""
    remark: str = ""


@dataclass(frozen=True)
class Column:
    """One condition.

    Attributes:
        condition: Which.
        average: Its average over the judged, conclusive tasks.
        cells: One cell per task, in the order of the map's tasks.
        is_worst: Whether the verdict names it.
    """

    condition: ConditionFigures
    average: Cell
    cells: tuple[Cell, ...]
    is_worst: bool


@dataclass(frozen=True)
class HeatMap:
    """Tasks downward, conditions across, the worst condition first.

    Attributes:
        tasks: Names.
        columns: Conditions; the clean victims, which are 1 by definition, have none.
        legend: Class of the style sheet and the fractions that it stands for, from low to high.
    """

    tasks: tuple[str, ...]
    columns: tuple[Column, ...]
    legend: tuple[tuple[str, str], ...]


def heat_map(document: VerifyDocument) -> HeatMap:
    """The map of a result document; one without columns if nothing but clean victims was trained."""
    gate = document.max_learned
    conditions = [one for one in worst_first(document.conditions) if one.role is not Role.REFERENCE]
    names = list(dict.fromkeys(task.task for condition in conditions for task in condition.tasks))
    columns = tuple(_column(one, names, gate, document.worst_condition) for one in conditions)
    return HeatMap(tuple(names), columns, _legend(gate))


def colour(learned: float, gate: float) -> str:
    """Class of the style sheet for a learned fraction; exactly the gate is still below it."""
    if learned <= gate:
        return f"below-{min(STEPS, int((gate - learned) / STEP) + 1)}"
    return f"above-{min(STEPS, int((learned - gate) / STEP) + 1)}"


def _column(condition: ConditionFigures, names: Sequence[str], gate: float, worst: str | None) -> Column:
    by_name = {task.task: task for task in condition.tasks}
    return Column(
        condition,
        average=_judged_cell(condition.learned, gate, "no judged task is conclusive"),
        cells=tuple(_cell(by_name.get(name), gate) for name in names),
        is_worst=condition.name == worst,
    )


def _cell(task: TaskFigures | None, gate: float) -> Cell:
    if task is None:
        return Cell("", "none", "not trained")
    learned = task.learned
    if not task.judged:
        text = f"({fraction(learned.mean if learned else None)})"
        note = "not judged: the release does not mean to protect it"
        return Cell(text, "open", note, epoch_remark(learned))
    return _judged_cell(learned, gate, "inconclusive: the clean victim does not clearly beat the floor")


def _judged_cell(learned: Learned | None, gate: float, why_none: str) -> Cell:
    if learned is None:
        return Cell(fraction(None), "none", why_none)
    figure = learned.fraction
    note = "" if figure.low is None and learned.interval is None else bounded_fraction(learned)
    return Cell(fraction(figure.mean, gate), colour(figure.mean, gate), note, epoch_remark(learned))


def _legend(gate: float) -> tuple[tuple[str, str], ...]:
    edges = [fraction(gate + step * STEP) for step in range(1 - STEPS, STEPS)]
    names = [*(f"below-{step}" for step in range(STEPS, 0, -1)), *(f"above-{step}" for step in range(1, STEPS + 1))]
    between = [f"{low} to {high}" for low, high in pairwise(edges)]
    return tuple(zip(names, [f"up to {edges[0]}", *between, f"over {edges[-1]}"], strict=True))
