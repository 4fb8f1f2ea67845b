"""Bit-depth reduction: few levels a channel."""

from dataclasses import dataclass
from typing import Annotated

import torch
from msgspec import Meta
from torch import Tensor

from mtlue_cli.verification.countermeasures.base import Preprocessing, rounded


@dataclass(frozen=True)
class FewerBits(Preprocessing):
    """Rounds every value to one of ``2 ** bits`` evenly spaced levels from 0 to 255.

    With two bits the levels lie 85 apart: a perturbation of a few 255ths shows only where the image is close to the
    middle between two of them.

    Attributes:
        bits: Bits a channel, 1 to 7.

    Source:
        Xu et al., "Feature Squeezing", NDSS 2018; against unlearnable examples Liu et al., ICML 2023, who cut the low
        bits off. Deviation from the latter: levels are rounded to, which keeps the image's brightness.
    """

    title = "Bit depth, {bits} bits"
    source = "Xu et al., Feature Squeezing, NDSS 2018; Liu et al., ICML 2023"
    bits: Annotated[int, Meta(ge=1, le=7)] = 2

    def __call__(self, images: Tensor) -> Tensor:
        """``(B, 3, H, W)`` uint8 on the levels."""
        steps = 2**self.bits - 1
        return rounded((images.to(torch.float32) * (steps / 255)).round() * (255 / steps))
