"""Accuracy of a classifier, and what a constant guess reaches."""

from collections.abc import Mapping

import torch
from torch import Tensor
from torchmetrics.functional.classification import binary_auroc, multiclass_accuracy

from mtlue_cli.choices import MetricName
from mtlue_cli.tasks.spec import UNLABELLED, TaskSet

CONCLUSIVE_MARGIN = 0.02
"""A clean victim must beat the floor by this much, or its task says nothing about protection."""

_ROUNDING = 1e-9
"""Slack for the binary representation of shares such as 0.52 - 0.5."""


def accuracies(logits: Mapping[str, Tensor], labels: Mapping[str, Tensor], tasks: TaskSet) -> dict[str, float]:
    """Share of labelled images whose highest logit is their class, a task.

    Args:
        logits: Task name to ``(N, C)`` float.
        labels: Task name to ``(N,)`` int64 class indices; negative: unlabelled, left out.
        tasks: The tasks to score.

    Returns:
        Task name to accuracy in [0, 1].

    Raises:
        ValueError: A task has no labelled image.
    """
    scores: dict[str, float] = {}
    for task in tasks:
        _require_labels(task.name, labels[task.name])
        score = multiclass_accuracy(
            logits[task.name], labels[task.name], num_classes=task.num_classes, average="micro", ignore_index=UNLABELLED
        )
        scores[task.name] = float(score)
    return scores


def balanced_accuracies(logits: Mapping[str, Tensor], labels: Mapping[str, Tensor], tasks: TaskSet) -> dict[str, float]:
    """Mean over the classes that occur of the share of their images that are recognised, a task.

    Arguments, range and errors as for :func:`accuracies`.
    """
    scores: dict[str, float] = {}
    for task in tasks:
        _require_labels(task.name, labels[task.name])
        recalls = multiclass_accuracy(
            logits[task.name], labels[task.name], num_classes=task.num_classes, average=None, ignore_index=UNLABELLED
        )
        present = torch.bincount(_known(labels[task.name]), minlength=task.num_classes) > 0
        scores[task.name] = float(recalls[present].mean())
    return scores


def aurocs(logits: Mapping[str, Tensor], labels: Mapping[str, Tensor], tasks: TaskSet) -> dict[str, float | None]:
    """Area under the ROC curve, a task: of the second class where there are two, else the mean of one against the rest.

    Classes without an image, or without an image of any other class, do not count.

    Returns:
        Task name to a value in [0, 1]; None where only one class occurs.

    Raises:
        ValueError: A task has no labelled image.
    """
    scores: dict[str, float | None] = {}
    for task in tasks:
        _require_labels(task.name, labels[task.name])
        known = labels[task.name] >= 0
        target, shares = labels[task.name][known], logits[task.name][known].float().softmax(dim=1)
        classes = [1] if task.num_classes == 2 else range(task.num_classes)
        areas = [
            float(binary_auroc(shares[:, index], (target == index).long()))
            for index in classes
            if bool((target == index).any()) and not bool((target == index).all())
        ]
        scores[task.name] = sum(areas) / len(areas) if areas else None
    return scores


def floors(labels: Mapping[str, Tensor], tasks: TaskSet) -> dict[str, float]:
    """Accuracy of the best constant guess: the share of the majority class of the labelled images, a task.

    Args:
        labels: Task name to ``(N,)`` int64 class indices; negative: unlabelled, left out.
        tasks: The tasks to score.

    Raises:
        ValueError: A task has no labelled image.
    """
    shares: dict[str, float] = {}
    for task in tasks:
        _require_labels(task.name, labels[task.name])
        counts = torch.bincount(_known(labels[task.name]), minlength=task.num_classes)
        shares[task.name] = int(counts.max()) / int(counts.sum())
    return shares


def chance_floors(metric: MetricName, labels: Mapping[str, Tensor], tasks: TaskSet) -> dict[str, float]:
    """What a constant guess reaches under ``metric``, a task.

    Accuracy: the majority class (:func:`floors`). Balanced accuracy: one of the classes that occur. AUROC: a half.

    Raises:
        ValueError: A task has no labelled image.
    """
    majority = floors(labels, tasks)
    if metric is MetricName.ACCURACY:
        return majority
    if metric is MetricName.AUROC:
        return dict.fromkeys(majority, 0.5)
    return {name: 1 / int((torch.bincount(_known(labels[name])) > 0).sum()) for name in majority}


def is_conclusive(clean: float, floor: float) -> bool:
    """Whether a clean victim of accuracy ``clean`` beats ``floor`` by :data:`CONCLUSIVE_MARGIN`."""
    return clean - floor >= CONCLUSIVE_MARGIN - _ROUNDING


def _known(labels: Tensor) -> Tensor:
    return labels[labels >= 0]


def _require_labels(name: str, labels: Tensor) -> None:
    if not bool((labels >= 0).any()):
        raise ValueError(f"task {name!r} has no labelled image")
