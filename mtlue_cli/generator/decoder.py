"""Decoder: latent and label embedding to an unbounded perturbation."""

import torch
from torch import Tensor, nn

from mtlue_cli.generator.blocks import InvertedBlock
from mtlue_cli.generator.image_encoder import STRIDE

TINT_GAIN = 2.0
"""Gain of tints that nothing is drawn beside: training leaves it as it is."""


class PerturbationDecoder(nn.Module):
    """Latent beside the label embedding, 1x1 to ``width``, inverted blocks, 1x1 to pixels, pixel shuffle.

    The leading ``pattern_channels`` (three: red, green, blue) channels of the label embedding also reach the output
    directly, scaled up bilinearly and multiplied by a learned gain: the class patterns are drawn from the first step,
    and the network learns what to add for the image at hand.

    Source:
        Plays the part of ``D`` in MTL-UE (there: three transposed convolutions). Deviation: the direct path.
    """

    def __init__(
        self, latent_channels: int, label_channels: int, width: int, depth: int, pattern_channels: int, gain: float
    ) -> None:
        super().__init__()
        self.pattern_channels = pattern_channels
        self.mix = nn.Conv2d(latent_channels + label_channels, width, 1)
        self.blocks = nn.Sequential(*(InvertedBlock(width) for _ in range(depth)))
        self.draw = nn.Conv2d(width, 3 * STRIDE * STRIDE, 1)
        self.shuffle = nn.PixelShuffle(STRIDE)
        self.gain = nn.Parameter(torch.tensor(gain))

    def draw_nothing(self) -> None:
        """Begin with the patterns alone: the network draws nothing until it is trained."""
        nn.init.zeros_(self.draw.weight)
        assert self.draw.bias is not None
        nn.init.zeros_(self.draw.bias)

    @property
    def draws(self) -> bool:
        """Whether the network draws anything beside the patterns."""
        return any(bool(weight.any()) for weight in self.draw.parameters())

    def forward(
        self, latent: Tensor, label: Tensor, pattern: Tensor | None = None, free: Tensor | None = None
    ) -> Tensor:
        """Unbounded perturbation.

        Args:
            latent: ``(B, latent_channels, h, w)``.
            label: ``(B, label_channels, g, g)``, any grid.
            pattern: ``(B, pattern_channels, 4h, 4w)`` that is drawn directly; None: the label's leading channels.
            free: ``(B, 1, 1, 1)`` 1 or 0, see :func:`beside_tints`; None: 1.

        Returns:
            ``(B, 3, 4h, 4w)`` float.
        """
        height, width = latent.shape[-2:]
        at_latent = nn.functional.interpolate(label, size=(height, width), mode="bilinear", align_corners=False)
        features = self.blocks(self.mix(torch.cat([latent, at_latent], dim=1)))
        drawn: Tensor = self.shuffle(self.draw(features))
        if pattern is None:
            pattern = nn.functional.interpolate(
                label[:, : self.pattern_channels],
                size=(height * STRIDE, width * STRIDE),
                mode="bilinear",
                align_corners=False,
            )
        if free is not None:
            return beside_tints(drawn, self.gain, pattern, free)
        return drawn + self.gain * pattern


def beside_tints(drawn: Tensor, gain: Tensor | float, pattern: Tensor, free: Tensor) -> Tensor:
    """Unbounded perturbation, learned or, where ``free`` is 0, the pattern alone at :data:`TINT_GAIN`.

    Args:
        drawn: ``(B, 3, H, W)``, what a decoder has drawn.
        gain: Learned, of the pattern.
        pattern: As ``drawn``.
        free: ``(B, 1, 1, 1)`` 1 or 0.
    """
    return free * (drawn + gain * pattern) + (1 - free) * TINT_GAIN * pattern
