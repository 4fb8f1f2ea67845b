"""Perturbations that must not protect: they show that the measurement can fail."""

import torch
from torch import Tensor


def uniform_noise(images: Tensor, epsilon: int, seed: int) -> Tensor:
    """Add independent uniform integers from ``{-epsilon, ..., epsilon}`` to every value, clipped to 8 bits.

    Args:
        images: ``(N, 3, H, W)`` uint8.
        epsilon: Bound in 255ths.
        seed: Seed of the noise; the same seed gives the same noise.

    Returns:
        A new tensor of the same shape and type.
    """
    rng = torch.Generator().manual_seed(seed)
    noisy = torch.empty_like(images)
    for row, image in enumerate(images):
        steps = torch.randint(-epsilon, epsilon + 1, image.shape, generator=rng, dtype=torch.int16)
        noisy[row] = (image.to(torch.int16) + steps).clamp(0, 255).to(torch.uint8)
    return noisy
