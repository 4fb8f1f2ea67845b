"""What class patterns begin as: random simplices, orthogonal between tasks, centred on the data."""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor


def drawn_simplices(
    priors: Sequence[Sequence[float]], dimension: int, draw: Callable[[Tensor], Tensor], rng: torch.Generator
) -> list[Tensor]:
    """Random directions, far apart within a task and orthogonal between tasks, drawn and centred.

    Random directions are orthonormalised together over all tasks as far as the space reaches, then centred within each
    task. Centred orthonormal directions form a simplex: every two classes of a task have the cosine ``-1 / (C - 1)``,
    the lowest that ``C`` directions can share, and the tasks stay orthogonal. When there are more classes than
    dimensions, the surplus directions are random, hence nearly orthogonal.

    At last what is drawn of each task is shifted so that its mean over the *data* is zero. What nearly all of it would
    carry, the drawing of a frequent class, tells nothing and would take up the bound: with forty attributes, most of
    them rare, this leaves more than twice the amplitude to what does tell classes apart.

    Args:
        priors: Share of each class, a task each; they sum to one.
        dimension: Of the space.
        draw: ``(C, dimension)`` directions to ``(C, channels, rows, columns)``; keeps angles.
        rng: Source of the random directions.

    Returns:
        A tensor a task, as ``draw`` gives it. The sum over the tasks, divided by the square root of their number, has
        unit variance over data and cells.
    """
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
        full = draw(chosen)
        full = full / full.square().mean().sqrt().clamp_min(1e-8)
        share = torch.tensor(list(shares)).view(-1, 1, 1, 1)
        full = full - (share * full).sum(dim=0, keepdim=True)
        power += float((share * full.square()).sum()) / full[0].numel()
        found.append(full)
    scale = math.sqrt(len(found) / max(power, 1e-8))
    return [scale * full for full in found]
