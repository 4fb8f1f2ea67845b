"""Accuracies over the epochs as small charts, in coordinates that a template turns into inline SVG."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from mtlue_cli.choices import MetricName
from mtlue_cli.verification.conditions import Role
from mtlue_cli.verification.document import VerifyDocument
from mtlue_cli.verification.figures import ConditionFigures
from mtlue_cli.verification.reports.wording import percent

WIDTH, HEIGHT = 320, 192
LEFT, RIGHT, TOP, BOTTOM = 42, 8, 10, 36
"""Margins of the plot within a chart, in the units of its view box."""

MOST_TICKS = 6
GRID_STEPS = (0.05, 0.1, 0.2)
"""Distances of grid lines in accuracy: the smallest that gives at most :data:`MOST_TICKS` lines is taken."""


@dataclass(frozen=True)
class Line:
    """A curve, or a part of one between two gaps.

    Attributes:
        kind: ``train``, ``test``, ``floor`` or ``clean``.
        points: Coordinates as SVG's ``points``.
        dots: Coordinates of the single points, which no line would show.
    """

    kind: str
    points: str
    dots: tuple[tuple[float, float], ...] = ()


@dataclass(frozen=True)
class Tick:
    """A mark on an axis: its position in the view box and its text."""

    position: float
    text: str


@dataclass(frozen=True)
class Chart:
    """The curves of one condition, one or more a seed, over epochs, in percent."""

    condition: ConditionFigures
    summary: str
    lines: tuple[Line, ...]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]


def charts(document: VerifyDocument) -> tuple[Chart, ...]:
    """A chart for every condition with at least one epoch, all with the same vertical scale."""
    drawn = (_series(condition, document.metric) for condition in document.conditions)
    series = [one for one in drawn if any(epochs for _, epochs, _ in one.runs)]
    values = [value for one in series for value in one.values()]
    if not values:
        return ()
    ticks = _grid(min(values), max(values))
    return tuple(_chart(one, ticks) for one in series)


def trajectories(document: VerifyDocument) -> tuple[Chart, ...]:
    """A chart for every victim that was trained on a sequence of releases, over their protected shares.

    ``test``: accuracy on clean images. ``train``: 1 minus the mean of the learning errors so far.
    """
    found: list[Chart] = []
    for one in document.conditions:
        if not one.trajectory or one.average is None:
            continue
        numbers = tuple(range(len(one.trajectory)))
        runs = (
            ("train", numbers, tuple(1 - stage.mean_error.mean for stage in one.trajectory)),
            ("test", numbers, tuple(stage.score.mean for stage in one.trajectory)),
        )
        series = _Series(one, runs, (("floor", one.average.floor), ("clean", one.average.clean_score.mean)))
        shares = [f"{100 * stage.protected_fraction:g}" for stage in one.trajectory]
        found.append(_chart(series, _grid(min(series.values()), max(series.values())), shares))
    return tuple(found)


@dataclass(frozen=True)
class _Series:
    """Means over the tasks that a condition's average runs over.

    Attributes:
        condition: Where it comes from.
        runs: ``train`` or ``test``, the numbers of the epochs, and accuracies in [0, 1], None where not measured.
        levels: ``clean`` and ``floor``, as far as there are.
    """

    condition: ConditionFigures
    runs: tuple[tuple[str, tuple[int, ...], tuple[float | None, ...]], ...]
    levels: tuple[tuple[str, float], ...]

    def values(self) -> list[float]:
        """All accuracies that are to be drawn."""
        drawn = [value for _, _, curve in self.runs for value in curve if value is not None]
        return drawn + [level for _, level in self.levels]


def _series(condition: ConditionFigures, metric: MetricName) -> _Series:
    average = condition.average
    if average is not None:
        names = list(average.tasks)
        levels = [("floor", average.floor)]
        if condition.role is not Role.REFERENCE:
            levels.append(("clean", average.clean_score.mean))
    else:
        judged = [task for task in condition.tasks if task.judged] or condition.tasks
        names = [task.task for task in judged]
        levels = [("floor", sum(task.floor for task in judged) / len(judged))] if judged else []
    named = set(names)
    if metric is not MetricName.ACCURACY or any(task.dense for task in condition.tasks if task.task in named):
        levels = []  # the curves are accuracies, floor and clean are not
    runs = []
    for kind in ("train", "test"):
        for run in condition.curves:
            curve = tuple(_mean(getattr(epoch, f"{kind}_accuracy"), names) for epoch in run.epochs)
            runs.append((kind, tuple(epoch.epoch for epoch in run.epochs), curve))
    return _Series(condition, tuple(runs), tuple(levels))


def _mean(figures: Mapping[str, float | None], names: Iterable[str]) -> float | None:
    values = [value for name in names if (value := figures.get(name)) is not None]
    return sum(values) / len(values) if values else None


def _grid(low: float, high: float) -> tuple[float, ...]:
    """Round accuracies that enclose ``low`` and ``high``."""
    for step in GRID_STEPS:
        first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
        last = max(last, first + 1)
        if last - first < MOST_TICKS:
            break
    return tuple(number * step for number in range(first, last + 1))


def _chart(series: _Series, grid: Sequence[float], texts: Sequence[str] = ()) -> Chart:
    """``texts`` stand at the numbers from 0; none: the numbers themselves."""
    numbers = sorted({number for _, epochs, _ in series.runs for number in epochs})
    first, last = numbers[0], numbers[-1]

    def x(epoch: int) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * ((epoch - first) / (last - first) if last > first else 0.5)

    def y(accuracy: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (1 - (accuracy - grid[0]) / (grid[-1] - grid[0]))

    lines = [Line(kind, f"{LEFT},{y(level):.1f} {WIDTH - RIGHT},{y(level):.1f}") for kind, level in series.levels]
    for kind, epochs, curve in series.runs:
        for part in _parts([x(epoch) for epoch in epochs], curve, y):
            points = " ".join(f"{across:g},{down:g}" for across, down in part)
            lines.append(Line(kind, points, tuple(part) if len(part) == 1 else ()))
    return Chart(
        condition=series.condition,
        summary=_summary(series),
        lines=tuple(lines),
        x_ticks=tuple(
            Tick(round(x(number), 1), texts[number] if texts else str(number)) for number in _thinned(numbers)
        ),
        y_ticks=tuple(Tick(round(y(value), 1), f"{100 * value:.0f} %") for value in grid),
    )


def _parts(
    positions: Sequence[float], curve: Sequence[float | None], y: Callable[[float], float]
) -> list[list[tuple[float, float]]]:
    """Coordinates of the unbroken parts of a curve with gaps."""
    parts: list[list[tuple[float, float]]] = [[]]
    for position, value in zip(positions, curve, strict=True):
        if value is None:
            parts.append([])
        else:
            parts[-1].append((round(position, 1), round(y(value), 1)))
    return [part for part in parts if part]


def _thinned(numbers: Sequence[int]) -> list[int]:
    """At most :data:`MOST_TICKS` of the epochs: evenly spaced, the first and the last among them."""
    if len(numbers) <= MOST_TICKS:
        return list(numbers)
    step = (len(numbers) - 1) / (MOST_TICKS - 1)
    return [numbers[round(step * number)] for number in range(MOST_TICKS)]


def _summary(series: _Series) -> str:
    ends = [curve[-1] for kind, _, curve in series.runs if kind == "test" and curve]
    levels = "".join(f", {kind} {percent(level)} %" for kind, level in series.levels)
    reached = " and ".join(f"{percent(end)} %" for end in ends)
    return f"test accuracy after the last epoch {reached}{levels}"
