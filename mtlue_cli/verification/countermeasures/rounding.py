"""Back to 8 bits: to the nearest value, or by chance without a common error."""

import torch
from torch import Tensor


def rounded(values: Tensor) -> Tensor:
    """Pixel values in 255ths, float, as uint8: rounded to the nearest and clipped to [0, 255]."""
    return values.round().clamp(0, 255).to(torch.uint8)


def rounded_by_chance(values: Tensor, rng: torch.Generator) -> Tensor:
    """Round up with the chance of the fraction, else down, and clip to 8 bits: the expected value is ``values``.

    Where all images of the same labels have the same value subtracted, rounding to the nearest would leave them all
    the same error: a faint new pattern a class.

    Args:
        values: Float in 255ths, any shape, on the CPU.
        rng: On the CPU.

    Returns:
        uint8 of the same shape; whole numbers stay as they are.
    """
    below = values.floor()
    above = torch.rand(values.shape, generator=rng) < values - below
    return (below + above).clamp_(0, 255).to(torch.uint8)
