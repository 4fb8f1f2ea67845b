"""Class-wise label embeddings, the label prior of MTL-UE, and the closed-form patterns that they start from.

Patterns are coarse, mirror-symmetric, a simplex per task and orthogonal between tasks.
"""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from mtlue_cli.generator.code_patterns import mirrored, pattern_dimension
from mtlue_cli.generator.network import resized
from mtlue_cli.tasks.spec import UNLABELLED, TaskSet


class LabelEmbedding(nn.Module):
    """One learnable spatial map per task and class; the maps of a sample's labels are summed over the tasks.

    The sum is divided by the square root of the number of tasks, which keeps the variance. Maps are resized bilinearly
    to the latent at hand, so that no embedding is tied to an image size. The first ``pattern_channels`` channels start
    as closed-form patterns, which a convolutional network learns within an epoch; the rest start small and random.

    Args:
        tasks: In the order in which their maps are stored.
        channels, grid: Channels and side in cells of a map.
        pattern_channels, pattern_grid: How many leading channels are the pattern, and the side of its coarse grid.
        priors: Share of each class among the labels, a list per task.
        rng: Source of the initial values.

    Source:
        Yu et al., ICML 2025, section 4. Deviations: summed instead of concatenated, resizable, structured start.
    """

    def __init__(
        self,
        tasks: TaskSet,
        channels: int,
        grid: int,
        pattern_channels: int,
        pattern_grid: int,
        priors: Sequence[Sequence[float]],
        rng: torch.Generator,
    ) -> None:
        super().__init__()
        self.tasks = tasks
        self.maps = nn.ParameterDict()
        patterns = initial_patterns(priors, pattern_channels, pattern_grid, rng)
        for index, (task, pattern) in enumerate(zip(tasks, patterns, strict=True)):
            coarse = resized(pattern, (grid, grid))
            rest = 0.1 * torch.randn(task.num_classes, channels - pattern_channels, grid, grid, generator=rng)
            self.maps[f"task{index}"] = nn.Parameter(torch.cat([coarse, rest], dim=1))

    def of_task(self, name: str) -> Tensor:
        """All maps of one task, ``(C, channels, grid, grid)``; the row is the class index."""
        maps: Tensor = self.maps[f"task{self.tasks.names.index(name)}"]
        return maps

    def forward(self, labels: Mapping[str, Tensor]) -> Tensor:
        """Sum of the maps that ``labels`` pick, over the square root of the number of tasks.

        Args:
            labels: Task name to class indices, ``(B,)`` int64; what is absent or unlabelled gets the mean of the task's
                maps.

        Returns:
            ``(B, channels, grid, grid)`` float; ``B`` is 1 if ``labels`` is empty.
        """
        batch = len(next(iter(labels.values()))) if labels else 1
        maps = torch.cat([self.of_task(task.name) for task in self.tasks])
        weights: list[Tensor] = []
        for task in self.tasks:
            chosen, index = maps.new_full((batch, task.num_classes), 1.0 / task.num_classes), labels.get(task.name)
            if index is not None:
                one_hot = nn.functional.one_hot(index.clamp_min(0), task.num_classes).to(maps.dtype)
                chosen = torch.where((index == UNLABELLED)[:, None], chosen, one_hot)
            weights.append(chosen)
        # A product with a selection matrix: its gradient is deterministic, that of indexing is not.
        summed = torch.cat(weights, dim=1) @ maps.flatten(1)
        return summed.view(batch, *maps.shape[1:]) / math.sqrt(len(self.tasks))


def initial_patterns(priors: Sequence[Sequence[float]], channels: int, grid: int, rng: torch.Generator) -> list[Tensor]:
    """Mirror-symmetric patterns, far apart within a task, orthogonal between tasks, centred on the images.

    Random directions are orthonormalised together over all tasks as far as the space reaches, then centred within each
    task: a simplex, in which every two classes have the cosine ``-1 / (C - 1)``. Then the patterns of each task are
    shifted so that their mean over the *data* is zero: the pattern of a class that nearly all images have says nothing
    and would take up the bound. With forty attributes, most of them rare, this more than doubles the amplitude of the
    rest.

    Args:
        priors: Share of each class, a list per task; they sum to one.
        channels: Of a pattern.
        grid: Its side in cells.
        rng: Source of the random directions.

    Returns:
        A tensor per task, ``(C, channels, grid, grid)``. A sample's sum over the tasks, divided by the square root of
        their number, has unit variance over images and cells.
    """
    dimension = pattern_dimension(channels, grid)
    total = sum(len(shares) for shares in priors)
    directions = torch.randn(dimension, total, generator=rng)
    for start in range(0, total, dimension):
        block = directions[:, start : start + dimension]
        directions[:, start : start + dimension] = torch.linalg.qr(block).Q
    found: list[Tensor] = []
    power, start = 0.0, 0
    for shares in priors:
        chosen = directions[:, start : start + len(shares)].T
        start += len(shares)
        if len(shares) > 1:
            chosen = chosen - chosen.mean(dim=0, keepdim=True)
        full = torch.from_numpy(mirrored(chosen.reshape(len(shares) * channels, -1).numpy(), grid))
        full = full.view(len(shares), channels, grid, grid)
        full = full / full.square().mean().sqrt().clamp_min(1e-8)
        share = torch.tensor(list(shares)).view(-1, 1, 1, 1)
        full = full - (share * full).sum(dim=0, keepdim=True)
        power += float((share * full.square()).sum()) / full[0].numel()
        found.append(full)
    scale = math.sqrt(len(found) / max(power, 1e-8))
    return [scale * full for full in found]
