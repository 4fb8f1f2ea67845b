"""Which figure a task is judged by, and how figures of different units go into one mean."""

from mtlue_cli.choices import MetricName
from mtlue_cli.metrics.dense import MEAN_ANGLE, lower_is_better, main_metric
from mtlue_cli.tasks.spec import Task


def measure_of(task: Task, metric: MetricName) -> str:
    """Name of the figure that ``task`` is judged by: the chosen metric, or the main one of a dense task."""
    return main_metric(task) if task.is_dense else metric.value


def gain(value: float, floor: float, measure: str) -> float:
    """A figure such that more is better: a share as it is, an error as the share of the floor that it falls by.

    The gain of an error is 1 where there is none, 0 at the floor, and negative beyond; gains of tasks in different
    units can be averaged. Learned fractions of figures and of their gains are the same.
    """
    return (floor - value) / (floor or 1.0) if lower_is_better(measure) else value


def of_gain(value: float, floor: float, measure: str) -> float:
    """The figure whose :func:`gain` is ``value``."""
    return floor - value * (floor or 1.0) if lower_is_better(measure) else value


def in_unit(value: float, measure: str) -> str:
    """An error with its unit, ``23.1°`` or ``error 0.412``; a share as bare percent, ``71.2``."""
    if not lower_is_better(measure):
        return f"{100 * value:.1f}"
    return f"{value:.1f}°" if measure == MEAN_ANGLE else f"error {value:.3g}"
