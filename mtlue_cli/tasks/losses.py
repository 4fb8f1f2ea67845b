"""Losses, hits and wrong targets of all tasks at once, with unlabelled cells masked.

Outputs and labels go by task name; their shapes are those of :mod:`mtlue_cli.tasks.kinds`.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from mtlue_cli.tasks.kinds import KINDS
from mtlue_cli.tasks.spec import TaskSet


def task_losses(outputs: Mapping[str, Tensor], labels: Mapping[str, Tensor], tasks: TaskSet) -> dict[str, Tensor]:
    """Mean loss of each task over its labelled cells: images, or pixels.

    Cross-entropy for classes (binary tasks have two logits); for depth the absolute error in shares of the task's
    span; for normals one minus the cosine of the angle.

    Returns:
        One scalar per task; exactly 0, with a zero gradient, where no cell is labelled.
    """
    losses: dict[str, Tensor] = {}
    for task in tasks:
        rules, target = KINDS[task.kind], labels[task.name]
        summed = rules.losses(outputs[task.name], target, task, "sum")
        losses[task.name] = summed / rules.known(target).sum().clamp_min(1)
    return losses


def sample_losses(outputs: Mapping[str, Tensor], labels: Mapping[str, Tensor], tasks: TaskSet) -> Tensor:
    """Mean loss of each sample over the tasks that it is labelled for; in a dense task, over its labelled pixels.

    Returns:
        ``(B,)`` float; 0 where no task is labelled.
    """
    losses: list[Tensor] = []
    counts: list[Tensor] = []
    for task in tasks:
        rules, target = KINDS[task.kind], labels[task.name]
        cells = rules.losses(outputs[task.name], target, task, "none").flatten(1 if task.is_dense else 0)
        known = rules.known(target)
        if task.is_dense:
            pixels = known.flatten(1).sum(dim=1)
            cells, known = cells.sum(dim=1) / pixels.clamp_min(1), pixels > 0
        losses.append(cells)
        counts.append(known)
    return torch.stack(losses).sum(dim=0) / torch.stack(counts).sum(dim=0).clamp_min(1)


def mean_loss(losses: Mapping[str, Tensor]) -> Tensor:
    """Linear scalarisation: the unweighted mean over the tasks."""
    return torch.stack(list(losses.values())).mean()


def count_correct(
    outputs: Mapping[str, Tensor], labels: Mapping[str, Tensor], tasks: TaskSet
) -> dict[str, tuple[int, int]]:
    """Correct and labelled cells per task, for running accuracies.

    A depth is correct within :data:`~mtlue_cli.tasks.kinds.NEAR_DEPTH` of the true one, a normal within
    :data:`~mtlue_cli.tasks.kinds.NEAR_ANGLE`.
    """
    sums: list[Tensor] = []
    for task in tasks:
        rules, target = KINDS[task.kind], labels[task.name]
        known = rules.known(target)
        correct = rules.right(outputs[task.name], target) & known
        sums += [correct.sum(), known.sum()]
    counts = iter(torch.stack(sums).tolist())  # a GPU is waited for once
    return {task.name: (next(counts), next(counts)) for task in tasks}


def shifted_labels(labels: Mapping[str, Tensor], tasks: TaskSet) -> dict[str, Tensor]:
    """The wrong labels that targeted poisoning aims at; unlabelled stays unlabelled.

    Classes, of images and of pixels: ``(y + floor(C / 2)) mod C``. Depth: near for far within the task's span.
    Normals: a half turn about the line of sight.

    Source:
        Fowl et al., NeurIPS 2021, in the multi-task form of Yu et al., ICML 2025. Those of depth and normals are ours.
    """
    return {task.name: KINDS[task.kind].wrong(labels[task.name], task) for task in tasks}
