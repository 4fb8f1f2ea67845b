"""Small drawn scenes with every kind of label: bright discs at a depth of their own, before a sloping ground."""

import torch
from torch import Tensor

from mtlue_cli.choices import TaskKind
from mtlue_cli.tasks.spec import Task, TaskSet

BRIGHT = Task("bright", TaskKind.BINARY, ("0", "1"))
PARTS = Task("parts", TaskKind.SEGMENTATION, ("ground", "red", "green"))
DEPTH = Task("depth", TaskKind.DEPTH, (), span=(1.0, 5.0))
NORMALS = Task("normals", TaskKind.NORMALS, ())
TASKS = TaskSet((BRIGHT, PARTS, DEPTH, NORMALS))


def draw_scenes(count: int, size: int, seed: int = 0) -> tuple[Tensor, dict[str, Tensor]]:
    """``(N, 3, size, size)`` uint8, and the labels of :data:`TASKS`; the border of two pixels is unlabelled."""
    rng = torch.Generator().manual_seed(seed)
    bright, colour = torch.randint(2, (2, count), generator=rng)
    centre = size * (0.3 + 0.4 * torch.rand(count, 2, 1, 1, generator=rng))
    radius = size * (0.15 + 0.1 * torch.rand(count, 1, 1, generator=rng))
    rows, columns = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    offset = torch.stack([(columns - centre[:, 0]) / radius, (rows - centre[:, 1]) / radius], dim=1)
    disc = offset.square().sum(dim=1) < 1
    images = 40 + 30 * torch.rand(count, 3, size, size, generator=rng) + 50 * bright.view(-1, 1, 1, 1)
    painted = disc[:, None] & (torch.arange(3).view(1, 3, 1, 1) == colour.view(-1, 1, 1, 1))
    images[painted] += 100
    parts = torch.where(disc, 1 + colour.view(-1, 1, 1), 0)
    depth = torch.where(disc, 1.5, 5 - 3 * rows / size)[:, None]
    ground = torch.tensor([0.0, 0.8, 0.6]).view(1, 3, 1, 1)
    ball = torch.cat([offset, (1 - offset.square().sum(dim=1, keepdim=True)).clamp_min(0).sqrt()], dim=1)
    normals = torch.where(disc[:, None], ball, ground)
    edge = torch.ones(size, size, dtype=torch.bool)
    edge[2:-2, 2:-2] = False
    parts[:, edge] = -1
    depth[..., edge] = 0
    normals[..., edge] = 0
    return images.clamp(0, 255).to(torch.uint8), {"bright": bright, "parts": parts, "depth": depth, "normals": normals}
