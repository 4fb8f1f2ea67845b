"""How frequent each class of each task is."""

from collections.abc import Mapping

import torch
from torch import Tensor

from mtlue_cli.tasks.spec import TaskSet


def class_shares(labels: Mapping[str, Tensor], tasks: TaskSet) -> list[list[float]]:
    """Share of each class among the labelled samples, a task each, with one more sample of every class added.

    The added samples (Laplace's rule) keep a class that does not occur from being impossible.

    Args:
        labels: Task name to ``(N,)`` int64, negative where unlabelled.
        tasks: The tasks, in the order of the result.

    Returns:
        A list a task, each summing to one.
    """
    shares: list[list[float]] = []
    for task in tasks:
        column = labels[task.name]
        counts = torch.bincount(column[column >= 0], minlength=task.num_classes).double() + 1
        shares.append((counts / counts.sum()).tolist())
    return shares
