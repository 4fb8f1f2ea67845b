"""Labels of a batch: out of those of a whole set, and on the centre of an image."""

from collections.abc import Mapping

import torch
from torch import Tensor

from mtlue_cli.tasks.dense import as_labels
from mtlue_cli.tasks.spec import TaskSet


def labels_of(labels: Mapping[str, Tensor], tasks: TaskSet, rows: Tensor, device: torch.device) -> dict[str, Tensor]:
    """The labels of some rows, on ``device``, as losses expect them.

    Args:
        labels: Task name to the labels of all rows, as they are kept.
        tasks: The tasks that are wanted.
        rows: ``(B,)`` int64.
        device: Where they go.
    """
    return {task.name: as_labels(labels[task.name][rows].to(device)) for task in tasks}


def centred_labels(labels: Mapping[str, Tensor], tasks: TaskSet, size: int) -> dict[str, Tensor]:
    """All labels for images of which only the centre is seen; label maps as losses expect them.

    Args:
        labels: Task name to the labels of all rows, as they are kept.
        tasks: The tasks that are wanted.
        size: Side of the centre in pixels.
    """

    def centre(maps: Tensor) -> Tensor:
        offset = (maps.shape[-1] - size) // 2
        return as_labels(maps[..., offset : offset + size, offset : offset + size])

    return {task.name: centre(labels[task.name]) if task.is_dense else labels[task.name] for task in tasks}
