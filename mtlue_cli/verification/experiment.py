"""One victim from scratch on one condition's training images, tested on clean images."""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from mtlue_cli import __version__
from mtlue_cli.metrics.classification import accuracies
from mtlue_cli.networks.multitask import MultiTaskNetwork
from mtlue_cli.tasks.spec import TaskSet
from mtlue_cli.training.multitask_loop import EpochRecord, LearningSettings, predict, train_multitask
from mtlue_cli.training.runtime import choose_precision
from mtlue_cli.verification.result_cache import ResultCache, document_digest, labels_digest, tensor_digest

RESULT_SCHEMA = 1


@dataclass(frozen=True)
class Condition:
    """One row of the experiment: what a victim is trained on.

    Attributes:
        name: Name of the row, such as ``clean``.
        images: Supplies the training images, ``(N, 3, S, S)`` uint8, when the row's turn comes.
    """

    name: str
    images: Callable[[], Tensor]


@dataclass(frozen=True)
class ExperimentData:
    """What all conditions share.

    Attributes:
        tasks: What is learned.
        train_labels: Task name to ``(N,)`` int64, in the order of every condition's images.
        test_images: ``(M, 3, S, S)`` uint8, clean.
        test_labels: Task name to ``(M,)`` int64.
    """

    tasks: TaskSet
    train_labels: Mapping[str, Tensor]
    test_images: Tensor
    test_labels: Mapping[str, Tensor]

    def digest(self) -> str:
        """Identity of the shared data."""
        return document_digest(
            {
                "tasks": self.tasks.to_json(),
                "train_labels": labels_digest(self.train_labels),
                "test_images": tensor_digest(self.test_images),
                "test_labels": labels_digest(self.test_labels),
            }
        )


@dataclass(frozen=True)
class CurvePoint:
    """A victim after one epoch; accuracies in [0, 1], a task."""

    epoch: int
    loss: float
    train_accuracy: Mapping[str, float]
    test_accuracy: Mapping[str, float]


@dataclass(frozen=True)
class VictimResult:
    """A finished victim.

    Attributes:
        condition: Name of its row.
        accuracy: Test accuracy after the last epoch, a task, in [0, 1].
        curve: Figures after every epoch.
        seconds: What its training took (when it was trained, if it comes from the cache).
        digest: Identity of everything that determines it.
        cached: Whether it comes from the cache.
    """

    condition: str
    accuracy: Mapping[str, float]
    curve: tuple[CurvePoint, ...]
    seconds: float
    digest: str
    cached: bool

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready document."""
        return {
            "condition": self.condition,
            "accuracy": dict(self.accuracy),
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

        def shares(figures: Mapping[str, Any]) -> dict[str, float]:
            values = {name: float(figures[name]) for name in tasks.names}
            if not all(0 <= value <= 1 for value in values.values()):
                raise ValueError("an accuracy lies outside [0, 1]")
            return values

        curve = tuple(
            CurvePoint(
                int(point["epoch"]),
                _number(point["train_loss"]),
                {name: _number(value) for name, value in point["train_accuracy"].items()},
                shares(point["test_accuracy"]),
            )
            for point in document["curve"]
        )
        return cls(
            str(document["condition"]),
            shares(document["accuracy"]),
            curve,
            float(document["seconds"]),
            str(document["digest"]),
            cached=True,
        )


def run_condition(
    condition: Condition,
    data: ExperimentData,
    settings: LearningSettings,
    device: torch.device,
    cache: ResultCache,
    on_step: Callable[[int], None] | None = None,
    on_epoch: Callable[[CurvePoint], None] | None = None,
) -> VictimResult:
    """Train a victim on ``condition`` and test it after every epoch, or fetch it from the cache.

    The last epoch counts: no figure of the test images chooses anything.

    Args:
        condition: What it is trained on.
        data: Labels and test images.
        settings: Budget and seed, the same for every condition that is compared.
        device: Where it is trained.
        cache: Finished victims.
        on_step: Called with the number of images after every step.
        on_epoch: Called after every epoch.

    Raises:
        ValueError: A task has no labelled test image.
    """
    images = condition.images()
    key = document_digest(
        {
            "schema": RESULT_SCHEMA,
            "condition": condition.name,
            "images": tensor_digest(images),
            "data": data.digest(),
            "settings": asdict(settings),
            "device": device.type,
            "arithmetic": str(choose_precision(settings.precision, device)),
            "torch": torch.__version__,
            "mtlue": __version__,
        }
    )
    found = cache.load(key)
    if found is not None:
        try:
            return VictimResult.from_json(found, data.tasks)
        except (AttributeError, KeyError, TypeError, ValueError):
            pass  # a damaged entry: train again and replace it
    curve: list[CurvePoint] = []

    def test(record: EpochRecord, network: MultiTaskNetwork) -> None:
        training = network.training
        logits = predict(network, data.test_images, settings.crop_size, device)
        network.train(training)
        scores = accuracies(logits, data.test_labels, data.tasks)
        curve.append(CurvePoint(record.epoch, record.loss, dict(record.accuracy), scores))
        if on_epoch is not None:
            on_epoch(curve[-1])

    started = time.monotonic()
    train_multitask(images, data.train_labels, data.tasks, settings, device, on_step=on_step, on_epoch=test)
    seconds = round(time.monotonic() - started, 2)
    result = VictimResult(condition.name, curve[-1].test_accuracy, tuple(curve), seconds, key, cached=False)
    cache.store(key, result.to_json())
    return result


def _finite(value: float) -> float | None:
    """JSON has no NaN: a figure that does not exist is null."""
    return value if math.isfinite(value) else None


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)
