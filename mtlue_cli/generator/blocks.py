"""The building block that image encoder and decoder share."""

from torch import Tensor, nn


class InvertedBlock(nn.Module):
    """Residual block: depthwise 5x5, group norm, 1x1 to ``expansion`` times the width, ReLU, 1x1 back.

    Group norm with one group keeps samples independent of the batch they share, so that a file's perturbation does
    not depend on its neighbours. The last layer starts small: at the start the block is close to the identity.

    Source:
        The ConvNeXt block (Liu et al., CVPR 2022) with a 5x5 kernel and ReLU, both cheaper on a CPU.
    """

    def __init__(self, channels: int, expansion: int = 2) -> None:
        super().__init__()
        self.spatial = nn.Conv2d(channels, channels, 5, padding=2, groups=channels)
        self.norm = nn.GroupNorm(1, channels)
        self.expand = nn.Conv2d(channels, channels * expansion, 1)
        self.activation = nn.ReLU(inplace=True)
        self.project = nn.Conv2d(channels * expansion, channels, 1)
        nn.init.normal_(self.project.weight, std=1e-2)

    def forward(self, features: Tensor) -> Tensor:
        """``(B, C, H, W)`` to the same shape."""
        hidden = self.expand(self.norm(self.spatial(features)))
        projected: Tensor = self.project(self.activation(hidden))
        return features + projected
