"""Changes to each training batch, such as MixUp, noise or adversarial examples."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from mtlue_cli.tasks.losses import task_losses
from mtlue_cli.tasks.spec import TaskSet


@dataclass(frozen=True)
class Mixture:
    """A batch as it is learned: images, and one or two sets of labels with their shares.

    Images are ``(B, 3, H, W)`` float in [0, 1], labels by task ``(B,)`` int64, negative where unlabelled, or maps of
    the images' size. ``share`` is that of ``labels`` in the loss; the rest is that of ``other``, the labels of what is
    mixed in.
    """

    images: Tensor
    labels: Mapping[str, Tensor]
    other: Mapping[str, Tensor] | None = None
    share: float = 1.0

    def losses(self, outputs: Mapping[str, Tensor], tasks: TaskSet) -> dict[str, Tensor]:
        """Mean loss of each task under the labels, or under both sets by their shares."""
        first = task_losses(outputs, self.labels, tasks)
        if self.other is None:
            return first
        second = task_losses(outputs, self.other, tasks)
        return {name: self.share * loss + (1 - self.share) * second[name] for name, loss in first.items()}


class Intervention(Protocol):
    """Called with every batch, before the network learns from it."""

    def __call__(
        self, network: nn.Module, images: Tensor, labels: Mapping[str, Tensor], rng: torch.Generator
    ) -> Mixture:
        """The batch as it is to be learned.

        The network is in training mode and must be left so, with its parameters and their ``grad`` untouched. Images
        and labels are as in :class:`Mixture`, cropped and flipped already. All chance comes from ``rng``, on the CPU.
        """
