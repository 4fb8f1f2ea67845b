"""Label embedding from keyed codes: nothing in it is learned for a task or a class."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from mtlue_cli.generator.codebook import Codebook
from mtlue_cli.generator.mirrored_patterns import mirrored_patterns, pattern_dimension
from mtlue_cli.tasks.spec import UNLABELLED, TaskSet

EVEN_SHARE = 0.5
"""How much of the point that a task's codes are centred on weighs all classes alike; the rest weighs rare ones more."""

_LEAST_POWER = 1e-12


@dataclass(frozen=True)
class PreparedCodes:
    """The codes of a codebook as patterns, for whoever binds many in turn.

    Attributes:
        tasks: What they stand for.
        patterns: ``(sum of C, plus 1, pattern_channels, pattern_grid, pattern_grid)`` float, class after class and task
            after task; the last one is no code at all, which is also the point that every task's codes are centred on.
    """

    tasks: TaskSet
    patterns: Tensor


class CodeEmbedding(nn.Module):
    """The maps of a codebook's classes, summed over the tasks as :class:`~.label_embedding.LabelEmbedding` does.

    The first ``pattern_channels`` channels of a map are the class's code as a mirror-symmetric pattern; the others are
    what a small network, the same for every task and class, makes of that pattern. So the weights know of no task, and
    any codebook can be bound to them. Codes are no parameters and never reach a checkpoint.

    Args:
        channels: Channels of a map.
        grid: Side of a map in cells.
        pattern_channels: How many leading channels hold the pattern.
        pattern_grid: Side of the coarse grid of the patterns, in cells.

    Source:
        Stands in for the class-wise embeddings of Yu et al., ICML 2025, section 4; their regularisers are fulfilled by
        :class:`~.codebook.Codebook` in closed form.
    """

    patterns: Tensor

    def __init__(self, channels: int, grid: int, pattern_channels: int, pattern_grid: int) -> None:
        super().__init__()
        self.grid, self.pattern_channels, self.pattern_grid = grid, pattern_channels, pattern_grid
        self.tasks = TaskSet(())
        self._first: dict[str, int] = {}
        self.lift = nn.Sequential(
            nn.Conv2d(pattern_channels, channels, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(channels, channels - pattern_channels, 3, padding=1),
        )
        self.register_buffer("patterns", torch.empty(0, pattern_channels, pattern_grid, pattern_grid), persistent=False)

    @property
    def dimension(self) -> int:
        """Of the codes that it takes."""
        return pattern_dimension(self.pattern_channels, self.pattern_grid)

    def prepared(self, codebook: Codebook, shares: Mapping[str, Sequence[float]] | None = None) -> PreparedCodes:
        """The codes of ``codebook`` as this embedding takes them, on its device.

        The point that a task's codes are centred on is what a victim sees in a clean image: no code. It lies towards
        the rare classes (:func:`centre_weights`), so that clean images are taken for those. The sum over the tasks,
        divided by the square root of their number, has unit variance over images and cells.

        Args:
            codebook: The codes.
            shares: Of each class among the images, by task; a task that is absent has classes of equal share.

        Raises:
            ValueError: The codes have another dimension.
        """
        if codebook.dimension != self.dimension:
            raise ValueError(f"codes of dimension {self.dimension} are expected, not {codebook.dimension}")
        found: list[npt.NDArray[np.float64]] = []
        power = 0.0
        for task in codebook.tasks:
            codes = codebook.centred(task.name)
            even = np.full(task.num_classes, 1 / task.num_classes)
            share = np.asarray((shares or {}).get(task.name, even), dtype=np.float64)
            codes = codes - centre_weights(share) @ codes
            power += float(share @ np.square(codes).sum(axis=1))
            found.append(codes)
        cells = self.pattern_channels * self.pattern_grid**2
        scale = math.sqrt(cells * len(found) / max(power, _LEAST_POWER))
        flat = torch.from_numpy(scale * np.concatenate([*found, np.zeros((1, self.dimension))])).float()
        patterns = mirrored_patterns(flat, self.pattern_channels, self.pattern_grid)
        return PreparedCodes(codebook.tasks, patterns.to(self.patterns.device))

    def bind(self, codes: PreparedCodes) -> None:
        """Take ``codes`` in place of those it had."""
        self.tasks, self.patterns = codes.tasks, codes.patterns
        counts = np.cumsum([0, *(task.num_classes for task in self.tasks)]).tolist()
        self._first = dict(zip(self.tasks.names, counts, strict=False))

    def of_task(self, name: str) -> Tensor:
        """All maps of one task, ``(C, channels, grid, grid)``; the row is the class index."""
        first = self._first[name]
        return self._maps(self.patterns[first : first + self.tasks[name].num_classes])

    def forward(self, labels: Mapping[str, Tensor]) -> Tensor:
        """Sum of the maps that ``labels`` pick, over the square root of the number of tasks.

        Args:
            labels: Task name to class indices, ``(B,)`` int64, or ``(B, H, W)`` for a task that is labelled pixel by
                pixel: there the map of each class is painted where the class is. A task that is absent, or an index of
                :data:`~mtlue_cli.tasks.spec.UNLABELLED`, gets the map of no code, which says nothing about it.

        Returns:
            ``(B, channels, grid, grid)`` float; ``B`` is 1 if ``labels`` is empty.
        """
        batch = len(next(iter(labels.values()))) if labels else 1
        neutral = len(self.patterns) - 1
        absent = torch.full((batch,), neutral, dtype=torch.int64, device=self.patterns.device)
        painted = {name: index for name, index in labels.items() if index.dim() > 1 and name in self._first}
        whole = [task.name for task in self.tasks if task.name not in painted]
        picked = [self._rows(name, labels.get(name), neutral, absent) for name in whole]
        drawn = [self._rows(name, index, neutral, absent) for name, index in painted.items()]
        rows = torch.unique(torch.cat([rows.flatten() for rows in (*picked, *drawn)]))
        maps = self._maps(self.patterns[rows])
        # Products with selections: their gradient is deterministic, that of indexing is not.
        choice = maps.new_zeros(batch, len(rows))
        for index in picked:
            choice = choice + nn.functional.one_hot(torch.searchsorted(rows, index), len(rows))
        summed = (choice.to(maps.dtype) @ maps.flatten(1)).view(batch, *maps.shape[1:])
        for index in drawn:
            masks = nn.functional.one_hot(torch.searchsorted(rows, index), len(rows)).movedim(-1, 1).to(maps.dtype)
            at_grid = nn.functional.adaptive_avg_pool2d(masks, self.grid)
            summed = summed + torch.einsum("buhw,uchw->bchw", at_grid, maps)
        return summed / math.sqrt(len(self.tasks))

    def _rows(self, name: str, index: Tensor | None, neutral: int, absent: Tensor) -> Tensor:
        """Rows of :attr:`patterns` that labels stand for, in their shape."""
        if index is None:
            return absent
        return torch.where(index == UNLABELLED, neutral, index + self._first[name])

    def _maps(self, patterns: Tensor) -> Tensor:
        size = (self.grid, self.grid)
        coarse = nn.functional.interpolate(patterns, size=size, mode="bilinear", align_corners=False)
        return torch.cat([coarse, self.lift(coarse).to(coarse.dtype)], dim=1)


def centre_weights(shares: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Weights of a task's codes in the point that they are centred on: half alike, half by the inverse of the share.

    Centred on the images instead, the code of a frequent class would be nearly none: a clean image would be taken for
    that class, rightly most of the time.

    Args:
        shares: Of each class among the images, ``(C,)``, all positive.

    Returns:
        ``(C,)``, summing to one.
    """
    inverse = 1 / shares
    weights: npt.NDArray[np.float64] = EVEN_SHARE / len(shares) + (1 - EVEN_SHARE) * inverse / inverse.sum()
    return weights
