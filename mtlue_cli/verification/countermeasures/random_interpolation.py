"""Random interpolation (COIN): every pixel is read a little way off, each in its own direction."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

import torch
from msgspec import Meta
from torch import Tensor, nn

from mtlue_cli.training.intervention import Mixture
from mtlue_cli.verification.countermeasures.base import Augmentation


@dataclass(frozen=True)
class RandomInterpolation(Augmentation):
    """Reads every pixel at a random distance from where it is, between its neighbours; fresh in every batch.

    Breaks patterns that a network reads from the differences of neighbouring pixels, such as those of a convolution.
    All channels of a pixel move together.

    Attributes:
        reach: Largest distance in pixels along each axis; uniform from ``-reach`` to ``reach``.

    Source:
        Li et al., "Detecting and Corrupting Convolution-based Unlearnable Examples", AAAI 2025 (COIN, arXiv
        2311.18403): 2 pixels, bilinear. Deviation: what lies beyond the border is mirrored, not taken from the
        opposite side.
    """

    title = "Random interpolation (COIN), {reach:g} px"
    source = "Li et al., Detecting and Corrupting Convolution-based Unlearnable Examples, AAAI 2025"
    reach: Annotated[float, Meta(gt=0)] = 2.0

    def augment(self, images: Tensor, labels: Mapping[str, Tensor], rng: torch.Generator) -> Mixture:
        """The interpolated batch under its own labels; label maps stay."""
        count, _, height, width = images.shape
        local = torch.Generator(images.device).manual_seed(int(torch.randint(2**62, (), generator=rng)))
        offsets = 2 * torch.rand((count, height, width, 2), generator=local, device=images.device) - 1
        # grid_sample counts from -1 to 1 across the image: a pixel is 2 / side wide.
        across, down = ((2 * torch.arange(side, device=images.device) + 1) / side - 1 for side in (width, height))
        grid = torch.stack(torch.meshgrid(across, down, indexing="xy"), dim=-1)
        grid = grid + offsets * (2 * self.reach / torch.tensor([width, height], device=images.device))
        read = nn.functional.grid_sample(images, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
        return Mixture(read.clamp_(0, 1), labels)
