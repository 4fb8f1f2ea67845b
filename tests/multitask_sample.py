"""A tiny multi-task set that a network learns in seconds: colour and brightness of noisy squares."""

import torch
from torch import Tensor

from mtlue_cli.choices import TaskKind
from mtlue_cli.tasks.spec import Task, TaskSet

TASKS = TaskSet(
    (
        Task("colour", TaskKind.CATEGORICAL, ("red", "green", "blue")),
        Task("bright", TaskKind.BINARY, ("0", "1")),
    )
)


def draw_sample(count: int, size: int, seed: int = 0) -> tuple[Tensor, dict[str, Tensor]]:
    """``(N, 3, size, size)`` uint8 and labels: the strongest channel, and whether the square is bright."""
    rng = torch.Generator().manual_seed(seed)
    colour = torch.randint(3, (count,), generator=rng)
    bright = torch.randint(2, (count,), generator=rng)
    images = 60 + 40 * torch.rand(count, 3, size, size, generator=rng)
    images[torch.arange(count), colour] += 60
    images += 40 * bright.view(-1, 1, 1, 1)
    return images.round().to(torch.uint8), {"colour": colour, "bright": bright}
