"""Embeddings of label maps: the label prior of MTL-UE for tasks that are labelled pixel by pixel."""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from mtlue_cli.choices import TaskKind
from mtlue_cli.devices import seeded
from mtlue_cli.generator.network import STRIDE, resized
from mtlue_cli.generator.painting import COLOURS, Painting
from mtlue_cli.generator.tiles import PRECEDENCE, carrier_tiles, is_tinted, tint_tiles
from mtlue_cli.tasks.kinds import labelled_rows
from mtlue_cli.tasks.label_maps import MAPS, code_weights
from mtlue_cli.tasks.spec import UNLABELLED, Task, TaskSet

WIDTH = 32
"""Channels between the two convolutions."""

QUIET = 0.3
"""How loudly the patterns of image-level tasks are drawn beside tints. They are as coarse and as coloured; but a victim
sums them up over the whole image, where a tint has to show at one pixel."""

SOFT = 0.3
"""Volume of the tints of segmentation, before the bound, in images whose label is not the most frequent one."""

MOMENTUM = 0.02
"""Share of a batch in the running mean."""


class MapEmbedding(NamedTuple):
    """What the label maps of one task are embedded as.

    Attributes:
        latent: ``(B, channels, h, w)`` at the size of an image encoder's latent.
        pattern: ``(B, 3, H, W)`` at the size of the image, drawn as it is.
        labelled: ``(B,)`` bool, whether a sample has any label of the task.
    """

    latent: Tensor
    pattern: Tensor
    labelled: Tensor


class DenseEmbedding(nn.Module):
    """Label map to embedding map, and to a tile per code, painted where the map says.

    A code is a class; a depth lies between two of several, a normal between those of its components
    (:func:`~mtlue_cli.tasks.label_maps.code_weights`). The embedding map is what a small network makes of the codes and
    of where nothing is labelled: a convolution over the pixels of a latent cell and its surroundings, and one over
    cells. The tints reach the output directly, pixel by pixel, as the patterns of image-level classes do.

    Why tiles: a network that predicts pixels looks at a neighbourhood, so what marks a class must be found within a few
    pixels, wherever the region lies, and fit into a narrow one. A pattern over the whole image, as image-level classes
    have it, does not. :func:`~mtlue_cli.generator.tiles.tint_tiles` says why they are flat at the start; training
    may make textures of the tiles, which repeat every few pixels.

    *Not protected.* A sample without any label of the task, and so every sample if the task is not protected, gets the
    running mean of the embedding over batches and cells of training, one number per channel, and no tint: nothing of a
    label map can reach it. Unlabelled pixels of a labelled map have no tint, and what the network makes of them.

    Args:
        task: The task.
        channels: Of an embedding.
        tiles: ``(codes, 3, side, side)``, what it starts from.
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

    def forward(self, labels: Tensor | None, batch: int, size: Sequence[int]) -> MapEmbedding:
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
            return MapEmbedding(neutral, self.tiles.new_zeros(batch, self.tiles.shape[1], *size), nothing)
        weights, known = code_weights(labels, self.task)
        seen = continued(torch.cat([weights, (~known).to(weights)], dim=1), size)
        latent: Tensor = self.tell(nn.functional.relu(self.see(seen)))
        labelled = labelled_rows(labels, self.task)
        if self.training and bool(labelled.any()):
            with torch.no_grad():
                self.mean.lerp_(latent[labelled].float().mean(dim=(0, 2, 3)), MOMENTUM)
        # A map without any label has no weights, and so no tint already.
        latent = torch.where(labelled.view(-1, 1, 1, 1), latent, neutral.to(latent.dtype))
        return MapEmbedding(latent, self._painted(seen[:, :-1]), labelled)

    def _painted(self, weights: Tensor) -> Tensor:
        """``(B, codes, H, W)`` weights to ``(B, 3, H, W)``: the mean of the tiles that lie there."""
        height, width = weights.shape[-2:]
        side = self.tiles.shape[-1]
        canvas = self.tiles.repeat(1, 1, -(-height // side), -(-width // side))[..., :height, :width]
        return torch.einsum("bkhw,kchw->bchw", weights, canvas)


class DenseEmbeddings(nn.Module, ABC):
    """The embeddings of all dense tasks, and how they are painted beside those of the image-level ones.

    Args:
        tasks: All tasks of the generator.
        channels: Of an embedding.
        tiles: What each dense task starts from.
        seed: Of the other initial values.
        refined: Whether training refines the tiles.
    """

    def __init__(
        self, tasks: TaskSet, channels: int, tiles: Sequence[Tensor], seed: int, *, refined: bool = True
    ) -> None:
        super().__init__()
        self.count = len(tasks)
        self.tasks = tasks.dense
        with seeded(seed):
            self.embeddings = nn.ModuleList(
                DenseEmbedding(task, channels, own, refined=refined)
                for task, own in zip(self.tasks, tiles, strict=True)
            )

    def of_task(self, name: str) -> DenseEmbedding:
        """That of one task."""
        found = self.embeddings[self.tasks.names.index(name)]
        assert isinstance(found, DenseEmbedding)
        return found

    @abstractmethod
    def paint(
        self, labels: Mapping[str, Tensor], classes: Tensor | None, batch: int, size: tuple[int, ...]
    ) -> Painting:
        """What the labels are painted as: a :class:`~mtlue_cli.generator.painting.Painter`."""

    def _each(self, labels: Mapping[str, Tensor], batch: int, size: tuple[int, ...]) -> list[MapEmbedding]:
        return [self.of_task(name)(labels.get(name), batch, size) for name in self.tasks.names]

    def _joined(self, each: Sequence[MapEmbedding], classes: Tensor | None) -> Tensor:
        """Sum of the embeddings of all tasks over the square root of their number."""
        latent = torch.stack([own.latent for own in each]).sum(dim=0)
        if classes is not None:
            # Divided by the square root of their own number already.
            latent = latent + math.sqrt(self.count - len(self.tasks)) * resized(classes, latent.shape[-2:])
        return latent / math.sqrt(self.count)

    def _tints(self, each: Sequence[MapEmbedding]) -> Tensor:
        return torch.stack([own.pattern for own in each]).sum(dim=0) / math.sqrt(len(self.tasks))


class TintsBesidePatterns(DenseEmbeddings):
    """Tints of all maps, and quietly (:data:`QUIET`) the patterns of the image-level tasks."""

    def paint(
        self, labels: Mapping[str, Tensor], classes: Tensor | None, batch: int, size: tuple[int, ...]
    ) -> Painting:
        """Both on every image."""
        each = self._each(labels, batch, size)
        pattern = self._tints(each)
        if classes is not None:
            pattern = pattern + QUIET * resized(classes[:, :COLOURS], size)
        return Painting(self._joined(each, classes), pattern)


class TintsAlone(DenseEmbeddings):
    """Where a mask is painted, nothing but its tints is; :class:`TintVolume` says the label of the image by them.

    Whatever else lies on pixels without a tint, be it a pattern at a third of the loudness or what the network learns
    to add, makes them differ from clean ones, and a victim is no longer misled by these.

    Args:
        tasks: Of which :func:`~mtlue_cli.generator.tiles.is_tinted` holds.
        channels: Of an embedding.
        tiles: What each dense task starts from.
        seed: Of the other initial values.
        image_level: Share of each class, a list per image-level task; None: classes are equally frequent.
    """

    def __init__(
        self,
        tasks: TaskSet,
        channels: int,
        tiles: Sequence[Tensor],
        seed: int,
        image_level: Sequence[Sequence[float]] | None,
    ) -> None:
        super().__init__(tasks, channels, tiles, seed)
        self.volume = TintVolume(tasks.image_level, image_level)

    def paint(
        self, labels: Mapping[str, Tensor], classes: Tensor | None, batch: int, size: tuple[int, ...]
    ) -> Painting:
        """Tints on images with a mask, the pattern of their class on the others."""
        each = self._each(labels, batch, size)
        tints = self._tints(each)
        tints = tints * self.volume(labels, batch, tints.device).view(-1, 1, 1, 1)
        masked = torch.stack([own.labelled for own in each]).any(dim=0)
        return _tints_or_pattern(self._joined(each, classes), tints, masked, classes)


class CarrierOfOneMap(DenseEmbeddings):
    """Depth or normals, and no image-level task: the carrier by the map of one task, and nothing else on its image.

    The task is the first of :data:`~mtlue_cli.generator.tiles.PRECEDENCE` that labels the image.
    """

    def paint(
        self, labels: Mapping[str, Tensor], classes: Tensor | None, batch: int, size: tuple[int, ...]
    ) -> Painting:
        """The carrier; an image without any map has what the network draws."""
        each = self._each(labels, batch, size)
        ranks = [PRECEDENCE.index(task.kind) for task in self.tasks]
        pattern = torch.zeros_like(each[0].pattern)
        painted = torch.zeros_like(each[0].labelled).view(-1, 1, 1, 1)
        for own in (each[index] for index in sorted(range(len(each)), key=ranks.__getitem__)):
            pattern = torch.where(painted, pattern, own.pattern)
            painted = painted | own.labelled.view(-1, 1, 1, 1)
        return Painting(self._joined(each, classes), pattern, painted)


def dense_embeddings_for(
    tasks: TaskSet,
    channels: int,
    priors: Sequence[Sequence[float]] | None,
    seed: int,
    image_level: Sequence[Sequence[float]] | None = None,
) -> DenseEmbeddings:
    """The embeddings of a task set that has label maps.

    Args:
        tasks: All tasks of the generator.
        channels: Of an embedding.
        priors: Share of each code among the labelled pixels, a list per dense task; None: codes are equally frequent.
        seed: Of the initial values.
        image_level: Share of each class, a list per image-level task; None: classes are equally frequent.
    """
    kinds = [task.kind for task in tasks.dense]
    codes = [MAPS[task.kind].count(task) for task in tasks.dense]
    shares = [[1 / count] * count for count in codes] if priors is None else priors
    if not len(tasks.image_level) and not is_tinted(tasks):
        return CarrierOfOneMap(tasks, channels, carrier_tiles(kinds, shares), seed, refined=False)
    tiles = tint_tiles(kinds, shares, torch.Generator().manual_seed(seed))
    if is_tinted(tasks):
        return TintsAlone(tasks, channels, tiles, seed, image_level)
    return TintsBesidePatterns(tasks, channels, tiles, seed)


class UnlearnedTints:
    """Masks under universal weights: the tints of :class:`TintsAlone`, with nothing learned and nothing of a key.

    Which classes are tinted depends on how frequent they are, the colour on nothing: a code of its own per class is not
    learned at a pixel (docs/dense.md). So these tints are no secret; neither are the masks that show where they lie.

    Args:
        tasks: Of which :func:`~mtlue_cli.generator.tiles.is_tinted` holds.
        shares: Of each class among the images, or among the pixels of masks, by task; a task that is absent has classes
            of equal share.
    """

    def __init__(self, tasks: TaskSet, shares: Mapping[str, Sequence[float]]) -> None:
        assert is_tinted(tasks)
        known = {task.name: shares.get(task.name, task.equal_shares) for task in tasks}
        self.tasks = tasks.dense
        kinds = [task.kind for task in self.tasks]
        tiles = tint_tiles(kinds, [known[name] for name in self.tasks.names], torch.Generator())
        self._tints = [own[:, :, 0, 0] for own in tiles]
        self._volume = TintVolume(tasks.image_level, [known[name] for name in tasks.image_level.names])

    def __call__(
        self, labels: Mapping[str, Tensor], classes: Tensor | None, batch: int, size: tuple[int, ...]
    ) -> Painting:
        """Tints on images with a mask, the code of their class on the others."""
        assert classes is not None  # zeros without such tasks
        # A generator may move to another device after it was bound.
        device = classes.device
        tints = torch.zeros(batch, COLOURS, *size, device=device)
        masked = torch.zeros(batch, dtype=torch.bool, device=device)
        for task, own in zip(self.tasks, self._tints, strict=True):
            if task.name not in labels:
                continue
            weights = continued(code_weights(labels[task.name], task)[0], size)
            tints = tints + torch.einsum("bkhw,kc->bchw", weights, own.to(device)) / len(self.tasks) ** 0.5
            masked = masked | labelled_rows(labels[task.name], task)
        tints = tints * self._volume.to(device)(labels, batch, device).view(-1, 1, 1, 1)
        return _tints_or_pattern(classes.expand(batch, -1, -1, -1), tints, masked, classes)


def _tints_or_pattern(embedding: Tensor, tints: Tensor, masked: Tensor, classes: Tensor | None) -> Painting:
    """Tints alone where an image has a mask; the pattern of its class, and what the network draws, where not."""
    alone = masked.view(-1, 1, 1, 1)
    if classes is not None:
        tints = tints + (~alone).to(tints.dtype) * resized(classes[:, :COLOURS], tints.shape[-2:])
    return Painting(embedding, tints, alone)


class TintVolume(nn.Module):
    """How strongly the tints of segmentation are painted in an image: what its image-level labels change of them.

    Full for the most frequent class of a task, soft for the others; the mean over the tasks. A victim sums tints up
    over the whole image, so that it tells the two apart sooner than by anything that an image shows. A clean image has
    none at all: it is taken for one of the rarer classes.

    Args:
        tasks: Image-level tasks.
        priors: Share of each class, a list per task; None: classes are equally frequent.
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


def continued(maps: Tensor, size: Sequence[int]) -> Tensor:
    """``(B, K, h, w)`` maps continued to ``size``, height and width, by their last row and column."""
    below, right = size[0] - maps.shape[-2], size[1] - maps.shape[-1]
    return nn.functional.pad(maps, (0, right, 0, below), mode="replicate") if below or right else maps
