"""Label maps: mirrored, and as weights of codes that a generator paints and a share is counted by."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mtlue_cli.choices import TaskKind
from mtlue_cli.tasks.dense import as_labels
from mtlue_cli.tasks.kinds import KINDS, span_of
from mtlue_cli.tasks.spec import Task

DEPTH_CODES = 8
"""Depths between which a depth is interpolated."""

COUNTED = 256
"""Label maps at most that shares are counted over."""

CHUNK = 16
"""Label maps that are turned into weights at a time."""


@dataclass(frozen=True)
class MapRules:
    """One kind of label map.

    Attributes:
        mirrored: The map of the mirror image.
        count: How many codes a task has.
        weights: Map to the weights of the codes, ``(B, codes, H, W)`` float: not negative, and of sum 1 at every
            labelled pixel. What they are elsewhere is not said.
    """

    mirrored: Callable[[Tensor], Tensor]
    count: Callable[[Task], int]
    weights: Callable[[Tensor, Task], Tensor]


def _mirrored_normals(labels: Tensor) -> Tensor:
    return labels.flip(-1) * labels.new_tensor([-1.0, 1.0, 1.0]).view(1, 3, 1, 1)


def _class_weights(labels: Tensor, task: Task) -> Tensor:
    return nn.functional.one_hot(labels.clamp_min(0), task.num_classes).movedim(-1, 1).float()


def _depth_weights(labels: Tensor, task: Task) -> Tensor:
    """Interpolation between depths at equal distances over the task's span."""
    low, high = span_of(task)
    position = ((labels - low) / (high - low)).clamp(0, 1) * (DEPTH_CODES - 1)
    codes = torch.arange(DEPTH_CODES, device=labels.device, dtype=labels.dtype).view(1, -1, 1, 1)
    return (1 - (position - codes).abs()).clamp_min(0)


def _normal_weights(labels: Tensor, task: Task) -> Tensor:  # noqa: ARG001 - shared signature
    """Squares of the components, those of either sign apart: a unit vector's sum to 1."""
    unit = nn.functional.normalize(labels, dim=1)
    return torch.cat([unit.clamp_min(0), (-unit).clamp_min(0)], dim=1).square()


MAPS: Mapping[TaskKind, MapRules] = {
    TaskKind.SEGMENTATION: MapRules(lambda labels: labels.flip(-1), lambda task: task.num_classes, _class_weights),
    TaskKind.DEPTH: MapRules(lambda labels: labels.flip(-1), lambda _: DEPTH_CODES, _depth_weights),
    TaskKind.NORMALS: MapRules(_mirrored_normals, lambda _: 6, _normal_weights),
}


def code_weights(labels: Tensor, task: Task) -> tuple[Tensor, Tensor]:
    """Weights of a task's codes at every pixel, and where there is a label.

    Args:
        labels: A batch of label maps.
        task: Their task.

    Returns:
        ``(B, codes, H, W)`` float, zero where unlabelled, and ``(B, 1, H, W)`` bool.
    """
    known = KINDS[task.kind].known(labels)[:, None]
    weights = MAPS[task.kind].weights(labels, task)
    return torch.where(known, weights, torch.zeros_like(weights)), known


def code_shares(stored: Tensor, task: Task) -> list[float]:
    """Mean weight of each code over labelled pixels of up to :data:`COUNTED` maps, plus one more pixel of every code.

    Args:
        stored: All label maps of a data set.
        task: Their task.
    """
    totals = torch.ones(MAPS[task.kind].count(task), dtype=torch.float64)
    rows = torch.linspace(0, len(stored) - 1, min(COUNTED, len(stored))).long()
    for part in torch.split(rows, CHUNK):
        totals += code_weights(as_labels(stored[part]), task)[0].double().sum(dim=(0, 2, 3))
    shares: list[float] = (totals / totals.sum()).tolist()
    return shares
