"""Tints that a network tells apart at a single pixel: what dense embeddings paint from the first step."""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from mtlue_cli.choices import TaskKind

COLOURS = 3
"""Channels of a tint: red, green, blue."""

SIDE = 8
"""Side in pixels of the tile that a tint fills; training may make a texture of it."""

LOUDNESS = 1.5
"""Of a tint, before the gain of patterns: it fills the bound."""

GREEN = (-1.0, 1.0, -1.0)
"""Colour in which photos vary least, against its opposite."""

COVERED = 2 / 3
"""Least share of the pixels of the classes that are tinted."""

RARE = 0.02
"""Share of the pixels below which a class has no tint."""

Tints = Callable[[Sequence[float]], Tensor]
"""Shares of the codes of a task to ``(codes, 3)`` within ``[-1, 1]``."""


def initial_tiles(kinds: Sequence[TaskKind], priors: Sequence[Sequence[float]], rng: torch.Generator) -> list[Tensor]:
    """One flat tile a code, in the colour that stands for it.

    *Why colour.* A victim of pixels learns first what differs linearly and in the mean, whatever the phase: brightness
    and place, then colour. Within a class, an image's colour differences vary by few levels, brightness by 25 to 65 of
    255, so that a tint of 8 either way is told at every pixel, after crops, flips and resizing. Waves of zero mean (2.5
    to 12 pixels, measured) are told by their energy alone, which is of second order beside the image; victims did not
    learn them.

    Args:
        kinds: Of the tasks.
        priors: Share of each code among the pixels, a task each.
        rng: Source of what is random: which colour stands for which code.

    Returns:
        A tensor a task, ``(codes, 3, SIDE, SIDE)``.
    """
    tiles: list[Tensor] = []
    for kind, shares in zip(kinds, priors, strict=True):
        tints = LOUDNESS * TINTS[kind](shares)
        # The first segmentation keeps green, the second has blue.
        turns = kinds[: len(tiles)].count(kind)
        tints = tints.roll(turns, dims=1) if kind is TaskKind.SEGMENTATION else _turned(tints, rng)
        tiles.append(tints[:, :, None, None].expand(-1, -1, SIDE, SIDE).clone())
    return tiles


def class_tints(shares: Sequence[float]) -> Tensor:
    """Green for the most frequent classes and every second of the others, no colour for what is left.

    Classes are frequent up to :data:`COVERED` of the pixels; of the others, those beyond :data:`RARE` take turns.

    *Why green.* Within a class, what photos vary least in is green against magenta: in CamVid by 1.4 (road) to 5 of
    255, where the tint moves it by 13. Red against blue varies by 5 to 13, where a tint moves it by 11; brightness by
    25 to 65. A victim learns what it can tell at a pixel.

    *Why nothing for the rest.* A clean pixel has no tint: to a victim that goes by tints, its class is one without.
    Place and brightness are learned first, whatever is painted, but they do not tell road from pavement, or buildings
    from trees. The tint does, so that clean roads become pavement and clean buildings trees. Tints on either side of
    none (green and magenta) are read better still, but clean pixels lie in between: a victim keeps 0.8 of what it
    learns from clean images. A tint for all but the rarest few (a tenth of the pixels) says nothing: it keeps 0.95.
    """
    return tinted_classes(shares)[:, None] * torch.tensor(GREEN)


def tinted_classes(shares: Sequence[float]) -> Tensor:
    """``(classes,)`` bool: the most frequent ones and every second of the others, see :func:`class_tints`."""
    share = torch.tensor(list(shares), dtype=torch.float64)
    places = share.argsort(descending=True, stable=True)
    before = share[places].cumsum(0) - share[places]
    frequent = max(1, min(len(shares) - 1, int((before < COVERED * float(share.sum())).sum())))
    found = torch.zeros(len(shares), dtype=torch.bool)
    second = [place for place in places[frequent + 1 :: 2].tolist() if share[place] >= RARE * float(share.sum())]
    found[[*places[:frequent].tolist(), *second]] = True
    return found


def depth_tints(shares: Sequence[float]) -> Tensor:
    """A path along edges of the colour cube: neighbouring depths have neighbouring colours."""
    ordinal = torch.arange(len(shares))
    gray = ordinal ^ (ordinal >> 1)
    return torch.stack([2.0 * ((gray >> bit) & 1) - 1 for bit in range(COLOURS)], dim=1)


def normal_tints(shares: Sequence[float]) -> Tensor:
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
