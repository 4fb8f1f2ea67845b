"""Tints that a network tells apart at a single pixel: what dense embeddings paint from the first step."""

from collections.abc import Callable, Mapping, Sequence
from itertools import product

import torch
from torch import Tensor

from mtlue_cli.choices import TaskKind

COLOURS = 3
"""Channels of a tint: red, green, blue."""

SIDE = 8
"""Side in pixels of the tile that a tint fills; training may make a texture of it."""

LOUDNESS = 1.5
"""Of a tint, before the gain of patterns: it fills the bound."""

Tints = Callable[[Sequence[float], torch.Generator], Tensor]
"""Shares of the codes of a task, and a source of what is random, to ``(codes, 3)`` within ``[-1, 1]``."""


def initial_tiles(kinds: Sequence[TaskKind], priors: Sequence[Sequence[float]], rng: torch.Generator) -> list[Tensor]:
    """One flat tile a code, in the colour that stands for it.

    *Why colour.* A victim of pixels learns first what differs linearly and in the mean, whatever the phase: brightness
    and place, then colour. Within a class, an image's colour differences vary by few levels (in CamVid by 4 to 20 of
    255, brightness by 25 to 65), so that a tint of 8 either way is told at every pixel, after crops, flips and
    resizing. Waves of zero mean (2.5 to 12 pixels, measured) are told by their energy alone, which is of second order
    beside the image; victims did not learn them.

    Args:
        kinds: Of the tasks.
        priors: Share of each code among the pixels, a task each.
        rng: Source of what is random: which colour stands for which code.

    Returns:
        A tensor a task, ``(codes, 3, SIDE, SIDE)``.
    """
    tiles: list[Tensor] = []
    for kind, shares in zip(kinds, priors, strict=True):
        tints = LOUDNESS * _turned(TINTS[kind](shares, rng), rng)
        tiles.append(tints[:, :, None, None].expand(-1, -1, SIDE, SIDE).clone())
    return tiles


def class_tints(shares: Sequence[float], rng: torch.Generator) -> Tensor:
    """Colours far apart: the more frequent a class, the farther.

    The coloured corners of the colour cube, white and black, then the middles of its faces and edges; from the 27th
    class on random colours. Up to four classes have a tetrahedron: red, green, blue and white. White and black, which
    leave an image as coloured as it was, stand for rare classes: these may be what a victim that has learned tints sees
    where there are none. (With black for the most frequent class, one victim that read 85 % of the training pixels was
    as good as ever on clean images; that run was stopped early. Which colours mislead is not settled: docs/dense.md.)
    """
    cube = [torch.tensor(point, dtype=torch.float32) for point in product((-1, 0, 1), repeat=COLOURS) if any(point)]
    few = len(shares) <= COLOURS + 1
    ordered = sorted(cube, key=lambda point: _rank(point, few))
    surplus = [2 * torch.rand(COLOURS, generator=rng) - 1 for _ in range(len(shares) - len(ordered))]
    places = torch.tensor(list(shares)).argsort(descending=True, stable=True)
    found = torch.empty(len(shares), COLOURS)
    found[places] = torch.stack([*ordered, *surplus][: len(shares)])
    return found


def _rank(point: Tensor, few: bool) -> int:
    """Place of a colour of the cube in the order in which classes take them."""
    corners = {-1: 0, 1: 2, 3: 1 if few else 3, -3: 4}
    length = int(point.abs().sum())
    return corners[int(point.sum())] if length == COLOURS else 5 + length


def depth_tints(shares: Sequence[float], rng: torch.Generator) -> Tensor:  # noqa: ARG001 - shared signature
    """A path along edges of the colour cube: neighbouring depths have neighbouring colours."""
    ordinal = torch.arange(len(shares))
    gray = ordinal ^ (ordinal >> 1)
    return torch.stack([2.0 * ((gray >> bit) & 1) - 1 for bit in range(COLOURS)], dim=1)


def normal_tints(shares: Sequence[float], rng: torch.Generator) -> Tensor:  # noqa: ARG001 - shared signature
    """A colour a component, its opposite for the other sign."""
    assert len(shares) == 2 * COLOURS
    return torch.cat([torch.eye(COLOURS), -torch.eye(COLOURS)])


TINTS: Mapping[TaskKind, Tints] = {
    TaskKind.SEGMENTATION: class_tints,
    TaskKind.DEPTH: depth_tints,
    TaskKind.NORMALS: normal_tints,
}


def _turned(tints: Tensor, rng: torch.Generator) -> Tensor:
    """The colours permuted, and all of them reversed or none, at random: tasks of one kind differ."""
    sign = 2.0 * float(torch.randint(2, (1,), generator=rng)) - 1
    return sign * tints[:, torch.randperm(COLOURS, generator=rng)]
