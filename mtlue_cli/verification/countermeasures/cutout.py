"""Cutout: a hole in every image."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

import torch
from msgspec import Meta
from torch import Tensor

from mtlue_cli.training.intervention import Mixture
from mtlue_cli.verification.countermeasures.base import Augmentation


@dataclass(frozen=True)
class Cutout(Augmentation):
    """Paints a square of every image in one grey; its centre is uniform over the image, so it may hang over the border.

    Attributes:
        side: Of the square, as a share of the image's side, (0, 1].
        grey: Its value in [0, 1].

    Source:
        DeVries and Taylor, arXiv 1708.04552: half of the side on CIFAR-10. They fill with zero after the mean was
        subtracted; mid-grey is what our networks map to zero.
    """

    title = "Cutout"
    source = "DeVries and Taylor, Improved Regularization with Cutout, 2017"
    side: Annotated[float, Meta(gt=0, le=1)] = 0.5
    grey: Annotated[float, Meta(ge=0, le=1)] = 0.5

    def augment(self, images: Tensor, labels: Mapping[str, Tensor], rng: torch.Generator) -> Mixture:
        """The batch with its holes under its own labels."""
        middles = [torch.randint(size, (len(images),), generator=rng) for size in images.shape[-2:]]
        return Mixture(self.cut(images, *middles), labels)

    def cut(self, images: Tensor, middle_row: Tensor, middle_column: Tensor) -> Tensor:
        """The images ``(B, 3, H, W)`` with holes around the given pixels, ``(B,)`` int64 each."""
        rows, columns = (
            _span(middle, size, round(size * self.side))
            for middle, size in zip((middle_row, middle_column), images.shape[-2:], strict=True)
        )
        hole = (rows.unsqueeze(2) & columns.unsqueeze(1)).unsqueeze(1)
        return images.masked_fill(hole.to(images.device), self.grey)


def _span(middle: Tensor, size: int, length: int) -> Tensor:
    """``(B, size)`` bool: the ``length`` positions around each middle, as far as they exist."""
    first = (middle - length // 2).unsqueeze(1)
    position = torch.arange(size)
    return (position >= first) & (position < first + length)
