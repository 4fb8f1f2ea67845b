"""Class patterns in closed form: coarse, mirror-symmetric, a simplex per task, orthogonal between tasks."""

import math
from collections.abc import Sequence
from itertools import count

import torch
from torch import Tensor


def pattern_dimension(channels: int, grid: int) -> int:
    """Dimension of the space of mirror-symmetric patterns of ``channels`` x ``grid`` x ``grid`` cells."""
    return channels * grid * ((grid + 1) // 2)


def cells_of(dimension: int) -> int:
    """Side in cells of the patterns of one channel that have so many dimensions; ValueError if none have."""
    cells = next(cells for cells in count(1) if pattern_dimension(1, cells) >= dimension)
    if pattern_dimension(1, cells) != dimension:
        raise ValueError(f"no patterns have {dimension} dimensions")
    return cells


def mirrored_patterns(directions: Tensor, channels: int, grid: int) -> Tensor:
    """Patterns that a horizontal flip leaves as they are, with the lengths and angles of the directions.

    Directions are ``(C, D)``, where ``D`` is :func:`pattern_dimension`; patterns ``(C, channels, grid, grid)``.
    """
    half = (grid + 1) // 2
    # Off-centre columns stand twice in the mirrored grid: weigh them so that angles are kept.
    weight = directions.new_full((half,), math.sqrt(0.5))
    if grid % 2:
        weight[-1] = 1.0
    left = directions.reshape(len(directions), channels, grid, half) * weight
    return torch.cat([left, left[..., : grid - half].flip(-1)], dim=-1)


def initial_patterns(priors: Sequence[Sequence[float]], channels: int, grid: int, rng: torch.Generator) -> list[Tensor]:
    """Mirror-symmetric patterns, far apart within a task, orthogonal between tasks, centred on the images.

    Random directions are orthonormalised together over all tasks as far as the space reaches, then centred within each
    task: a simplex, in which every two classes have the cosine ``-1 / (C - 1)``. Then the patterns of each task are
    shifted so that their mean over the *data* is zero: the pattern of a class that nearly all images have says nothing
    and would take up the bound. With forty attributes, most of them rare, this more than doubles the amplitude of the
    rest.

    Args:
        priors: Share of each class, a list per task; they sum to one.
        channels: Of a pattern.
        grid: Its side in cells.
        rng: Source of the random directions.

    Returns:
        A tensor per task, ``(C, channels, grid, grid)``. A sample's sum over the tasks, divided by the square root of
        their number, has unit variance over images and cells.
    """
    dimension = pattern_dimension(channels, grid)
    total = sum(len(shares) for shares in priors)
    directions = torch.randn(dimension, total, generator=rng)
    for start in range(0, total, dimension):
        block = directions[:, start : start + dimension]
        directions[:, start : start + dimension] = torch.linalg.qr(block).Q
    found: list[Tensor] = []
    power, start = 0.0, 0
    for shares in priors:
        chosen = directions[:, start : start + len(shares)].T
        start += len(shares)
        if len(shares) > 1:
            chosen = chosen - chosen.mean(dim=0, keepdim=True)
        full = mirrored_patterns(chosen, channels, grid)
        full = full / full.square().mean().sqrt().clamp_min(1e-8)
        share = torch.tensor(list(shares)).view(-1, 1, 1, 1)
        full = full - (share * full).sum(dim=0, keepdim=True)
        power += float((share * full.square()).sum()) / full[0].numel()
        found.append(full)
    scale = math.sqrt(len(found) / max(power, 1e-8))
    return [scale * full for full in found]
