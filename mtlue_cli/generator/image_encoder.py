"""Image encoder: photo to latent at a quarter of the resolution."""

from torch import Tensor, nn

from mtlue_cli.generator.blocks import InvertedBlock

STRIDE = 4
"""Pixels a latent cell, each way."""


class ImageEncoder(nn.Module):
    """A strided 4x4 stem and inverted blocks: ``(B, 3, H, W)`` in [0, 1] to ``(B, width, H/4, W/4)``.

    Height and width must be multiples of :data:`STRIDE`.

    Source:
        Plays the part of ``E`` in MTL-UE (there: ResNet-18 to the end of stage 2), at a small part of its cost.
    """

    def __init__(self, width: int, depth: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, width, STRIDE, stride=STRIDE)
        self.blocks = nn.Sequential(*(InvertedBlock(width) for _ in range(depth)))

    def forward(self, images: Tensor) -> Tensor:
        """Latent of ``images``."""
        latent: Tensor = self.blocks(self.stem((images - 0.5) * 4.0))
        return latent
