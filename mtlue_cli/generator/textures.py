"""Textures that a network tells apart within a few pixels: what dense embeddings paint from the first step."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from mtlue_cli.generator.simplices import drawn_simplices

SMALLEST_SIDE = 8
"""Least side of a tile in pixels."""

BAND = (0.2, 0.4)
"""Least and greatest frequency in cycles a pixel. Below, natural images are strong and hide a texture of a few levels;
above, nothing outlives the least resizing."""


def initial_textures(priors: Sequence[Sequence[float]], channels: int, rng: torch.Generator) -> list[Tensor]:
    """Tiles whose repetitions are textures, far apart within a task and orthogonal between tasks.

    :func:`~mtlue_cli.generator.simplices.drawn_simplices` over the waves of :func:`waves` in every colour.

    Args:
        priors: Share of each code among the pixels, a task each; they sum to one.
        channels: Colours.
        rng: Source of the random directions.

    Returns:
        A tensor a task, ``(codes, channels, side, side)``. The sum over the tasks at a pixel, divided by the square
        root of their number, has unit variance.
    """
    basis = waves(tile_side(sum(len(shares) for shares in priors), channels))

    def draw(chosen: Tensor) -> Tensor:
        return torch.einsum("kcm,mij->kcij", chosen.reshape(len(chosen), channels, len(basis)), basis)

    return drawn_simplices(priors, channels * len(basis), draw, rng)


def waves(side: int) -> Tensor:
    """Orthogonal waves within :data:`BAND`, each its own mirror image, ``(M, side, side)`` of unit variance."""
    place = 2 * math.pi * (torch.arange(side) + 0.5) / side
    found: list[Tensor] = []
    for across in range(side // 2):
        for down in range(side // 2):
            if not BAND[0] <= math.hypot(across, down) / side <= BAND[1]:
                continue
            # The sine of a wave across would be turned by a mirror; those of a wave down are not.
            for kind in (torch.cos, torch.sin) if down else (torch.cos,):
                wave = kind(down * place)[:, None] * torch.cos(across * place)[None]
                found.append(wave / wave.square().mean().sqrt())
    return torch.stack(found)


def tile_side(codes: int, channels: int) -> int:
    """Side in pixels of the smallest tiles of which so many can be orthogonal to each other, a power of two."""
    side = SMALLEST_SIDE
    while channels * len(waves(side)) < codes:
        side *= 2
    return side
