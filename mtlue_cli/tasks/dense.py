"""Dense labels as tensors: how they are stored for a whole set, and what a loop is given."""

import torch
from torch import Tensor

from mtlue_cli.choices import TaskKind
from mtlue_cli.tasks.spec import UNLABELLED, Task

STORED = {TaskKind.SEGMENTATION: torch.int16, TaskKind.DEPTH: torch.float32, TaskKind.NORMALS: torch.float16}
"""Type in which the maps of a whole set are kept. Depth in millimetres would leave the range of float16."""


def empty_maps(task: Task, count: int, size: int) -> Tensor:
    """Maps of ``count`` images without a label.

    Returns:
        ``(count, S, S)`` int16 of -1 for segmentation; ``(count, 1, S, S)`` float32 of 0 for depth,
        ``(count, 3, S, S)`` float16 of 0 for normals.
    """
    if task.kind is TaskKind.SEGMENTATION:
        return torch.full((count, size, size), UNLABELLED, dtype=STORED[task.kind])
    return torch.zeros((count, task.channels, size, size), dtype=STORED[task.kind])


def as_labels(stored: Tensor) -> Tensor:
    """A batch of stored labels as losses and metrics take them: class indices int64, numbers float32."""
    return stored.float() if stored.is_floating_point() else stored.long()
