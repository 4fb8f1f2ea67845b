"""Image encoder: photo to latent at a fraction of the resolution."""

from torch import Tensor, nn

from mtlue_cli.generator.blocks import InvertedBlock


class ImageEncoder(nn.Module):
    """A strided stem and inverted blocks: ``(B, 3, H, W)`` in [0, 1] to ``(B, width, H/stride, W/stride)``.

    Height and width must be multiples of ``stride``.

    Source:
        Plays the part of ``E`` in MTL-UE (there: ResNet-18 to the end of stage 2), at a small part of its cost.
    """

    def __init__(self, width: int, depth: int, stride: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, width, stride, stride=stride)
        self.blocks = nn.Sequential(*(InvertedBlock(width) for _ in range(depth)))

    def forward(self, images: Tensor) -> Tensor:
        """Latent of ``images``."""
        latent: Tensor = self.blocks(self.stem((images - 0.5) * 4.0))
        return latent
