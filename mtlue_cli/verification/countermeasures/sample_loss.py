"""The multi-task loss of each sample of a batch."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from mtlue_cli.tasks.spec import UNLABELLED, TaskSet


def sample_losses(logits: Mapping[str, Tensor], labels: Mapping[str, Tensor], tasks: TaskSet) -> Tensor:
    """Mean cross-entropy of each sample over the tasks that it is labelled for.

    Args:
        logits: Task name to ``(B, C)`` float.
        labels: Task name to ``(B,)`` int64, :data:`~mtlue_cli.tasks.spec.UNLABELLED` is left out.
        tasks: The tasks.

    Returns:
        ``(B,)`` float; 0 where no task is labelled.
    """
    losses = torch.stack(
        [
            nn.functional.cross_entropy(
                logits[task.name].float(), labels[task.name], ignore_index=UNLABELLED, reduction="none"
            )
            for task in tasks
        ]
    )
    known = torch.stack([labels[task.name] != UNLABELLED for task in tasks]).sum(dim=0)
    return losses.sum(dim=0) / known.clamp_min(1)
