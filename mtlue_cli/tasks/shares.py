"""How frequent each class of each task is."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mtlue_cli.tasks.label_maps import code_shares
from mtlue_cli.tasks.spec import TaskSet


def class_shares(labels: Mapping[str, Tensor], tasks: TaskSet) -> list[list[float]]:
    """Share of each class among the labelled samples, a task each, with one more sample of every class added.

    The added samples (Laplace's rule) keep a class that does not occur from being impossible. In a dense task the
    samples are pixels, and depths and normals have codes in the place of classes
    (:func:`~mtlue_cli.tasks.label_maps.code_shares`).

    Args:
        labels: Task name to ``(N,)`` int64, negative where unlabelled, or to label maps.
        tasks: The tasks, in the order of the result.

    Returns:
        One list per task, each summing to one.
    """
    shares: list[list[float]] = []
    for task in tasks:
        column = labels[task.name]
        if task.is_dense:
            shares.append(code_shares(column, task))
            continue
        counts = torch.bincount(column[column >= 0], minlength=task.num_classes).double() + 1
        shares.append((counts / counts.sum()).tolist())
    return shares


def image_level_shares(labels: Mapping[str, Tensor | npt.NDArray[np.int64]], tasks: TaskSet) -> dict[str, list[float]]:
    """:func:`class_shares` of the tasks that label whole images, by task; ``labels`` may hold more than theirs."""
    chosen = tasks.image_level
    columns = {name: torch.as_tensor(labels[name]).cpu() for name in chosen.names}
    return dict(zip(chosen.names, class_shares(columns, chosen), strict=True))
