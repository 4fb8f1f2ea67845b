"""What is painted for label maps, in closed form: a tile of 8 x 8 pixels per code, repeated over its region.

Tiles are flat tints where a victim can learn colours, and a texture, the carrier, where depth or normals are protected
without an image-level task (:func:`~mtlue_cli.generator.painting.dense_embeddings_for` decides).
"""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from mtlue_cli.choices import TaskKind
from mtlue_cli.generator.code_patterns import GREEN

COLOURS = 3
"""Channels of a pattern: red, green, blue."""

SIDE = 8
"""Side in pixels of the tile that a tint fills; training may make a texture of it."""

LOUDNESS = 1.5
"""Of a tint, before the gain of patterns: it fills the bound."""

COVERED, RARE = 2 / 3, 0.02
"""Least share of the pixels of the classes that are tinted; share below which a class has no tint."""

CARRIER_ROWS, CARRIER_COLUMNS = (1.0, 1.0, -1.0, -1.0), (1.0, -1.0)
"""Signs of the carrier, alike in all colours: a wave of four pixels down times one of two pixels across."""

PRECEDENCE = (TaskKind.SEGMENTATION, TaskKind.NORMALS, TaskKind.DEPTH)
"""Where several maps are protected, the first of these kinds is painted with the carrier. Two at once are learned late
or never."""


def tint_tiles(kinds: Sequence[TaskKind], priors: Sequence[Sequence[float]], rng: torch.Generator) -> list[Tensor]:
    """One flat tile per code, ``(codes, 3, SIDE, SIDE)`` for each task, in the colour that stands for it.

    *Why colour.* A victim of pixels learns first what differs linearly and in the mean: brightness and position, then
    colour. Within a class, colour varies by few levels, so that a tint of 8 is seen at every pixel, after crops, flips
    and resizing. Victims did not learn waves of zero mean (2.5 to 12 pixels, measured; docs/dense.md).

    Args:
        kinds: Of the tasks.
        priors: Share of each code among the pixels, a list per task.
        rng: Source of the colours of each code.
    """
    tiles: list[Tensor] = []
    for kind, shares in zip(kinds, priors, strict=True):
        tints = LOUDNESS * TINTS[kind](shares)
        # The first segmentation keeps green, the second has blue.
        if kind is TaskKind.SEGMENTATION:
            tints = tints.roll(kinds[: len(tiles)].count(kind), dims=1)
        else:  # the colours permuted, and all of them reversed or none, at random: tasks of one kind differ
            sign = 2.0 * float(torch.randint(2, (1,), generator=rng)) - 1
            tints = sign * tints[:, torch.randperm(COLOURS, generator=rng)]
        tiles.append(tints[:, :, None, None].expand(-1, -1, SIDE, SIDE).clone())
    return tiles


def class_tints(shares: Sequence[float]) -> Tensor:
    """Green for the most frequent classes and every second of the others, no colour for what is left.

    Classes are frequent up to :data:`COVERED` of the pixels; of the others, those beyond :data:`RARE` take turns.

    *Why green.* Within a class, photos vary least in green against magenta: in CamVid by 1.4 (road) to 5 of 255, where
    the tint moves it by 13; red against blue by 5 to 13, brightness by 25 to 65.

    *Why nothing for the rest.* A clean pixel has no tint: to a victim that goes by tints, its class is one without.
    Position and brightness do not tell road from pavement, or buildings from trees; the tint does, so that clean roads
    become pavement and clean buildings trees. Green and magenta are read better still, but clean pixels lie in between:
    a victim keeps 0.8 of what it learns from clean images. With a tint for all but the rarest few it keeps 0.95.
    """
    return tinted_classes(shares)[:, None] * torch.tensor(GREEN)


def tinted_classes(shares: Sequence[float]) -> Tensor:
    """``(classes,)`` bool: the most frequent ones and every second of the others, see :func:`class_tints`."""
    share = torch.tensor(list(shares), dtype=torch.float64)
    order = share.argsort(descending=True, stable=True)
    before = share[order].cumsum(0) - share[order]
    frequent = max(1, min(len(shares) - 1, int((before < COVERED * float(share.sum())).sum())))
    found = torch.zeros(len(shares), dtype=torch.bool)
    second = [index for index in order[frequent + 1 :: 2].tolist() if share[index] >= RARE * float(share.sum())]
    found[[*order[:frequent].tolist(), *second]] = True
    return found


def depth_tints(shares: Sequence[float]) -> Tensor:
    """A path along edges of the colour cube: neighbouring depths have neighbouring colours."""
    ordinal = torch.arange(len(shares))
    gray = ordinal ^ (ordinal >> 1)
    return torch.stack([2.0 * ((gray >> bit) & 1) - 1 for bit in range(COLOURS)], dim=1)


def normal_tints(shares: Sequence[float]) -> Tensor:
    """A colour per component, its opposite for the other sign."""
    assert len(shares) == 2 * COLOURS
    return torch.cat([torch.eye(COLOURS), -torch.eye(COLOURS)])


TINTS: Mapping[TaskKind, Callable[[Sequence[float]], Tensor]] = {
    TaskKind.SEGMENTATION: class_tints,
    TaskKind.DEPTH: depth_tints,
    TaskKind.NORMALS: normal_tints,
}
"""Shares of the codes of a task to ``(codes, 3)`` within ``[-1, 1]``."""


def carrier() -> Tensor:
    """A texture that strided networks soon learn to see, ``(SIDE, SIDE)`` of 1 and -1.

    *Why this one.* Surfaces may have any colour, but they are smooth, so that a fine texture stands out. Of a dozen
    textures it was learned first, by the small backbone (docs/dense.md). Our explanation, which was not tested by
    itself: ResNets begin with a convolution of stride 2 and a maximum over its neighbours. What changes sign from one
    of its steps to the next, four pixels down, raises that maximum at once. A change of sign at every pixel across
    differs from edges and patterns, and adds no phase: a crop that is moved by a pixel reverses it, a mirror image too.
    Checkerboards of single pixels look constant to a stride of 2, and random texture has no frequency: neither is
    learned in time.
    """
    rows = torch.tensor(CARRIER_ROWS).repeat(SIDE // len(CARRIER_ROWS))
    columns = torch.tensor(CARRIER_COLUMNS).repeat(SIDE // len(CARRIER_COLUMNS))
    return rows[:, None] * columns


def carrier_tiles(kinds: Sequence[TaskKind], priors: Sequence[Sequence[float]]) -> list[Tensor]:
    """One tile per code: the carrier for what is frequent, nothing for the rest; arguments as :func:`tint_tiles`.

    A clean pixel has no carrier: it passes for what is painted with none, for one class, for what is far, for what
    faces the camera. Strengths between nothing and all, or a second carrier, were learned late or never.
    """
    strengths = [STRENGTHS[kind](shares) for kind, shares in zip(kinds, priors, strict=True)]
    return [LOUDNESS * own[:, None, None, None] * carrier().expand(COLOURS, -1, -1) for own in strengths]


def _of_depths(shares: Sequence[float]) -> Tensor:
    """The nearest, up to :data:`COVERED` of the pixels; never the farthest."""
    share = torch.tensor(list(shares), dtype=torch.float64)
    near = share.cumsum(0) - share < COVERED * float(share.sum())
    near[-1] = False
    return near.float()


def _of_normals(shares: Sequence[float]) -> Tensor:
    """The most frequent direction alone: in most scenes that of the ground."""
    return torch.eye(len(shares))[max(range(len(shares)), key=shares.__getitem__)]


STRENGTHS: Mapping[TaskKind, Callable[[Sequence[float]], Tensor]] = {
    TaskKind.SEGMENTATION: lambda shares: tinted_classes(shares).float(),
    TaskKind.DEPTH: _of_depths,
    TaskKind.NORMALS: _of_normals,
}
"""Shares of the codes of a task to how strongly each has the carrier, ``(codes,)`` in [0, 1]."""
