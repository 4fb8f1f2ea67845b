"""Labels as tensors: how maps are kept, the codes that a generator paints of them, and how frequent classes are."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import normalize, one_hot

from mtlue_cli.choices import TaskKind
from mtlue_cli.tasks.classes import image_level_shares
from mtlue_cli.tasks.kinds import KINDS, span_of
from mtlue_cli.tasks.spec import UNLABELLED, Task, TaskSet

STORED = {TaskKind.SEGMENTATION: torch.int16, TaskKind.DEPTH: torch.float32, TaskKind.NORMALS: torch.float16}
"""Type in which the maps of a whole set are kept. Depth in millimetres would leave the range of float16."""

DEPTH_CODES = 8
"""Depths between which a depth is interpolated."""

COUNTED = 256
"""Label maps that shares are counted over at most."""

CHUNK = 16
"""Label maps that are turned into weights at a time."""

SPAN_SHARES, SPAN_VALUES = (0.01, 0.99), 1_000_000
"""Quantiles of the valid depths that bound a span, as a few wild ones must not stretch it; values they are taken of."""


def empty_maps(task: Task, count: int, size: int) -> Tensor:
    """Maps of ``count`` images without a label.

    Returns:
        ``(count, S, S)`` int16 of -1 for segmentation; ``(count, 1, S, S)`` float32 of 0 for depth,
        ``(count, 3, S, S)`` float16 of 0 for normals.
    """
    if task.kind is TaskKind.SEGMENTATION:
        return torch.full((count, size, size), UNLABELLED, dtype=STORED[task.kind])
    return torch.zeros((count, task.channels, size, size), dtype=STORED[task.kind])


def as_labels(stored: Tensor) -> Tensor:
    """A batch of stored labels as losses and metrics take them: class indices int64, numbers float32."""
    return stored.float() if stored.is_floating_point() else stored.long()


@dataclass(frozen=True)
class MapRules:
    """One kind of label map.

    Attributes:
        mirrored: The map of the mirror image.
        count: How many codes a task has.
        weights: Map to the weights of the codes, ``(B, codes, H, W)`` float: not negative, and of sum 1 at every
            labelled pixel. Elsewhere they may be anything.
    """

    mirrored: Callable[[Tensor], Tensor]
    count: Callable[[Task], int]
    weights: Callable[[Tensor, Task], Tensor]


def _depth_weights(labels: Tensor, task: Task) -> Tensor:
    """Interpolation between depths at equal distances over the task's span."""
    low, high = span_of(task)
    position = ((labels - low) / (high - low)).clamp(0, 1) * (DEPTH_CODES - 1)
    codes = torch.arange(DEPTH_CODES, device=labels.device, dtype=labels.dtype).view(1, -1, 1, 1)
    return (1 - (position - codes).abs()).clamp_min(0)


def _normal_weights(labels: Tensor, _task: Task) -> Tensor:
    """Squares of the components, those of either sign apart: a unit vector's sum to 1."""
    unit = normalize(labels, dim=1)
    return torch.cat([unit.clamp_min(0), (-unit).clamp_min(0)], dim=1).square()


MAPS: Mapping[TaskKind, MapRules] = {
    TaskKind.SEGMENTATION: MapRules(
        mirrored=lambda labels: labels.flip(-1),
        count=lambda task: task.num_classes,
        weights=lambda labels, task: one_hot(labels.clamp_min(0), task.num_classes).movedim(-1, 1).float(),
    ),
    TaskKind.DEPTH: MapRules(
        mirrored=lambda labels: labels.flip(-1), count=lambda _: DEPTH_CODES, weights=_depth_weights
    ),
    TaskKind.NORMALS: MapRules(
        mirrored=lambda labels: labels.flip(-1) * labels.new_tensor([-1.0, 1.0, 1.0]).view(1, 3, 1, 1),
        count=lambda _: 6,
        weights=_normal_weights,
    ),
}


def code_weights(labels: Tensor, task: Task) -> tuple[Tensor, Tensor]:
    """Weights of a task's codes at every pixel of a batch of label maps, and where there is a label.

    Returns:
        ``(B, codes, H, W)`` float, zero where unlabelled, and ``(B, 1, H, W)`` bool.
    """
    known = KINDS[task.kind].known(labels)[:, None]
    weights = MAPS[task.kind].weights(labels, task)
    return torch.where(known, weights, torch.zeros_like(weights)), known


def code_shares(stored: Tensor, task: Task) -> list[float]:
    """Mean weight of each code over the labelled pixels of a data set, plus one more pixel of every code.

    Up to :data:`COUNTED` of the maps ``stored`` are counted.
    """
    totals = torch.ones(MAPS[task.kind].count(task), dtype=torch.float64)
    rows = torch.linspace(0, len(stored) - 1, min(COUNTED, len(stored))).long()
    for part in torch.split(rows, CHUNK):
        totals += code_weights(as_labels(stored[part]), task)[0].double().sum(dim=(0, 2, 3))
    shares: list[float] = (totals / totals.sum()).tolist()
    return shares


def class_shares(labels: Mapping[str, Tensor], tasks: TaskSet) -> list[list[float]]:
    """:func:`~mtlue_cli.tasks.classes.image_level_shares`, and :func:`code_shares` of dense tasks: a list per task.

    Labels go by task, on the CPU: ``(N,)`` int64, negative where unlabelled, or label maps.
    """
    columns = {task.name: labels[task.name].numpy() for task in tasks.image_level}
    shares = image_level_shares(columns, tasks)
    return [code_shares(labels[task.name], task) if task.is_dense else shares[task.name] for task in tasks]


def with_spans(tasks: TaskSet, labels: Mapping[str, Tensor]) -> TaskSet:
    """The tasks with the spans of their depths in ``labels``, which are all that a network will learn from.

    Other kinds, and depths that are never valid, stay as they are.
    """
    return TaskSet(tuple(_with_span(task, labels) if task.kind is TaskKind.DEPTH else task for task in tasks))


def _with_span(task: Task, labels: Mapping[str, Tensor]) -> Task:
    values = labels[task.name].flatten()
    values = values[:: max(1, len(values) // SPAN_VALUES)].float()
    values = values[values != 0]
    if not len(values):
        return task
    low, high = torch.quantile(values, torch.tensor(SPAN_SHARES)).tolist()
    if high <= low:
        low, high = 0.5 * low, 1.5 * low
    return replace(task, span=(low, high))
