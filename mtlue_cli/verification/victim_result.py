"""A finished victim: its figures, and their form in JSON."""

import math
import sys
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

        def finite(value: float) -> float | None:
            """JSON has no NaN: a figure that does not exist is null."""
            return value if math.isfinite(value) else None

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
                    "train_loss": finite(point.loss),
                    "train_accuracy": {name: finite(value) for name, value in point.train_accuracy.items()},
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
        image_level, dense = tasks.image_level.names, tasks.dense.names

        def figure(value: Any, most: float = 1.0) -> float:  # noqa: ANN401 - of a JSON document
            if not 0 <= float(value) <= most:
                raise ValueError(f"{value} lies outside [0, {most:g}]")
            return float(value)

        def number(value: Any) -> float:  # noqa: ANN401 - of a JSON document
            return math.nan if value is None else float(value)

        curve = tuple(
            CurvePoint(
                int(point["epoch"]),
                number(point["train_loss"]),
                {name: number(value) for name, value in point["train_accuracy"].items()},
                {name: figure(point["test_accuracy"][name]) for name in tasks.names},
            )
            for point in document["curve"]
        )
        scores: dict[MetricName, dict[str, float | None]] = {}
        for metric in MetricName:
            found = document["scores"][metric.value]
            scores[metric] = {name: None if found[name] is None else figure(found[name]) for name in image_level}
        finite = sys.float_info.max
        best, epochs = document["best_accuracy"], document["best_epochs"]
        if best is not None:
            best = {name: figure(best[name], 1.0 if name in image_level else finite) for name in (*image_level, *dense)}
        return cls(
            str(document["condition"]),
            int(document["seed"]),
            scores,
            best,
            None if epochs is None else (int(epochs[0]), int(epochs[1])),
            curve,
            float(document["seconds"]),
            str(document["digest"]),
            cached=True,
            dense={name: {k: figure(v, finite) for k, v in document["dense"][name].items()} for name in dense},
        )
