"""What labels are painted as: patterns that are drawn as they are, and an embedding for what the network adds.

How a task set is painted is chosen once, when a generator is built for it or bound to it: a :class:`Painter`.

- :func:`paint_class_patterns`: tasks that label whole images, by learned maps or by codes.
- :func:`dense_embeddings_for`: a set with dense tasks, by embeddings of their label maps.
- :class:`UnlearnedTints`: masks under universal weights.

Source:
    Yu et al., ICML 2025, the embedding module of dense tasks; its form is ours.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from mtlue_cli.choices import TaskKind
from mtlue_cli.devices import seeded
from mtlue_cli.generator.code_patterns import STRIDE, is_tinted
from mtlue_cli.generator.network import resized
from mtlue_cli.generator.tiles import COLOURS, PRECEDENCE, carrier_tiles, tint_tiles
from mtlue_cli.tasks.kinds import labelled_rows
from mtlue_cli.tasks.label_tensors import code_weights
from mtlue_cli.tasks.spec import UNLABELLED, Task, TaskSet

ALONE_GAIN = 2.0
"""Gain of patterns where the network draws nothing: training leaves it as it is."""

WIDTH, MOMENTUM = 32, 0.02
"""Of a :class:`DenseEmbedding`: channels between its convolutions, and share of a batch in its running mean."""

QUIET = 0.3
"""Volume of the patterns of image-level tasks beside tints: a victim sums them up over the whole image, where a tint
has to show at one pixel."""

SOFT = 0.3
"""Volume of the tints of segmentation, before the bound, in images whose label is not the most frequent one."""

TaskLabels = Mapping[str, Tensor]
"""Task name to class indices, ``(B,)`` int64, or to label maps; a task that is absent is not protected."""
Size = tuple[int, ...]
"""Height and width in pixels, multiples of the encoder's stride."""
Shares = Sequence[Sequence[float]]
"""Share of each class, or of each code among the labelled pixels, a list per task."""


class Painting(NamedTuple):
    """What the labels of a batch are painted as.

    Attributes:
        embedding: ``(B, channels, g, g)``, the network's input from the labels, any grid.
        pattern: ``(B, 3, H, W)``, drawn as it is.
        alone: ``(B, 1, 1, 1)`` bool, the images on which the network draws nothing; None: it draws on all.
    """

    embedding: Tensor
    pattern: Tensor
    alone: Tensor | None = None

    @property
    def is_all(self) -> bool:
        """Whether the network draws nothing on any of the images."""
        return self.alone is not None and bool(self.alone.all())

    def unbounded(self, drawn: Tensor, gain: Tensor | float) -> Tensor:
        """The perturbation before its bound, ``(B, 3, H, W)``, from the network's output and the learned gain."""
        if self.alone is not None:
            return torch.where(self.alone, ALONE_GAIN * self.pattern, drawn + gain * self.pattern)
        if isinstance(gain, float):
            return torch.add(drawn, self.pattern, alpha=gain)
        return drawn + gain * self.pattern


Painter = Callable[[TaskLabels, Tensor | None, int, Size], Painting]
"""Paints the labels of one kind of task set. Its arguments are the labels of a batch; the embedding of those of whole
images, ``(1 or B, channels, g, g)`` with their pattern in the leading channels, or None without such tasks; the number
of images; and their size."""


def paint_class_patterns(labels: TaskLabels, classes: Tensor | None, batch: int, size: Size) -> Painting:  # noqa: ARG001 - the signature of every painter
    """Labels of whole images by their patterns over the whole image: a :class:`Painter`."""
    assert classes is not None  # such a set has tasks
    embedding = classes.expand(batch, -1, -1, -1)
    return Painting(embedding, resized(embedding[:, :COLOURS], size))


class MapEmbedding(NamedTuple):
    """The embedding of the label maps of one task.

    ``latent`` is ``(B, channels, h, w)`` at the size of an encoder's latent, ``pattern`` ``(B, 3, H, W)`` at that of
    the image, ``labelled`` ``(B,)`` bool: whether a sample has any label of the task.
    """

    latent: Tensor
    pattern: Tensor
    labelled: Tensor


class DenseEmbedding(nn.Module):
    """Label map to embedding map, and to a tile per code, painted where the map says.

    A code is a class; a depth lies between two of several, a normal between those of its components
    (:func:`~mtlue_cli.tasks.label_tensors.code_weights`). Two convolutions make the embedding map of the codes and of
    where nothing is labelled. Tiles reach the output directly: a network that predicts pixels looks at a neighbourhood,
    so what marks a class must be found within a few pixels, wherever the region lies.

    A sample without any label of the task is not protected: it gets the running mean of the embedding over batches and
    cells of training, and no tint. Unlabelled pixels of a labelled map have no tint.

    The initial values ``tiles``, ``(codes, 3, side, side)``, are refined by training if ``refined``.
    """

    mean: Tensor

    def __init__(self, task: Task, channels: int, tiles: Tensor, *, refined: bool) -> None:
        super().__init__()
        self.task = task
        # Training would make a tint of every class: easier to read, and no longer misleading.
        self.tiles = nn.Parameter(tiles.clone(), requires_grad=refined and task.kind is not TaskKind.SEGMENTATION)
        self.see = nn.Conv2d(len(tiles) + 1, WIDTH, 2 * STRIDE, stride=STRIDE, padding=STRIDE // 2)
        self.tell = nn.Conv2d(WIDTH, channels, 3, padding=1)
        self.register_buffer("mean", torch.zeros(channels))

    def forward(self, labels: Tensor | None, batch: int, size: Size) -> MapEmbedding:
        """Embedding of ``batch`` label maps, continued to ``size``; None if the task is not protected."""
        neutral = self.mean.view(1, -1, 1, 1).expand(batch, -1, size[0] // STRIDE, size[1] // STRIDE)
        if labels is None:
            nothing = torch.zeros(batch, dtype=torch.bool, device=self.tiles.device)
            return MapEmbedding(neutral, self.tiles.new_zeros(batch, self.tiles.shape[1], *size), nothing)
        weights, known = code_weights(labels, self.task)
        seen = _continued(torch.cat([weights, (~known).to(weights)], dim=1), size)
        latent: Tensor = self.tell(nn.functional.relu(self.see(seen)))
        labelled = labelled_rows(labels, self.task)
        if self.training and bool(labelled.any()):
            with torch.no_grad():
                self.mean.lerp_(latent[labelled].float().mean(dim=(0, 2, 3)), MOMENTUM)
        latent = torch.where(labelled.view(-1, 1, 1, 1), latent, neutral.to(latent.dtype))
        # A map without any label has no weights, and so no tint.
        side = self.tiles.shape[-1]
        canvas = self.tiles.repeat(1, 1, -(-size[0] // side), -(-size[1] // side))[..., : size[0], : size[1]]
        return MapEmbedding(latent, torch.einsum("bkhw,kchw->bchw", seen[:, :-1], canvas), labelled)


class DenseEmbeddings(nn.Module, ABC):
    """The embeddings of all dense tasks, and how they are painted beside those of the image-level ones."""

    refined = True
    """Whether training refines the tiles."""

    def __init__(self, tasks: TaskSet, channels: int, tiles: Sequence[Tensor], seed: int) -> None:
        super().__init__()
        self.count = len(tasks)
        self.tasks = tasks.dense
        with seeded(seed):
            self.embeddings = nn.ModuleList(
                DenseEmbedding(task, channels, own, refined=self.refined)
                for task, own in zip(self.tasks, tiles, strict=True)
            )

    def of_task(self, name: str) -> DenseEmbedding:
        """The embedding of one task."""
        found = self.embeddings[self.tasks.names.index(name)]
        assert isinstance(found, DenseEmbedding)
        return found

    @abstractmethod
    def paint(self, labels: TaskLabels, classes: Tensor | None, batch: int, size: Size) -> Painting:
        """The painting of the labels: a :class:`Painter`."""

    def _each(self, labels: TaskLabels, batch: int, size: Size) -> list[MapEmbedding]:
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

    def paint(self, labels: TaskLabels, classes: Tensor | None, batch: int, size: Size) -> Painting:
        """Both on every image."""
        each = self._each(labels, batch, size)
        pattern = self._tints(each)
        if classes is not None:
            pattern = pattern + QUIET * resized(classes[:, :COLOURS], size)
        return Painting(self._joined(each, classes), pattern)


class TintsAlone(DenseEmbeddings):
    """Where a mask is painted, its tints are alone; :class:`TintVolume` says the label of the image by them.

    Anything else on pixels without a tint, be it a quiet pattern or the network's drawing, makes them differ from clean
    ones, and a victim is no longer misled by these.
    """

    def __init__(self, tasks: TaskSet, channels: int, tiles: Sequence[Tensor], seed: int, image_level: Shares) -> None:
        super().__init__(tasks, channels, tiles, seed)
        self.volume = TintVolume(tasks.image_level, image_level)

    def paint(self, labels: TaskLabels, classes: Tensor | None, batch: int, size: Size) -> Painting:
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

    refined = False

    def paint(self, labels: TaskLabels, classes: Tensor | None, batch: int, size: Size) -> Painting:
        """The carrier; the network draws on an image without any map."""
        each = self._each(labels, batch, size)
        pattern = torch.zeros_like(each[0].pattern)
        painted = torch.zeros_like(each[0].labelled).view(-1, 1, 1, 1)
        for _, own in sorted(zip(self.tasks, each, strict=True), key=lambda pair: PRECEDENCE.index(pair[0].kind)):
            pattern = torch.where(painted, pattern, own.pattern)
            painted = painted | own.labelled.view(-1, 1, 1, 1)
        return Painting(self._joined(each, classes), pattern, painted)


def dense_embeddings_for(
    tasks: TaskSet, channels: int, shares: Mapping[str, Sequence[float]], seed: int
) -> DenseEmbeddings:
    """The embeddings of a task set that has dense tasks; ``shares`` are those of the classes or codes of each task."""
    kinds = [task.kind for task in tasks.dense]
    dense = [shares[name] for name in tasks.dense.names]
    if not len(tasks.image_level) and not is_tinted(tasks):
        return CarrierOfOneMap(tasks, channels, carrier_tiles(kinds, dense), seed)
    tiles = tint_tiles(kinds, dense, torch.Generator().manual_seed(seed))
    if is_tinted(tasks):
        return TintsAlone(tasks, channels, tiles, seed, [shares[name] for name in tasks.image_level.names])
    return TintsBesidePatterns(tasks, channels, tiles, seed)


class UnlearnedTints:
    """Masks under universal weights: the tints of :class:`TintsAlone`, with nothing learned and nothing of a key.

    Which classes are tinted depends on how frequent they are, the colour on nothing: a code of its own per class is not
    learned at a pixel (docs/dense.md). So these tints are no secret.

    Args:
        tasks: Of which :func:`~mtlue_cli.generator.code_patterns.is_tinted` holds.
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

    def __call__(self, labels: TaskLabels, classes: Tensor | None, batch: int, size: Size) -> Painting:
        """Tints on images with a mask, the code of their class on the others."""
        assert classes is not None  # zeros without such tasks
        device = classes.device  # a generator may move to another device after it was bound
        tints = torch.zeros(batch, COLOURS, *size, device=device)
        masked = torch.zeros(batch, dtype=torch.bool, device=device)
        for task, own in zip(self.tasks, self._tints, strict=True):
            if task.name in labels:
                weights = _continued(code_weights(labels[task.name], task)[0], size)
                tints = tints + torch.einsum("bkhw,kc->bchw", weights, own.to(device)) / len(self.tasks) ** 0.5
                masked = masked | labelled_rows(labels[task.name], task)
        tints = tints * self._volume.to(device)(labels, batch, device).view(-1, 1, 1, 1)
        return _tints_or_pattern(classes.expand(batch, -1, -1, -1), tints, masked, classes)


class TintVolume(nn.Module):
    """How strongly the tints of segmentation are painted in an image, by its image-level labels.

    Full for the most frequent class of a task, soft for the others; the mean over the tasks. A victim sums tints up
    over the whole image, so that it learns this first. A clean image has none and passes for one of the rarer classes.
    """

    def __init__(self, tasks: TaskSet, priors: Shares) -> None:
        super().__init__()
        self.tasks = tasks
        for index, own in enumerate(priors):
            volumes = torch.full((len(own),), SOFT)
            volumes[max(range(len(own)), key=own.__getitem__)] = 1.0
            self.register_buffer(f"task{index}", volumes)

    def forward(self, labels: TaskLabels, batch: int, device: torch.device) -> Tensor:
        """``(batch,)`` float; a task that is absent or unlabelled has the mean over its classes."""
        each: list[Tensor] = []
        for index, task in enumerate(self.tasks):
            volumes = self.get_buffer(f"task{index}")
            volume, own = volumes.mean().expand(batch), labels.get(task.name)
            each.append(volume if own is None else torch.where(own == UNLABELLED, volume, volumes[own.clamp_min(0)]))
        return torch.stack(each).mean(dim=0) if each else torch.ones(batch, device=device)


def _tints_or_pattern(embedding: Tensor, tints: Tensor, masked: Tensor, classes: Tensor | None) -> Painting:
    """Tints alone where an image has a mask; elsewhere the pattern of its class and the network's drawing."""
    alone = masked.view(-1, 1, 1, 1)
    if classes is not None:
        tints = tints + (~alone).to(tints.dtype) * resized(classes[:, :COLOURS], tints.shape[-2:])
    return Painting(embedding, tints, alone)


def _continued(maps: Tensor, size: Size) -> Tensor:
    """``(B, K, h, w)`` maps continued to ``size`` by their last row and column."""
    below, right = size[0] - maps.shape[-2], size[1] - maps.shape[-1]
    return nn.functional.pad(maps, (0, right, 0, below), mode="replicate") if below or right else maps
