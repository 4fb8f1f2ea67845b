"""Resize down and up again."""

from dataclasses import dataclass
from typing import Annotated

import torch
from msgspec import Meta
from torch import Tensor
from torchvision.transforms.v2.functional import InterpolationMode, resize

from mtlue_cli.verification.countermeasures.base import Preprocessing, rounded


@dataclass(frozen=True)
class ResizeDownUp(Preprocessing):
    """Scales each image down, with a filter against aliasing, and back up to its size; both bilinear.

    Attributes:
        scale: Side of the small image as a share of the image's, (0, 1); at least one pixel.

    Source:
        Guo et al., "Countering Adversarial Images using Input Transformations", ICLR 2018 (rescaling). Deviation: no
        random crop; that is a countermeasure of its own.
    """

    title = "Resize to {scale:g} and back"
    source = "Guo et al., Countering Adversarial Images using Input Transformations, ICLR 2018"
    scale: Annotated[float, Meta(gt=0, lt=1)] = 0.5

    def __call__(self, images: Tensor) -> Tensor:
        """``(B, 3, H, W)`` uint8, without what the small image cannot hold."""
        size = list(images.shape[-2:])
        small = [max(1, round(side * self.scale)) for side in size]
        reduced = resize(images.to(torch.float32), small, InterpolationMode.BILINEAR, antialias=True)
        return rounded(resize(reduced, size, InterpolationMode.BILINEAR, antialias=True))
