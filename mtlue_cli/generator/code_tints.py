"""Tints of universal weights: masks painted in closed form, with nothing learned and nothing of a key."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from mtlue_cli.choices import TaskKind
from mtlue_cli.generator.dense_embedding import TintVolume, continued, tints_alone
from mtlue_cli.generator.tints import initial_tiles
from mtlue_cli.tasks.kinds import labelled_rows
from mtlue_cli.tasks.label_maps import code_weights
from mtlue_cli.tasks.spec import TaskSet


class CodeTints:
    """What :class:`~.dense_embedding.DenseEmbeddings` paints of masks, alone or beside one label of whole images.

    Which classes are tinted depends on how frequent they are, the colour on nothing: a code of its own a class is not
    learned at a pixel (docs/dense.md). So these tints are no secret; neither are the masks that tell where they lie.

    Args:
        tasks: Of which :func:`~.dense_embedding.tints_alone` holds.
        shares: Of each class among the images, or among the pixels of masks, by task; a task that is absent has classes
            of equal share.
    """

    def __init__(self, tasks: TaskSet, shares: Mapping[str, Sequence[float]]) -> None:
        assert tints_alone(tasks)
        known = {task.name: shares.get(task.name, task.equal_shares) for task in tasks}
        self.tasks = tasks.dense
        kinds = [TaskKind.SEGMENTATION] * len(self.tasks)
        tiles = initial_tiles(kinds, [known[name] for name in self.tasks.names], torch.Generator())
        self._tints = [own[:, :, 0, 0] for own in tiles]
        self._volume = TintVolume(tasks.image_level, [known[name] for name in tasks.image_level.names])

    def __call__(
        self, labels: Mapping[str, Tensor], batch: int, size: Sequence[int], device: torch.device
    ) -> tuple[Tensor, Tensor]:
        """What is painted, and in which images.

        Args:
            labels: Task name to label maps, or to class indices of whole images; an absent task is not protected.
            batch: Number of images.
            size: Height and width in pixels; a label map may be smaller and is continued by its last row and column.
            device: Where the labels are; a generator may move after it was bound.

        Returns:
            ``(B, 3, H, W)`` float, and ``(B,)`` bool.
        """
        pattern = torch.zeros(batch, 3, *size, device=device)
        painted = torch.zeros(batch, dtype=torch.bool, device=device)
        for task, tints in zip(self.tasks, self._tints, strict=True):
            if task.name not in labels:
                continue
            weights = continued(code_weights(labels[task.name], task)[0], size)
            pattern = pattern + torch.einsum("bkhw,kc->bchw", weights, tints.to(device)) / len(self.tasks) ** 0.5
            painted = painted | labelled_rows(labels[task.name], task)
        return pattern * self._volume.to(device)(labels, batch, device).view(-1, 1, 1, 1), painted
