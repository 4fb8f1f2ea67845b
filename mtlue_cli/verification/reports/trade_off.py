"""Utility of the tasks that are kept against forgetting of those that are protected, a point per condition."""

import math
from dataclasses import dataclass

from mtlue_cli.verification.conditions import Role
from mtlue_cli.verification.document import VerifyDocument
from mtlue_cli.verification.figures import ConditionFigures
from mtlue_cli.verification.promise import USEFUL
from mtlue_cli.verification.reports.curves import Tick
from mtlue_cli.verification.reports.wording import worst_first

WIDTH, HEIGHT = 460, 300
LEFT, RIGHT, TOP, BOTTOM = 46, 14, 12, 38
"""Margins of the plot, in the units of its view box."""

STEP = 0.25
"""Distance of grid lines."""


@dataclass(frozen=True)
class Point:
    """One condition.

    Attributes:
        condition: Which.
        forgetting: 1 minus what is learned of the protected tasks: 1 nothing is, above 1 it is misled.
        utility: Learned fraction of the tasks that are kept, after the last epoch.
        x, y: Coordinates.
    """

    condition: ConditionFigures
    forgetting: float
    utility: float
    x: float
    y: float


@dataclass(frozen=True)
class TradeOff:
    """The plot; what is best stands in the corner at the top right.

    Attributes:
        points: Conditions, the worst first.
        x_ticks, y_ticks: Forgetting and utility.
        gate: Where forgetting begins that passes the gate, across.
        useful: From where on kept tasks count as useful, downward.
        tasks: Names of the tasks that are kept.
    """

    points: tuple[Point, ...]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    gate: float
    useful: float
    tasks: tuple[str, ...]


def trade_off(document: VerifyDocument) -> TradeOff | None:
    """The plot of a result document; None if no task was measured that is to stay useful."""
    found = [
        (one, 1 - one.learned.mean, one.utility)
        for one in worst_first(document.conditions)
        if one.role is not Role.REFERENCE and one.learned is not None and one.utility is not None
    ]
    if not found:
        return None
    across = _grid([forgetting for _, forgetting, _ in found])
    down = _grid([utility.learned_fraction.mean for _, _, utility in found])

    def x(forgetting: float) -> float:
        share = (forgetting - across[0]) / (across[-1] - across[0])
        return round(LEFT + (WIDTH - LEFT - RIGHT) * share, 1)

    def y(utility: float) -> float:
        return round(TOP + (HEIGHT - TOP - BOTTOM) * (1 - (utility - down[0]) / (down[-1] - down[0])), 1)

    return TradeOff(
        points=tuple(
            Point(one, forgetting, value, x(forgetting), y(value))
            for one, forgetting, value in (
                (one, forgetting, utility.learned_fraction.mean) for one, forgetting, utility in found
            )
        ),
        x_ticks=tuple(Tick(x(value), f"{value:g}") for value in across),
        y_ticks=tuple(Tick(y(value), f"{value:g}") for value in down),
        gate=x(1 - document.max_learned),
        useful=y(USEFUL),
        tasks=found[0][2].tasks,
    )


def _grid(values: list[float]) -> list[float]:
    """Grid lines that enclose 0, 1 and all ``values``."""
    low, high = math.floor(min(0.0, *values) / STEP), math.ceil(max(1.0, *values) / STEP)
    return [step * STEP for step in range(low, high + 1)]
