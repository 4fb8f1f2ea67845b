"""Grayscale: brightness without colour."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.transforms.v2.functional import rgb_to_grayscale

from mtlue_cli.verification.countermeasures.base import Preprocessing, rounded


@dataclass(frozen=True)
class ToGrayscale(Preprocessing):
    """Replaces all three channels by the luma (0.299 red, 0.587 green, 0.114 blue; ITU-R BT.601).

    What a perturbation says in colour alone is gone; what it says in brightness stays. Deviation from the source: luma
    is rounded, not cut, to 8 bits.
    """

    title = "Grayscale"
    source = "Liu et al., Image Shortcut Squeezing, ICML 2023"

    def __call__(self, images: Tensor) -> Tensor:
        """``(B, 3, H, W)`` uint8 with equal channels."""
        return rounded(rgb_to_grayscale(images.to(torch.float32), num_output_channels=3))
