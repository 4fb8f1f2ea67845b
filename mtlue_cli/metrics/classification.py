"""Figures of a classifier, and what a constant guess reaches.

Every function takes logits, task name to ``(N, C)`` float, and labels, task name to ``(N,)`` int64 class indices, of
which negative ones are unlabelled and left out; gives task name to a figure in [0, 1]; and raises ``ValueError`` where
a task has no labelled image.
"""

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor
from torchmetrics.functional.classification import binary_auroc, multiclass_accuracy

from mtlue_cli.choices import MetricName
from mtlue_cli.tasks.spec import UNLABELLED, Task, TaskSet


def accuracies(logits: Mapping[str, Tensor], labels: Mapping[str, Tensor], tasks: TaskSet) -> dict[str, float]:
    """Share of labelled images whose highest logit is their class; class indices ``(N,)`` will do for logits."""
    return {
        task.name: float(
            multiclass_accuracy(
                logits[task.name], column, num_classes=task.num_classes, average="micro", ignore_index=UNLABELLED
            )
        )
        for task, column in _labelled(labels, tasks)
    }


def balanced_accuracies(logits: Mapping[str, Tensor], labels: Mapping[str, Tensor], tasks: TaskSet) -> dict[str, float]:
    """Mean over the classes that occur of the share of their images that are recognised."""
    scores: dict[str, float] = {}
    for task, column in _labelled(labels, tasks):
        recalls = multiclass_accuracy(
            logits[task.name], column, num_classes=task.num_classes, average=None, ignore_index=UNLABELLED
        )
        scores[task.name] = float(recalls[_counts(column, task) > 0].mean())
    return scores


def aurocs(logits: Mapping[str, Tensor], labels: Mapping[str, Tensor], tasks: TaskSet) -> dict[str, float | None]:
    """Area under the ROC curve: of the second class where there are two, else the mean of one against the rest.

    Classes without an image, or without an image of any other class, do not count; None where only one class occurs.
    """
    scores: dict[str, float | None] = {}
    for task, column in _labelled(labels, tasks):
        target, shares = column[column >= 0], logits[task.name][column >= 0].float().softmax(dim=1)
        areas = [
            float(binary_auroc(shares[:, index], (target == index).long()))
            for index in ([1] if task.num_classes == 2 else range(task.num_classes))
            if bool((target == index).any()) and not bool((target == index).all())
        ]
        scores[task.name] = min(1.0, sum(areas) / len(areas)) if areas else None  # float32 may round above 1
    return scores


def floors(labels: Mapping[str, Tensor], tasks: TaskSet, metric: MetricName = MetricName.ACCURACY) -> dict[str, float]:
    """What the best constant guess reaches: for accuracy the share of the majority class of the labelled images.

    Balanced accuracy: one of the classes that occur. AUROC: a half.
    """
    shares: dict[str, float] = {}
    for task, column in _labelled(labels, tasks):
        counts = _counts(column, task)
        shares[task.name] = {
            MetricName.ACCURACY: int(counts.max()) / int(counts.sum()),
            MetricName.BALANCED: 1 / int((counts > 0).sum()),
            MetricName.AUROC: 0.5,
        }[metric]
    return shares


def _labelled(labels: Mapping[str, Tensor], tasks: TaskSet) -> Iterator[tuple[Task, Tensor]]:
    for task in tasks:
        if not bool((labels[task.name] >= 0).any()):
            raise ValueError(f"task {task.name!r} has no labelled image")
        yield task, labels[task.name]


def _counts(column: Tensor, task: Task) -> Tensor:
    """Labelled images of each class."""
    return torch.bincount(column[column >= 0], minlength=task.num_classes)
