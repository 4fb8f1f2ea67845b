"""MixUp and CutMix: every image blended with another, or pasted over with a window of it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
from msgspec import Meta
from torch import Tensor

from mtlue_cli.training.intervention import Mixture
from mtlue_cli.verification.countermeasures.base import Augmentation


@dataclass(frozen=True)
class Mixing(Augmentation):
    """How much of a partner is mixed in.

    Attributes:
        alpha: Of the Beta distribution that the share of the image itself is drawn from, once a batch.
    """

    blends_labels = True
    alpha: Annotated[float, Meta(gt=0)] = 1.0

    def draw_share(self, rng: torch.Generator) -> float:
        """A number in [0, 1] from the symmetric Beta distribution: towards the ends for a small alpha, uniform at 1."""
        # PyTorch draws from a Beta distribution by its global generator only.
        seed = int(torch.randint(2**62, (), generator=rng))
        return float(np.random.default_rng(seed).beta(self.alpha, self.alpha))


def draw_partners(
    images: Tensor, labels: Mapping[str, Tensor], rng: torch.Generator
) -> tuple[Tensor, dict[str, Tensor]]:
    """The batch in a random order, with its labels: each row's partner, which may be itself."""
    order = torch.randperm(len(images), generator=rng).to(images.device)
    return images[order], {name: column[order] for name, column in labels.items()}


@dataclass(frozen=True)
class MixUp(Mixing):
    """Blends every image with a partner of its batch; the losses under both sets of labels are blended alike.

    Source:
        Zhang et al., "mixup: Beyond Empirical Risk Minimization", ICLR 2018 (one share per batch, alpha 1 on CIFAR-10).
        Where one of the two is unlabelled, the loss of that set leaves it out.
    """

    title = "MixUp"
    source = "Zhang et al., mixup: Beyond Empirical Risk Minimization, ICLR 2018"

    def augment(self, images: Tensor, labels: Mapping[str, Tensor], rng: torch.Generator) -> Mixture:
        """The blended batch under its own and its partners' labels."""
        share = self.draw_share(rng)
        partners, other = draw_partners(images, labels, rng)
        return Mixture(torch.lerp(partners, images, share), labels, other, share)


@dataclass(frozen=True)
class CutMix(Mixing):
    """Pastes the same window of a partner over every image; the losses under both sets of labels count by area.

    Source:
        Yun et al., "CutMix", ICCV 2019, algorithm 1: a window with the image's proportions around a uniform centre,
        cut off at the border, and the share taken from the area that is left. Every batch is mixed, as on ImageNet.
        Where one of the two is unlabelled, the loss of that set leaves it out. Label maps are pasted like images, as
        French et al., "Semi-supervised semantic segmentation needs strong, varied perturbations", BMVC 2020.
    """

    title = "CutMix"
    source = "Yun et al., CutMix, ICCV 2019"

    def augment(self, images: Tensor, labels: Mapping[str, Tensor], rng: torch.Generator) -> Mixture:
        """The pasted batch under its own and its partners' labels."""
        height, width = images.shape[-2:]
        side = (1 - self.draw_share(rng)) ** 0.5
        rows, columns = _window(height, side, rng), _window(width, side, rng)
        partners, other = draw_partners(images, labels, rng)
        mixed = images.clone()
        mixed[..., rows, columns] = partners[..., rows, columns]
        pasted = (rows.stop - rows.start) * (columns.stop - columns.start)
        own = dict(labels)
        for name, column in labels.items():
            if column.ndim > 1:  # a label map is pasted as its image is: every pixel has one label, whatever the share
                own[name] = column.clone()
                own[name][..., rows, columns] = other[name][..., rows, columns]
                other[name] = own[name]
        return Mixture(mixed, own, other, 1 - pasted / (height * width))


def _window(size: int, share: float, rng: torch.Generator) -> slice:
    """Positions within ``share`` of a side of ``size`` pixels around a uniform centre, as far as they exist."""
    length = int(size * share)
    first = int(torch.randint(size, (), generator=rng)) - length // 2
    return slice(max(first, 0), min(first + length, size))
