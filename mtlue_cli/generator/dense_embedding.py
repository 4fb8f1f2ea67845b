"""Embeddings of label maps: the label prior of MTL-UE for tasks that are labelled pixel by pixel."""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from mtlue_cli.generator.label_embedding import initial_patterns
from mtlue_cli.tasks.kinds import labelled_rows
from mtlue_cli.tasks.label_maps import MAPS, code_weights
from mtlue_cli.tasks.spec import Task, TaskSet

CELL = 2
"""Pixels a cell of an embedding, each way: half an image encoder's, so that the edge of a region falls on its pixel."""

SMALLEST_TILE = 4
"""Least side of a tile in cells: 8 pixels, seen whole by the first layers of a network."""

WIDTH = 32
"""Channels between the two convolutions."""

MOMENTUM = 0.02
"""Share of a batch in the running mean."""


class DenseEmbedding(nn.Module):
    """Label map to embedding map: a texture a code, painted where the map says, and what a small network adds.

    A code is a class; a depth lies between two of several, a normal between those of its components
    (:func:`~mtlue_cli.tasks.label_maps.code_weights`). The leading channels are the painted tiles, which the decoder
    draws as colour from the first step; the network, two 3x3 convolutions that also see where nothing is labelled,
    starts by adding nothing to them and small random values to the others.

    Why tiles: a network that predicts pixels looks at a neighbourhood, so what tells a class must be found within a few
    pixels, wherever the region lies, and fit into a narrow one. A pattern over the whole image, as image-level classes
    have it, does not. Tiles are mirror-symmetric and repeat every 8 pixels, so that crops and flips leave them
    what they are, and most of them lies above the frequencies that natural images are strong in.

    *Not protected.* A sample without any label of the task, and so every sample if the task is not protected, gets the
    running mean of the embedding over batches and cells of training, one number a channel: nothing of a label map can
    reach it. Unlabelled pixels of a labelled map get no tile, and what the network makes of them.

    Args:
        task: The task.
        channels: Of an embedding.
        tiles: ``(codes, pattern_channels, t, t)``, the textures that it starts from.

    Source:
        Yu et al., ICML 2025, the embedding module of dense tasks; its form is ours.
    """

    mean: Tensor

    def __init__(self, task: Task, channels: int, tiles: Tensor) -> None:
        super().__init__()
        self.task = task
        self.tiles = nn.Parameter(tiles.clone())
        self.see = nn.Conv2d(len(tiles) + 1, WIDTH, 3, padding=1)
        self.tell = nn.Conv2d(WIDTH, channels, 3, padding=1)
        nn.init.normal_(self.tell.weight, std=0.02)
        nn.init.zeros_(self.tell.weight[: tiles.shape[1]])
        nn.init.zeros_(self.tell.bias)  # type: ignore[arg-type]  # a convolution may have none; this one has
        self.register_buffer("mean", torch.zeros(channels))

    def forward(self, labels: Tensor | None, batch: int, size: Sequence[int]) -> Tensor:
        """Embedding of a batch.

        Args:
            labels: Label maps of ``batch`` images, or None if the task is not protected.
            batch: Number of images.
            size: Height and width in pixels that the embedding covers, multiples of :data:`CELL`; a label map may be
                smaller and is continued by its last row and column.

        Returns:
            ``(batch, channels, height / CELL, width / CELL)`` float.
        """
        cells = (size[0] // CELL, size[1] // CELL)
        neutral = self.mean.view(1, -1, 1, 1).expand(batch, -1, *cells)
        if labels is None:
            return neutral
        weights, known = code_weights(labels, self.task)
        seen = torch.cat([weights, (~known).to(weights)], dim=1)
        below, right = size[0] - seen.shape[-2], size[1] - seen.shape[-1]
        if below or right:
            seen = nn.functional.pad(seen, (0, right, 0, below), mode="replicate")
        seen = nn.functional.avg_pool2d(seen, CELL)
        told: Tensor = self.tell(nn.functional.relu(self.see(seen)))
        painted = self._painted(seen[:, :-1])
        embedding = told + nn.functional.pad(painted, (0, 0, 0, 0, 0, told.shape[1] - painted.shape[1]))
        labelled = labelled_rows(labels, self.task)
        if self.training and bool(labelled.any()):
            with torch.no_grad():
                self.mean.lerp_(embedding[labelled].float().mean(dim=(0, 2, 3)), MOMENTUM)
        return torch.where(labelled.view(-1, 1, 1, 1), embedding, neutral.to(embedding.dtype))

    def _painted(self, weights: Tensor) -> Tensor:
        """``(B, codes, h, w)`` weights to ``(B, pattern_channels, h, w)``: the mean of the tiles that lie there."""
        height, width = weights.shape[-2:]
        side = self.tiles.shape[-1]
        canvas = self.tiles.repeat(1, 1, -(-height // side), -(-width // side))[..., :height, :width]
        return torch.einsum("bkhw,kchw->bchw", weights, canvas)


class DenseEmbeddings(nn.Module):
    """The embeddings of all dense tasks, added to those of the image-level ones.

    Args:
        tasks: All tasks of the generator.
        channels: Of an embedding.
        pattern_channels: How many leading channels are drawn as colour.
        priors: Share of each code among the labelled pixels, a dense task each; None: codes are equally frequent.
        seed: Of the initial values.
    """

    def __init__(
        self,
        tasks: TaskSet,
        channels: int,
        pattern_channels: int,
        priors: Sequence[Sequence[float]] | None,
        seed: int,
    ) -> None:
        super().__init__()
        self.count = len(tasks)
        self.tasks = tasks.dense
        codes = [MAPS[task.kind].count(task) for task in self.tasks]
        shares = [[1 / count] * count for count in codes] if priors is None else priors
        rng = torch.Generator().manual_seed(seed)
        tiles = initial_patterns(shares, pattern_channels, tile_side(sum(codes), pattern_channels), rng)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.embeddings = nn.ModuleList(
                DenseEmbedding(task, channels, own) for task, own in zip(self.tasks, tiles, strict=True)
            )

    def of_task(self, name: str) -> DenseEmbedding:
        """That of one task."""
        found = self.embeddings[self.tasks.names.index(name)]
        assert isinstance(found, DenseEmbedding)
        return found

    def forward(
        self, labels: Mapping[str, Tensor], batch: int, size: Sequence[int], image_level: Tensor | None
    ) -> Tensor:
        """Sum of the embeddings of all tasks, over the square root of their number.

        Args:
            labels: Task name to label maps; a task that is absent is not protected.
            batch: Number of images.
            size: Height and width in pixels that the embedding covers.
            image_level: That of the image-level tasks, ``(1 or batch, channels, g, g)``, divided by the square root of
                their own number already; None: there are none.

        Returns:
            ``(batch, channels, height / CELL, width / CELL)`` float.
        """
        summed = torch.stack([self.of_task(name)(labels.get(name), batch, size) for name in self.tasks.names]).sum(
            dim=0
        )
        if image_level is not None:
            scaled = nn.functional.interpolate(image_level, summed.shape[-2:], mode="bilinear", align_corners=False)
            summed = summed + math.sqrt(self.count - len(self.tasks)) * scaled
        return summed / math.sqrt(self.count)


def tile_side(codes: int, channels: int) -> int:
    """Side in cells of the smallest tiles of which so many can be orthogonal to each other, a power of two."""
    side = SMALLEST_TILE
    while channels * side * (side // 2) < codes:
        side *= 2
    return side
