"""Gaussian blur."""

import math
from dataclasses import dataclass
from typing import Annotated

from msgspec import Meta
from torch import Tensor
from torchvision.transforms.v2.functional import gaussian_blur

from mtlue_cli.verification.countermeasures.base import Preprocessing


@dataclass(frozen=True)
class Blur(Preprocessing):
    """Replaces every pixel by a Gaussian mean of its neighbourhood; borders are mirrored.

    Attributes:
        sigma: Standard deviation in pixels; the kernel reaches three of them to each side, which the image must exceed.

    Source:
        Liu et al., "Image Shortcut Squeezing", ICML 2023, among the filters that they compare. Deviation: their
        standard deviation of 0.1 pixels leaves an image as it is; one pixel halves what lies at about 0.37 of the
        Nyquist frequency.
    """

    title = "Gaussian blur, {sigma:g} px"
    source = "Liu et al., Image Shortcut Squeezing, ICML 2023"
    sigma: Annotated[float, Meta(gt=0)] = 1.0

    @property
    def reach(self) -> int:
        """Pixels that the kernel reaches to each side."""
        return math.ceil(3 * self.sigma)

    @property
    def smallest_side(self) -> int:
        """One pixel more than is mirrored."""
        return self.reach + 1

    def __call__(self, images: Tensor) -> Tensor:
        """``(B, 3, H, W)`` uint8, blurred and rounded; floating point stays so."""
        side = 2 * self.reach + 1
        blurred: Tensor = gaussian_blur(images, [side, side], [self.sigma, self.sigma])
        return blurred
