"""Chroma low pass: sharp brightness, blurred colour."""

from dataclasses import dataclass
from typing import Annotated

import torch
from msgspec import Meta
from torch import Tensor
from torchvision.transforms.v2.functional import rgb_to_grayscale

from mtlue_cli.verification.countermeasures.base import rounded
from mtlue_cli.verification.countermeasures.gaussian_blur import Blur


@dataclass(frozen=True)
class ChromaBlur(Blur):
    """Replaces the colour of every pixel by a Gaussian mean of its neighbourhood and keeps its luma (ITU-R BT.601).

    What a perturbation says in fine colour is gone; what it says in brightness or in coarse colour stays. Images lose
    little that a network learns from: JPEG and video store colour at half the resolution.

    Source:
        Between grayscale and the halved chroma of JPEG, both in Liu et al., "Image Shortcut Squeezing", ICML 2023. Four
        pixels halve what lies at about 0.09 of the Nyquist frequency. Cb and Cr are linear in the difference of a
        colour to its luma, so this is blurred in their place. Borders are mirrored.
    """

    title = "Chroma low pass, {sigma:g} px"
    source = "Milder than grayscale in Liu et al., Image Shortcut Squeezing, ICML 2023"
    sigma: Annotated[float, Meta(gt=0)] = 4.0

    def __call__(self, images: Tensor) -> Tensor:
        """``(B, 3, H, W)`` uint8, rounded."""
        pixels = images.to(torch.float32)
        luma: Tensor = rgb_to_grayscale(pixels, num_output_channels=3)
        return rounded(luma + super().__call__(pixels - luma))
