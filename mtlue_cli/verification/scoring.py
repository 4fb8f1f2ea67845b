"""What a victim's outputs on the clean test images are worth, after the last epoch and after the best."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from mtlue_cli.choices import MetricName
from mtlue_cli.metrics.classification import accuracies, aurocs, balanced_accuracies, floors
from mtlue_cli.metrics.dense import dense_floor, dense_scores, main_metric
from mtlue_cli.metrics.measures import gain, of_gain
from mtlue_cli.networks.concept_bottleneck import ConceptBottleneck
from mtlue_cli.tasks.kinds import labelled_rows
from mtlue_cli.tasks.losses import count_correct
from mtlue_cli.tasks.spec import TaskSet
from mtlue_cli.training.augment import centred_labels
from mtlue_cli.verification.bootstrap import packed
from mtlue_cli.verification.learner import DenseEpoch, Halves, LearnedEpoch, LearnerRun
from mtlue_cli.verification.victim_result import ConceptResult

PLACE_FLOOR_MAPS = 1000
"""Most label maps that the place floor is computed from."""


class EarlyStop(NamedTuple):
    """What an attacker reaches, by task, who stops at the best epochs, from 1, that either half chose."""

    accuracy: Mapping[str, float]
    epochs: tuple[int, int]


@dataclass(frozen=True)
class Scoring:
    """Scores predictions on one set of test images.

    Attributes:
        tasks: What is learned.
        train_labels: Task name to labels of the training images, as they are kept.
        test_labels: Task name to labels of the test images, as they are kept; label maps of whole images.
        crop_size: Side in pixels of the centre that a victim predicts.
        first_half: ``(M,)`` bool, which test images choose an epoch that the others measure.
        chosen_by: The tasks whose figures choose it; None: all.
    """

    tasks: TaskSet
    train_labels: Mapping[str, Tensor]
    test_labels: Mapping[str, Tensor]
    crop_size: int
    first_half: Tensor
    chosen_by: Collection[str] | None = None

    def read(self, name: str, outputs: Tensor) -> DenseEpoch:
        """What is kept of a dense task's outputs ``(M, channels, S, S)`` after an epoch."""
        task, labels = self.tasks[name], self._truth[name]
        correct, known = count_correct({name: outputs}, {name: labels}, self.tasks.subset([name]))[name]

        def main(half: Tensor) -> float | None:
            if not bool(labelled_rows(labels[half], task).any()):
                return None
            return dense_scores(outputs[half], labels[half], task)[main_metric(task)]

        return DenseEpoch(correct / max(known, 1), (main(self.first_half), main(~self.first_half)))

    def accuracies(self, epoch: LearnedEpoch) -> dict[str, float]:
        """Test accuracy of every task after an epoch; of a dense task, the share of its pixels that are right."""
        found = accuracies(epoch.predictions, self._truth, self.tasks.image_level)
        found |= {name: kept.right for name, kept in epoch.dense.items()}
        return {name: found[name] for name in self.tasks.names}

    def image_level(self, run: LearnerRun) -> dict[MetricName, Mapping[str, float | None]]:
        """Every metric of the image-level tasks after the last epoch."""
        tasks, labels = self.tasks.image_level, self._truth
        logits = {name: shares.clamp_min(1e-30).log() for name, shares in run.probabilities.items()}
        return {
            MetricName.ACCURACY: dict(accuracies(logits, labels, tasks)),
            MetricName.BALANCED: dict(balanced_accuracies(logits, labels, tasks)),
            MetricName.AUROC: aurocs(logits, labels, tasks),
        }

    def concepts(
        self, bottleneck: ConceptBottleneck, outputs: Mapping[str, Tensor], alone: Mapping[str, Tensor]
    ) -> ConceptResult:
        """What a concept bottleneck reaches on its target, with its residual vectors and without (``alone``)."""
        target = self.tasks.subset([bottleneck.target])
        names = [name for task in bottleneck.others for name in task.classes]
        accuracy, by_concepts = (
            accuracies(found, self._truth, target)[bottleneck.target] for found in (outputs, alone)
        )
        length = sum(map(len, names)) / len(names)
        return ConceptResult(bottleneck.target, len(names), len(bottleneck.vectors), length, accuracy, by_concepts)

    def dense(self, run: LearnerRun) -> dict[str, dict[str, float]]:
        """Every figure of the dense tasks after the last epoch."""
        return {task.name: dense_scores(run.maps[task.name], self._truth[task.name], task) for task in self.tasks.dense}

    def early_stop(self, run: LearnerRun) -> EarlyStop | None:
        """Who stops at the best epoch; of dense tasks their main figures, in their own units."""
        scales = {task.name: (self._dense_floors[task.name], main_metric(task)) for task in self.tasks.dense}
        gains = {
            name: [
                [None if value is None else gain(value, *scale) for value in epoch.dense[name].halves]
                for epoch in run.epochs
            ]
            for name, scale in scales.items()
        }
        stop = stop_early(run.predictions(), self._truth, self.first_half, gains, self.chosen_by)
        if stop is None:
            return None
        own = {name: of_gain(stop.accuracy[name], *scale) for name, scale in scales.items()}
        return EarlyStop({**stop.accuracy, **own}, stop.epochs)

    def correct(self, run: LearnerRun, epochs: tuple[int, int] | None = None) -> dict[str, bytes]:
        """Which test images are right, by image-level task, as :attr:`VictimResult.correct` has them.

        After the epoch that counts; with ``epochs``, from 1, at those that the halves chose, each half at that of the
        other.
        """
        found: dict[str, bytes] = {}
        for name, classes in run.predictions().items():
            shown = classes[run.counted[name] - 1]
            if epochs is not None:
                shown = torch.where(self.first_half, classes[epochs[1] - 1], classes[epochs[0] - 1])
            found[name] = packed(shown.eq(self._truth[name]))
        return found

    def floors(self, metric: MetricName) -> dict[str, float]:
        """What a constant guess reaches under ``metric``, of a dense task in its main figure, per task.

        Raises:
            ValueError: A task has no labelled test image.
        """
        found = floors(self._truth, self.tasks.image_level, metric) | self._dense_floors
        return {name: found[name] for name in self.tasks.names}

    @cached_property
    def place_floors(self) -> dict[str, float]:
        """What one guess per position in the image reaches, of dense tasks in their main figures.

        It is learned from label maps alone, without a look at an image: no change of the images could prevent it.
        """
        seen: dict[str, float] = {}
        for task in self.tasks.dense:
            few = evenly(self.train_labels[task.name], PLACE_FLOOR_MAPS)
            cropped = centred_labels({task.name: few}, self.tasks.subset([task.name]), self.crop_size)[task.name]
            truth = self._truth[task.name]
            seen[task.name] = dense_floor(cropped, truth, task, per_place=True)[main_metric(task)]
        return seen

    @cached_property
    def _truth(self) -> dict[str, Tensor]:
        return centred_labels(self.test_labels, self.tasks, self.crop_size)

    @cached_property
    def _dense_floors(self) -> dict[str, float]:
        return {
            task.name: dense_floor(self.train_labels[task.name], self._truth[task.name], task)[main_metric(task)]
            for task in self.tasks.dense
        }


def evenly(maps: Tensor, most: int) -> Tensor:
    """At most ``most`` of ``(N, ...)`` maps, evenly from first to last."""
    return maps if len(maps) <= most else maps[torch.linspace(0, len(maps) - 1, most).long()]


def stop_early(
    predictions: Mapping[str, Tensor],
    labels: Mapping[str, Tensor],
    first_half: Tensor,
    gains: Mapping[str, Sequence[Halves]] | None = None,
    chosen_by: Collection[str] | None = None,
) -> EarlyStop | None:
    """Choose the epoch on one half of the clean test images, measure it on the other, and the other way round.

    The best epoch counts by its mean accuracy over the tasks, or those of ``chosen_by`` (for a dense task its main
    figure's gain), the earliest of equals. A task's accuracy is the mean of its two measurements; one that is labelled
    in one half only is chosen by and measured on that half.

    Predictions are class indices after every epoch, ``(E, M)`` integers, labels ``(M,)`` int64, the first half ``(M,)``
    bool; gains of a dense task are those of its main figure after every epoch.

    Returns:
        The accuracies at the best epochs; None if one half has no label at all, so that it can choose nothing.

    Raises:
        ValueError: A task has no label in either half.
    """
    dense = gains or {}

    def curves_of(side: int, half: Tensor) -> dict[str, list[float]]:
        """Figures after every epoch of the tasks that have a label in a half."""
        curves: dict[str, list[float]] = {}
        for name, guesses in predictions.items():
            known = half & (labels[name] >= 0)
            if bool(known.any()):
                curves[name] = (guesses[:, known] == labels[name][known]).double().mean(dim=1).tolist()
        for name, epochs in dense.items():
            if measured := [value for halves in epochs if (value := halves[side]) is not None]:
                curves[name] = measured
        return curves

    curves = [curves_of(side, half) for side, half in enumerate((first_half, ~first_half))]
    names = (*predictions, *dense)
    unlabelled = [name for name in names if not any(name in half for half in curves)]
    if unlabelled:
        raise ValueError(f"tasks without a labelled image: {', '.join(unlabelled)}")
    choosing = [{name: half[name] for name in half if chosen_by is None or name in chosen_by} for half in curves]
    if not all(choosing):
        return None
    first, second = (_best_epoch(half) for half in choosing)
    accuracy: dict[str, float] = {}
    for name in names:
        measured = [half[name][epoch] for half, epoch in zip(curves, (second, first), strict=True) if name in half]
        accuracy[name] = sum(measured) / len(measured)
    return EarlyStop(accuracy, (first + 1, second + 1))


def _best_epoch(curves: Mapping[str, list[float]]) -> int:
    """The earliest epoch of the highest mean over the tasks, from 0."""
    means = [sum(epoch) / len(epoch) for epoch in zip(*curves.values(), strict=True)]
    return means.index(max(means))
