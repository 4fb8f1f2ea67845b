"""A finished victim: its figures, and their form in JSON."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mtlue_cli.choices import MetricName
from mtlue_cli.tasks.spec import Task, TaskSet


@dataclass(frozen=True)
class CurvePoint:
    """A victim after one epoch; accuracies in [0, 1], a task.

    The accuracy of a dense task is the share of labelled pixels that are right: the class, a depth within a
    quarter of the true one, a normal within 30 degrees.
    """

    epoch: int
    loss: float
    train_accuracy: Mapping[str, float]
    test_accuracy: Mapping[str, float]


@dataclass(frozen=True)
class VictimResult:
    """A finished victim.

    Attributes:
        condition: Name of its row.
        seed: Of its weights, order and augmentation.
        scores: Metric to image-level task to the figure on test images after the last epoch; None where there is none.
        best_accuracy: Task name to test accuracy of who stops at the best epoch by other clean images, of a dense task
            to its main figure; None where too few are labelled to choose by.
        best_epochs: The epochs that were chosen by either half of the test images.
        curve: Figures after every epoch.
        seconds: What its training took (when it was trained, if it comes from the cache).
        digest: Identity of everything that determines it.
        cached: Whether it comes from the cache.
        dense: Dense task to its figures on test images after the last epoch, by name.
    """

    condition: str
    seed: int
    scores: Mapping[MetricName, Mapping[str, float | None]]
    best_accuracy: Mapping[str, float] | None
    best_epochs: tuple[int, int] | None
    curve: tuple[CurvePoint, ...]
    seconds: float
    digest: str
    cached: bool
    dense: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    def figure(self, task: Task, measure: str) -> float | None:
        """The figure called ``measure`` of a task after the last epoch; None where there is none."""
        if task.is_dense:
            return self.dense[task.name].get(measure)
        return self.scores[MetricName(measure)][task.name]

    def measures(self, task: Task) -> tuple[str, ...]:
        """Names of all figures of a task."""
        return tuple(self.dense[task.name]) if task.is_dense else tuple(MetricName)

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready document."""
        return {
            "condition": self.condition,
            "seed": self.seed,
            "scores": {metric.value: dict(scores) for metric, scores in self.scores.items()},
            "dense": {name: dict(figures) for name, figures in self.dense.items()},
            "best_accuracy": None if self.best_accuracy is None else dict(self.best_accuracy),
            "best_epochs": None if self.best_epochs is None else list(self.best_epochs),
            "curve": [
                {
                    "epoch": point.epoch,
                    "train_loss": _finite(point.loss),
                    "train_accuracy": {name: _finite(value) for name, value in point.train_accuracy.items()},
                    "test_accuracy": dict(point.test_accuracy),
                }
                for point in self.curve
            ],
            "seconds": self.seconds,
            "digest": self.digest,
            "cached": self.cached,
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any], tasks: TaskSet) -> "VictimResult":
        """Read what :meth:`to_json` wrote, as a cached result.

        Raises:
            AttributeError, KeyError, TypeError, ValueError: The document has another form.
        """

        def shares(figures: Mapping[str, Any], of: TaskSet) -> dict[str, float]:
            values = {name: float(figures[name]) for name in of.names}
            if not all(0 <= value <= 1 for value in values.values()):
                raise ValueError("a share lies outside [0, 1]")
            return values

        def scores(metric: MetricName) -> dict[str, float | None]:
            figures = document["scores"][metric.value]
            known = {name: 0.0 if figures[name] is None else figures[name] for name in tasks.image_level.names}
            found = shares(known, tasks.image_level)
            return {name: None if figures[name] is None else value for name, value in found.items()}

        def dense(figures: Mapping[str, Any]) -> dict[str, float]:
            values = {name: float(value) for name, value in figures.items()}
            if not all(0 <= value < math.inf for value in values.values()):
                raise ValueError("a figure is negative or not finite")
            return values

        curve = tuple(
            CurvePoint(
                int(point["epoch"]),
                _number(point["train_loss"]),
                {name: _number(value) for name, value in point["train_accuracy"].items()},
                shares(point["test_accuracy"], tasks),
            )
            for point in document["curve"]
        )
        best, epochs = document["best_accuracy"], document["best_epochs"]
        return cls(
            str(document["condition"]),
            int(document["seed"]),
            {metric: scores(metric) for metric in MetricName},
            None if best is None else shares(best, tasks.image_level) | dense({n: best[n] for n in tasks.dense.names}),
            None if epochs is None else (int(epochs[0]), int(epochs[1])),
            curve,
            float(document["seconds"]),
            str(document["digest"]),
            cached=True,
            dense={name: dense(document["dense"][name]) for name in tasks.dense.names},
        )


def _finite(value: float) -> float | None:
    """JSON has no NaN: a figure that does not exist is null."""
    return value if math.isfinite(value) else None


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)
