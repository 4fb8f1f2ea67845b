"""A texture that strided networks soon learn to see: what several tasks that label every pixel are told by."""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from mtlue_cli.choices import TaskKind
from mtlue_cli.generator.tints import COLOURS, COVERED, LOUDNESS, SIDE, tinted_classes

ROWS = (1.0, 1.0, -1.0, -1.0)
COLUMNS = (1.0, -1.0)
"""Signs of the carrier, alike in all colours: a wave of four pixels down times one of two pixels across."""

PRECEDENCE = (TaskKind.SEGMENTATION, TaskKind.NORMALS, TaskKind.DEPTH)
"""Whose map is painted where several are protected: the first of these. Two at once are learned late or never."""

Strengths = Callable[[Sequence[float]], Tensor]
"""Shares of the codes of a task to how strongly each is painted, ``(codes,)`` in [0, 1]."""


def carrier() -> Tensor:
    """``(SIDE, SIDE)`` of 1 and -1.

    *Why this one.* Surfaces may have any colour, and none is told by a tint of 8 levels; but they are smooth, so that a
    fine texture stands out from what the image has at its frequency. Of a dozen textures it was learned first, by the
    small backbone. Our explanation, which was not tested by itself: ResNets begin with a convolution of
    stride 2 and a maximum over its neighbours. What changes sign from one of its steps to the next, four pixels down,
    raises that maximum at once, before any filter is tuned to it. A change of sign at every pixel across takes it away
    from what edges and patterns have, and adds no phase: a crop that is moved by a pixel reverses it, a mirror image
    too. So there are two patterns to learn, by the parity of the crop's row; a checkerboard of 2x2 cells has four.
    Checkerboards of single pixels look constant to a stride of 2, and random texture has no frequency to be tuned to:
    neither is learned in time.
    """
    rows = torch.tensor(ROWS).repeat(SIDE // len(ROWS))
    columns = torch.tensor(COLUMNS).repeat(SIDE // len(COLUMNS))
    return rows[:, None] * columns


def carrier_tiles(kinds: Sequence[TaskKind], priors: Sequence[Sequence[float]]) -> list[Tensor]:
    """One tile a code: the carrier for what is frequent, nothing for the rest.

    A clean pixel has no carrier: it passes for what is painted with none, for one class, for what is far, for what
    faces the camera. Strengths between nothing and all, or a second carrier, were learned late or never.

    Args:
        kinds: Of the tasks.
        priors: Share of each code among the pixels, a task each.

    Returns:
        A tensor a task, ``(codes, 3, SIDE, SIDE)``, before the bound.
    """
    strengths = [STRENGTHS[kind](shares) for kind, shares in zip(kinds, priors, strict=True)]
    return [LOUDNESS * own[:, None, None, None] * carrier().expand(COLOURS, -1, -1) for own in strengths]


def _of_classes(shares: Sequence[float]) -> Tensor:
    return tinted_classes(shares).float()


def _of_depths(shares: Sequence[float]) -> Tensor:
    """The nearest, up to :data:`~mtlue_cli.generator.tints.COVERED` of the pixels; never the farthest."""
    share = torch.tensor(list(shares), dtype=torch.float64)
    near = share.cumsum(0) - share < COVERED * float(share.sum())
    near[-1] = False
    return near.float()


def _of_normals(shares: Sequence[float]) -> Tensor:
    """The most frequent direction alone: in most scenes that of the ground."""
    return torch.eye(len(shares))[max(range(len(shares)), key=shares.__getitem__)]


STRENGTHS: Mapping[TaskKind, Strengths] = {
    TaskKind.SEGMENTATION: _of_classes,
    TaskKind.DEPTH: _of_depths,
    TaskKind.NORMALS: _of_normals,
}
