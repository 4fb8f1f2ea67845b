"""Label embedding from keyed codes: nothing in it is learned for a task or a class."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from mtlue_cli.generator.code_patterns import (
    GREEN,
    cells_for,
    cells_of,
    mirrored,
    painted_codes,
    pattern_dimension,
    unit_scale,
)
from mtlue_cli.generator.codebook import Codebook, Numbers
from mtlue_cli.generator.network import resized
from mtlue_cli.keys import Key
from mtlue_cli.tasks.spec import UNLABELLED, TaskSet


class CodeEmbedding(nn.Module):
    """The maps of a codebook's classes, summed over the tasks as :class:`~.label_embedding.LabelEmbedding` does.

    The first ``pattern_channels`` channels of a map are the class's code as a mirror-symmetric pattern; a small
    network, the same for every task and class, makes the others of it. So any codebook can be bound to the weights.
    Codes are no parameters and never reach a checkpoint.

    Attributes:
        tasks: Those of the codebook that is bound.
        patterns: ``(sum of C, plus 1, pattern_channels, g, g)`` float, class after class and task after task of those
            that have codes; the last one is no code at all: what clean and unlabelled images have.
        pattern_grid: Least side ``g`` of the patterns, in cells.

    Source:
        Replaces the class-wise embeddings of Yu et al., ICML 2025, section 4; :class:`~.codebook.Codebook` fulfils
        their regularisers in closed form.
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

    def codebook(self, key: Key, tasks: TaskSet, cells: int = 0) -> Codebook:
        """The codes of ``tasks``, in this order, in the space of patterns of ``cells`` cells (0: :func:`cells_for`)."""
        return Codebook(key, tasks, pattern_dimension(1, cells or cells_for(tasks, self.pattern_grid)))

    def bind(self, codebook: Codebook, shares: Mapping[str, Sequence[float]] | None = None) -> None:
        """Take the codes of ``codebook`` in place of those it had.

        What a victim sees in a clean image is no code. The rarest class of an even task has none either, or little
        (:func:`~mtlue_cli.generator.codebook.centred_codes`), so that clean images are taken for it. A task whose
        images are nearly all of one class is quiet: a victim learns little of it from clean images. The sum over the
        tasks, divided by the square root of their number, has unit power over images and pixels.

        *Why one colour.* Photos vary least in green against magenta: faces by 4 to 5 levels, in red against blue by 11
        to 13, in brightness by 42 to 56. Victims learn more from codes that have all colours (docs/universal.md).

        Args:
            codebook: The codes.
            shares: Of each class among the images, by task; a task that is absent has classes of equal share.

        Raises:
            ValueError: The codes have a dimension that no patterns have.
        """
        found = painted_codes(codebook, shares)
        self.take(codebook.tasks, found, self.unit_scale(found, shares))

    def unit_scale(self, codes: Mapping[str, Numbers], shares: Mapping[str, Sequence[float]] | None = None) -> float:
        """:func:`~.code_patterns.unit_scale` of codes in the space of these maps."""
        return unit_scale(codes, self.grid, self.pattern_grid, shares)

    def take(self, tasks: TaskSet, codes: Mapping[str, Numbers], scale: float) -> None:
        """Paint these codes from now on.

        Args:
            tasks: All tasks that are protected.
            codes: ``(C, d)`` of each task that has codes, a row per class.
            scale: What they are multiplied by.
        """
        dimension = next((own.shape[1] for own in codes.values()), pattern_dimension(1, self.pattern_grid))
        flat = np.concatenate([*codes.values(), np.zeros((1, dimension))])
        patterns = torch.from_numpy(mirrored(flat, cells_of(dimension)))[:, None]
        patterns = patterns * scale * torch.tensor(GREEN).view(3, 1, 1)
        self.tasks, self.patterns = tasks, patterns.float().to(self.patterns.device)
        counts = np.cumsum([0, *(len(own) for own in codes.values())]).tolist()
        self._first = dict(zip(codes, counts, strict=False))

    def of_task(self, name: str) -> Tensor:
        """All maps of one task, ``(C, channels, grid, grid)``; the row is the class index."""
        first = self._first[name]
        return self._maps(self.patterns[first : first + self.tasks[name].num_classes])

    def forward(self, labels: Mapping[str, Tensor]) -> Tensor:
        """Sum of the maps that ``labels`` pick, over the square root of the number of tasks.

        Args:
            labels: Task name to class indices, ``(B,)`` int64, or ``(B, H, W)`` for a dense task: there the map of each
                class is painted where the class is. What is absent or unlabelled gets the map of no code.

        Returns:
            ``(B, channels, grid, grid)`` float; ``B`` is 1 if ``labels`` is empty.
        """
        batch = len(next(iter(labels.values()))) if labels else 1
        neutral = len(self.patterns) - 1
        absent = torch.full((batch,), neutral, dtype=torch.int64, device=self.patterns.device)
        found = {
            name: torch.where(index == UNLABELLED, neutral, index + self._first[name])
            for name, index in labels.items()
            if name in self._first
        }
        drawn = [rows for rows in found.values() if rows.dim() > 1]
        picked = [rows for rows in (found.get(name, absent) for name in self._first) if rows.dim() == 1]
        rows = torch.unique(torch.cat([rows.flatten() for rows in (absent, *picked, *drawn)]))
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
        return summed / math.sqrt(max(1, len(self._first)))

    def _maps(self, patterns: Tensor) -> Tensor:
        coarse = resized(patterns, (self.grid, self.grid))
        return torch.cat([coarse, self.lift(coarse).to(coarse.dtype)], dim=1)
