"""The layers of a generator: image encoder and decoder, of one kind of block."""

import torch
from torch import Tensor, nn

from mtlue_cli.generator.code_patterns import STRIDE


class InvertedBlock(nn.Module):
    """Residual block: depthwise 5x5, group norm, 1x1 to twice the width, ReLU, 1x1 back.

    Group norm with one group keeps samples independent of the batch they share, so that a file's perturbation does
    not depend on its neighbours. The last layer starts small: at the start the block is close to the identity.

    Source:
        The ConvNeXt block (Liu et al., CVPR 2022) with a 5x5 kernel and ReLU, both cheaper on a CPU.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.spatial = nn.Conv2d(channels, channels, 5, padding=2, groups=channels)
        self.norm = nn.GroupNorm(1, channels)
        self.expand = nn.Conv2d(channels, 2 * channels, 1)
        self.activation = nn.ReLU(inplace=True)
        self.project = nn.Conv2d(2 * channels, channels, 1)
        nn.init.normal_(self.project.weight, std=1e-2)

    def forward(self, features: Tensor) -> Tensor:
        """``(B, C, H, W)`` to the same shape."""
        hidden = self.expand(self.norm(self.spatial(features)))
        projected: Tensor = self.project(self.activation(hidden))
        return features + projected


class ImageEncoder(nn.Module):
    """A strided 4x4 stem and inverted blocks: ``(B, 3, H, W)`` in [0, 1] to a latent, ``(B, width, H/4, W/4)``.

    Height and width must be multiples of :data:`STRIDE`.

    Source:
        ``E`` of MTL-UE (there: ResNet-18 to the end of stage 2), at a small part of its cost.
    """

    def __init__(self, width: int, depth: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, width, STRIDE, stride=STRIDE)
        self.blocks = nn.Sequential(*(InvertedBlock(width) for _ in range(depth)))

    def forward(self, images: Tensor) -> Tensor:
        """Latent of ``images``."""
        latent: Tensor = self.blocks(self.stem((images - 0.5) * 4.0))
        return latent


class PerturbationDecoder(nn.Module):
    """Latent beside the label embedding, 1x1 to ``width``, inverted blocks, 1x1 to pixels, pixel shuffle.

    Patterns of the labels reach the perturbation directly, multiplied by the learned ``gain``
    (:meth:`~mtlue_cli.generator.painting.Painting.unbounded`): they are there from the first step, and the network
    learns what to add for the image at hand.

    Source:
        ``D`` of MTL-UE (there: three transposed convolutions). Deviation: the direct path.
    """

    def __init__(self, latent_channels: int, label_channels: int, width: int, depth: int, gain: float) -> None:
        super().__init__()
        self.mix = nn.Conv2d(latent_channels + label_channels, width, 1)
        self.blocks = nn.Sequential(*(InvertedBlock(width) for _ in range(depth)))
        self.draw = nn.Conv2d(width, 3 * STRIDE * STRIDE, 1)
        self.shuffle = nn.PixelShuffle(STRIDE)
        self.gain = nn.Parameter(torch.tensor(gain))

    @property
    def draws(self) -> bool:
        """Whether the network draws anything beside the patterns."""
        return any(bool(weight.any()) for weight in self.draw.parameters())

    def forward(self, latent: Tensor, embedding: Tensor) -> Tensor:
        """The network's drawing, before the patterns and the bound, ``(B, 3, 4h, 4w)`` float.

        Args:
            latent: ``(B, latent_channels, h, w)``.
            embedding: ``(B, label_channels, g, g)`` of the labels, any grid.
        """
        features = self.blocks(self.mix(torch.cat([latent, resized(embedding, latent.shape[-2:])], dim=1)))
        drawn: Tensor = self.shuffle(self.draw(features))
        return drawn


def resized(maps: Tensor, size: tuple[int, ...]) -> Tensor:
    """``(B, K, h, w)`` maps at ``size``, height and width, bilinearly."""
    return nn.functional.interpolate(maps, size, mode="bilinear", align_corners=False)
