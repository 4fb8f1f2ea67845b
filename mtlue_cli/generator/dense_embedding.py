"""Embeddings of label maps: the label prior of MTL-UE for tasks that are labelled pixel by pixel."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from mtlue_cli.choices import TaskKind
from mtlue_cli.generator.carriers import PRECEDENCE, carrier_tiles
from mtlue_cli.generator.image_encoder import STRIDE
from mtlue_cli.generator.tints import COLOURS, initial_tiles
from mtlue_cli.tasks.kinds import labelled_rows
from mtlue_cli.tasks.label_maps import MAPS, code_weights
from mtlue_cli.tasks.spec import UNLABELLED, Task, TaskSet

WIDTH = 32
"""Channels between the two convolutions."""

QUIET = 0.3
"""How loudly the patterns of image-level tasks are drawn beside tints. They are as coarse and as coloured; but what
tells one is summed up over the whole image, where a tint has to be told at one pixel."""

SOFT = 0.3
"""Volume of the tints of segmentation, before the bound, in images whose label is not the most frequent one."""

MOMENTUM = 0.02
"""Share of a batch in the running mean."""


class Embedded(NamedTuple):
    """What is told of label maps.

    Attributes:
        latent: ``(B, channels, h, w)`` at the size of an image encoder's latent.
        pattern: ``(B, pattern_channels, H, W)`` at the size of the image, for the decoder to draw as it is.
        labelled: ``(B,)`` bool, whether a sample has any label of the task.
    """

    latent: Tensor
    pattern: Tensor
    labelled: Tensor


class Told(NamedTuple):
    """What is told of all labels: as :class:`Embedded`, and what the decoder may add.

    Attributes:
        pattern: None: that of the latent's leading channels.
        free: ``(B, 1, 1, 1)`` 1 where the decoder draws what it learned beside the pattern, 0 where not; None: 1.
    """

    latent: Tensor
    pattern: Tensor | None
    free: Tensor | None


class DenseEmbedding(nn.Module):
    """Label map to embedding map, and to a tint a code, painted where the map says.

    A code is a class; a depth lies between two of several, a normal between those of its components
    (:func:`~mtlue_cli.tasks.label_maps.code_weights`). The embedding map is what a small network makes of the codes and
    of where nothing is labelled: a convolution over the pixels of a latent cell and its surroundings, and one over
    cells. The tints reach the output directly, pixel by pixel, as the patterns of image-level classes do.

    Why tints: a network that predicts pixels looks at a neighbourhood, so what tells a class must be found within a few
    pixels, wherever the region lies, and fit into a narrow one. A pattern over the whole image, as image-level classes
    have it, does not. :func:`~mtlue_cli.generator.tints.initial_tiles` says why they are flat at the start; training
    may make textures of the tiles, which repeat every few pixels.

    *Not protected.* A sample without any label of the task, and so every sample if the task is not protected, gets the
    running mean of the embedding over batches and cells of training, one number a channel, and no tint: nothing of a
    label map can reach it. Unlabelled pixels of a labelled map have no tint, and what the network makes of them.

    Args:
        task: The task.
        channels: Of an embedding.
        tiles: ``(codes, pattern_channels, side, side)``, what it starts from.
        refined: Whether training refines them.

    Source:
        Yu et al., ICML 2025, the embedding module of dense tasks; its form is ours.
    """

    mean: Tensor

    def __init__(self, task: Task, channels: int, tiles: Tensor, *, refined: bool = True) -> None:
        super().__init__()
        self.task = task
        # Training would make a tint of every class: easier to read, and no longer misleading.
        self.tiles = nn.Parameter(tiles.clone(), requires_grad=refined and task.kind is not TaskKind.SEGMENTATION)
        self.see = nn.Conv2d(len(tiles) + 1, WIDTH, 2 * STRIDE, stride=STRIDE, padding=STRIDE // 2)
        self.tell = nn.Conv2d(WIDTH, channels, 3, padding=1)
        self.register_buffer("mean", torch.zeros(channels))

    def forward(self, labels: Tensor | None, batch: int, size: Sequence[int]) -> Embedded:
        """Embedding of a batch.

        Args:
            labels: Label maps of ``batch`` images, or None if the task is not protected.
            batch: Number of images.
            size: Height and width in pixels that the embedding covers, multiples of the encoder's stride; a label map
                may be smaller and is continued by its last row and column.
        """
        cells = (size[0] // STRIDE, size[1] // STRIDE)
        neutral = self.mean.view(1, -1, 1, 1).expand(batch, -1, *cells)
        if labels is None:
            nothing = torch.zeros(batch, dtype=torch.bool, device=self.tiles.device)
            return Embedded(neutral, self.tiles.new_zeros(batch, self.tiles.shape[1], *size), nothing)
        weights, known = code_weights(labels, self.task)
        seen = continued(torch.cat([weights, (~known).to(weights)], dim=1), size)
        latent: Tensor = self.tell(nn.functional.relu(self.see(seen)))
        labelled = labelled_rows(labels, self.task)
        if self.training and bool(labelled.any()):
            with torch.no_grad():
                self.mean.lerp_(latent[labelled].float().mean(dim=(0, 2, 3)), MOMENTUM)
        # A map without any label has no weights, and so no tint already.
        latent = torch.where(labelled.view(-1, 1, 1, 1), latent, neutral.to(latent.dtype))
        return Embedded(latent, self._painted(seen[:, :-1]), labelled)

    def _painted(self, weights: Tensor) -> Tensor:
        """``(B, codes, H, W)`` weights to ``(B, pattern_channels, H, W)``: the mean of the tiles that lie there."""
        height, width = weights.shape[-2:]
        side = self.tiles.shape[-1]
        canvas = self.tiles.repeat(1, 1, -(-height // side), -(-width // side))[..., :height, :width]
        return torch.einsum("bkhw,kchw->bchw", weights, canvas)


class DenseEmbeddings(nn.Module):
    """The embeddings of all dense tasks, added to those of the image-level ones.

    Args:
        tasks: All tasks of the generator.
        channels: Of an embedding.
        pattern_channels: How many are drawn as colour.
        priors: Share of each code among the labelled pixels, a dense task each; None: codes are equally frequent.
        seed: Of the initial values.
        image_level: Share of each class, an image-level task each; None: classes are equally frequent.
    """

    def __init__(
        self,
        tasks: TaskSet,
        channels: int,
        pattern_channels: int,
        priors: Sequence[Sequence[float]] | None,
        seed: int,
        image_level: Sequence[Sequence[float]] | None = None,
    ) -> None:
        super().__init__()
        self.count = len(tasks)
        self.tasks = tasks.dense
        self.volume = TintVolume(tasks.image_level, image_level) if tints_alone(tasks) else None
        codes = [MAPS[task.kind].count(task) for task in self.tasks]
        shares = [[1 / count] * count for count in codes] if priors is None else priors
        assert pattern_channels == COLOURS
        kinds = [task.kind for task in self.tasks]
        self.carried = not len(tasks.image_level) and not tints_alone(tasks)
        if self.carried:
            tiles = carrier_tiles(kinds, shares)
        else:
            tiles = initial_tiles(kinds, shares, torch.Generator().manual_seed(seed))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.embeddings = nn.ModuleList(
                DenseEmbedding(task, channels, own, refined=not self.carried)
                for task, own in zip(self.tasks, tiles, strict=True)
            )

    def of_task(self, name: str) -> DenseEmbedding:
        """That of one task."""
        found = self.embeddings[self.tasks.names.index(name)]
        assert isinstance(found, DenseEmbedding)
        return found

    def forward(
        self, labels: Mapping[str, Tensor], batch: int, size: Sequence[int], image_level: Tensor | None
    ) -> Told:
        """Sum of the embeddings of all tasks, over the square root of their number; image-level patterns are quiet.

        *Segmentation, with one image-level task or none.* Where a map is painted, nothing but tints is: their volume
        (:class:`TintVolume`) tells the image-level label. Whatever else lies on pixels without a tint, be it a pattern
        at a third of the loudness or what the decoder learns to add, makes them differ from clean ones, and a victim
        is no longer misled by these.

        *Depth or normals, with no image-level task.* Nothing but the carrier is painted on an image that has a map, by
        the map of one task: :data:`~mtlue_cli.generator.carriers.PRECEDENCE`.

        Args:
            labels: Task name to label maps; a task that is absent is not protected.
            batch: Number of images.
            size: Height and width in pixels that the embedding covers.
            image_level: That of the image-level tasks, ``(1 or batch, channels, g, g)``, divided by the square root of
                their own number already; its leading channels are their pattern. None: there are none.
        """
        each = [self.of_task(name)(labels.get(name), batch, size) for name in self.tasks.names]
        latent = torch.stack([own.latent for own in each]).sum(dim=0)
        pattern = torch.stack([own.pattern for own in each]).sum(dim=0) / math.sqrt(len(self.tasks))
        if self.carried:
            pattern, painted = _first_labelled(self.tasks, each)
            return Told(latent / math.sqrt(self.count), pattern, (~painted).to(pattern.dtype))
        quiet: Tensor | float = QUIET
        free: Tensor | None = None
        if self.volume is not None:
            painted = torch.stack([own.labelled for own in each]).any(dim=0).view(-1, 1, 1, 1)
            pattern = pattern * self.volume(labels, batch, pattern.device).view(-1, 1, 1, 1)
            quiet = free = (~painted).to(pattern.dtype)
        if image_level is not None:
            share = math.sqrt(self.count - len(self.tasks))
            latent = latent + share * resized(image_level, latent.shape[-2:])
            pattern = pattern + quiet * resized(image_level[:, : pattern.shape[1]], pattern.shape[-2:])
        return Told(latent / math.sqrt(self.count), pattern, free)


def continued(maps: Tensor, size: Sequence[int]) -> Tensor:
    """``(B, K, h, w)`` maps continued to ``size``, height and width, by their last row and column."""
    below, right = size[0] - maps.shape[-2], size[1] - maps.shape[-1]
    return nn.functional.pad(maps, (0, right, 0, below), mode="replicate") if below or right else maps


def tints_alone(tasks: TaskSet) -> bool:
    """Whether nothing but tints is painted on an image that has a mask: segmentation, and one other task at most."""
    return (
        len(tasks.dense) > 0
        and len(tasks.image_level) <= 1
        and all(task.kind is TaskKind.SEGMENTATION for task in tasks.dense)
    )


class TintVolume(nn.Module):
    """How strongly the tints of segmentation are painted in an image: what its image-level labels change of them.

    Full for the most frequent class of a task, soft for the others; the mean over the tasks. A victim sums tints up
    over the whole image, so that it tells the two sooner than anything that an image shows. A clean image has none at
    all: it is taken for one of the rarer classes.

    Args:
        tasks: Image-level tasks.
        priors: Share of each class, a task each; None: classes are equally frequent.
    """

    def __init__(self, tasks: TaskSet, priors: Sequence[Sequence[float]] | None) -> None:
        super().__init__()
        self.tasks = tasks
        shares = [task.equal_shares for task in tasks] if priors is None else priors
        for index, own in enumerate(shares):
            volumes = torch.full((len(own),), SOFT)
            volumes[max(range(len(own)), key=own.__getitem__)] = 1.0
            self.register_buffer(f"task{index}", volumes)

    def forward(self, labels: Mapping[str, Tensor], batch: int, device: torch.device) -> Tensor:
        """``(batch,)`` float; a task that is absent or unlabelled has the mean over its classes."""
        known = [self._of(index, labels.get(task.name), batch) for index, task in enumerate(self.tasks)]
        return torch.stack(known).mean(dim=0) if known else torch.ones(batch, device=device)

    def _of(self, index: int, labels: Tensor | None, batch: int) -> Tensor:
        volumes: Tensor = self.get_buffer(f"task{index}")
        neutral = volumes.mean().expand(batch)
        if labels is None:
            return neutral
        return torch.where(labels == UNLABELLED, neutral, volumes[labels.clamp_min(0)])


def _first_labelled(tasks: TaskSet, each: Sequence[Embedded]) -> tuple[Tensor, Tensor]:
    """Pattern of the task that comes first among those that label an image, and ``(B, 1, 1, 1)`` whether any does."""
    places = [PRECEDENCE.index(task.kind) for task in tasks]
    order = sorted(range(len(each)), key=places.__getitem__)
    pattern = torch.zeros_like(each[0].pattern)
    painted = torch.zeros_like(each[0].labelled).view(-1, 1, 1, 1)
    for own in (each[index] for index in order):
        pattern = torch.where(painted, pattern, own.pattern)
        painted = painted | own.labelled.view(-1, 1, 1, 1)
    return pattern, painted


def resized(maps: Tensor, size: Sequence[int]) -> Tensor:
    """``(B, K, h, w)`` maps at ``size``, height and width, bilinearly."""
    return nn.functional.interpolate(maps, tuple(size), mode="bilinear", align_corners=False)
