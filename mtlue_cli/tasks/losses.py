"""Task losses with unlabelled cells masked."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from mtlue_cli.tasks.spec import UNLABELLED, TaskSet


def task_losses(logits: Mapping[str, Tensor], labels: Mapping[str, Tensor], tasks: TaskSet) -> dict[str, Tensor]:
    """Mean cross-entropy of each task over its labelled samples.

    Args:
        logits: Task name to ``(B, C)`` float.
        labels: Task name to class indices, ``(B,)`` int64; :data:`~mtlue_cli.tasks.spec.UNLABELLED` is masked.
        tasks: The tasks; binary ones have two logits.

    Returns:
        A scalar a task; exactly 0, with a zero gradient, where no sample is labelled.
    """
    losses: dict[str, Tensor] = {}
    for task in tasks:
        target = labels[task.name]
        summed = nn.functional.cross_entropy(
            logits[task.name].float(), target, ignore_index=UNLABELLED, reduction="sum"
        )
        losses[task.name] = summed / (target != UNLABELLED).sum().clamp_min(1)
    return losses


def mean_loss(losses: Mapping[str, Tensor]) -> Tensor:
    """Linear scalarisation: the unweighted mean over the tasks."""
    return torch.stack(list(losses.values())).mean()


def count_correct(
    logits: Mapping[str, Tensor], labels: Mapping[str, Tensor], tasks: TaskSet
) -> dict[str, tuple[int, int]]:
    """Correct and labelled samples a task, for running accuracies."""
    counts: dict[str, tuple[int, int]] = {}
    for task in tasks:
        target = labels[task.name]
        known = target != UNLABELLED
        correct = (logits[task.name].argmax(dim=1) == target) & known
        counts[task.name] = (int(correct.sum()), int(known.sum()))
    return counts
