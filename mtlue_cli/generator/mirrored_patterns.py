"""Directions to coarse patterns that a horizontal flip leaves as they are."""

import math
from itertools import count

import torch
from torch import Tensor


def pattern_dimension(channels: int, grid: int) -> int:
    """Dimension of the space of mirror-symmetric patterns of ``channels`` x ``grid`` x ``grid`` cells."""
    return channels * grid * ((grid + 1) // 2)


def cells_of(dimension: int) -> int:
    """Side in cells of the patterns of one channel that have so many dimensions.

    Raises:
        ValueError: None have.
    """
    cells = next(cells for cells in count(1) if pattern_dimension(1, cells) >= dimension)
    if pattern_dimension(1, cells) != dimension:
        raise ValueError(f"no patterns have {dimension} dimensions")
    return cells


def mirrored_patterns(directions: Tensor, channels: int, grid: int) -> Tensor:
    """Patterns whose lengths and angles are those of the directions.

    Args:
        directions: ``(C, D)`` float, where ``D`` is :func:`pattern_dimension`.
        channels: Channels of a pattern.
        grid: Side of a pattern in cells.

    Returns:
        ``(C, channels, grid, grid)`` float, each row equal to itself read backwards.
    """
    half = (grid + 1) // 2
    # Off-centre columns stand twice in the mirrored grid: weigh them so that angles are kept.
    weight = directions.new_full((half,), math.sqrt(0.5))
    if grid % 2:
        weight[-1] = 1.0
    left = directions.reshape(len(directions), channels, grid, half) * weight
    return torch.cat([left, left[..., : grid - half].flip(-1)], dim=-1)
