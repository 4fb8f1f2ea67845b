"""Targets that an objective steers a surrogate towards."""

from collections.abc import Mapping

import torch
from torch import Tensor

from mtlue_cli.tasks.spec import UNLABELLED, TaskSet


def shifted_labels(labels: Mapping[str, Tensor], tasks: TaskSet) -> dict[str, Tensor]:
    """The wrong class that targeted poisoning aims at: ``(y + floor(C / 2)) mod C``.

    Args:
        labels: Task name to class indices, ``(B,)`` int64, negative where unlabelled.
        tasks: The tasks.

    Returns:
        Shifted indices a task; unlabelled stays unlabelled.

    Source:
        Fowl et al., NeurIPS 2021, in the multi-task form of Yu et al., ICML 2025.
    """
    shifted: dict[str, Tensor] = {}
    for task in tasks:
        index = labels[task.name]
        moved = (index + task.num_classes // 2) % task.num_classes
        shifted[task.name] = torch.where(index == UNLABELLED, index, moved)
    return shifted
