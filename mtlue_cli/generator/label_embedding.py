"""Class-wise label embeddings: the label prior of MTL-UE."""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from mtlue_cli.generator.network import resized
from mtlue_cli.generator.patterns import initial_patterns
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
        priors: Share of each class among the labels, a list per task; None: equally frequent.
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
        priors: Sequence[Sequence[float]] | None,
        rng: torch.Generator,
    ) -> None:
        super().__init__()
        self.tasks = tasks
        self.maps = nn.ParameterDict()
        shares = [task.equal_shares for task in tasks] if priors is None else priors
        patterns = initial_patterns(shares, pattern_channels, pattern_grid, rng)
        for index, (task, pattern) in enumerate(zip(tasks, patterns, strict=True)):
            coarse = resized(pattern, (grid, grid))
            rest = 0.1 * torch.randn(task.num_classes, channels - pattern_channels, grid, grid, generator=rng)
            self.maps[f"task{index}"] = nn.Parameter(torch.cat([coarse, rest], dim=1))

    def of_task(self, name: str) -> Tensor:
        """All maps of one task, ``(C, channels, grid, grid)``; the row is the class index."""
        maps: Tensor = self.maps[f"task{self.tasks.names.index(name)}"]
        return maps

    @torch.no_grad()
    def take_maps(self, name: str, maps: Tensor) -> None:
        """Begin from other maps of one task, ``(C, channels, grid, grid)``.

        Raises:
            ValueError: They have another shape.
        """
        own = self.of_task(name)
        if maps.shape != own.shape:
            raise ValueError(f"maps of shape {tuple(own.shape)} are expected, not {tuple(maps.shape)}")
        own.copy_(maps)

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
