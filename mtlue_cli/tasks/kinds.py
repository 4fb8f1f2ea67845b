"""What differs between the kinds of tasks once labels are tensors: loss, unknown cells, agreement, wrong targets.

Shapes of labels and outputs, batch first: one class index per image ``(B,)`` with logits ``(B, C)``; a class map
``(B, H, W)`` with logits ``(B, C, H, W)``; depth ``(B, 1, H, W)``, invalid where zero; normals
``(B, 3, H, W)``, unit vectors, invalid where zero. Depth and normals are predicted in the shape of their labels.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mtlue_cli.choices import TaskKind
from mtlue_cli.tasks.spec import UNLABELLED, Task

NEAR_DEPTH = 0.25
"""A depth within this share of the true one counts as right."""

NEAR_ANGLE = 30.0
"""A normal within so many degrees of the true one counts as right."""

SHORTEST = 1e-4
"""Length below which a predicted vector has no direction: keeps the gradient of its normalisation bounded."""


@dataclass(frozen=True, kw_only=True)
class KindRules:
    """One kind of task. A *cell* is what has a label of its own: an image, or a pixel.

    Attributes:
        losses: Outputs, labels and task to the loss of every cell, 0 where it is unknown; the cells stay apart with
            the reduction ``none`` and are summed with ``sum``.
        known: Labels to which cells have one, ``(B,)`` or ``(B, H, W)`` bool.
        right: Outputs and labels to where they agree, as ``known``; says nothing of unknown cells.
        wrong: Labels and task to what targeted poisoning steers towards; unknown cells stay unknown.
    """

    losses: Callable[[Tensor, Tensor, Task, str], Tensor]
    known: Callable[[Tensor], Tensor]
    right: Callable[[Tensor, Tensor], Tensor]
    wrong: Callable[[Tensor, Task], Tensor]


def span_of(task: Task) -> tuple[float, float]:
    """The span of a depth task; from 0 to one unit where it was not measured."""
    return task.span or (0.0, 1.0)


def _class_losses(outputs: Tensor, labels: Tensor, _task: Task, reduction: str) -> Tensor:
    return nn.functional.cross_entropy(outputs.float(), labels, ignore_index=UNLABELLED, reduction=reduction)


def _shifted_class(labels: Tensor, task: Task) -> Tensor:
    """``(y + floor(C / 2)) mod C``."""
    moved = (labels + task.num_classes // 2) % task.num_classes
    return torch.where(labels == UNLABELLED, labels, moved)


def _known_value(labels: Tensor) -> Tensor:
    return (labels != 0).any(dim=1)


def _masked(losses: Tensor, labels: Tensor, reduction: str) -> Tensor:
    kept = torch.where(_known_value(labels), losses, torch.zeros_like(losses))
    return kept.sum() if reduction == "sum" else kept


def _depth_losses(outputs: Tensor, labels: Tensor, task: Task, reduction: str) -> Tensor:
    """Absolute error in shares of the task's span: beside other losses it weighs the same in metres and millimetres."""
    low, high = span_of(task)
    return _masked((outputs.float() - labels).abs()[:, 0] / (high - low), labels, reduction)


def _flipped_depth(labels: Tensor, task: Task) -> Tensor:
    """Near for far within the span of the task: ``low + high - y``, cut to the span.

    The span is that of the whole training set: the target of a pixel does not depend on the batch that it is in.
    """
    low, high = span_of(task)
    # A span that begins at 0 must not turn the farthest pixels invalid.
    flipped = (low + high - labels).clamp(max(low, 1e-3 * high), high)
    return torch.where(labels != 0, flipped, labels)


def _cosine(outputs: Tensor, labels: Tensor) -> Tensor:
    return (nn.functional.normalize(outputs.float(), dim=1, eps=SHORTEST) * labels).sum(dim=1)


def _turned_normal(labels: Tensor, _task: Task) -> Tensor:
    """A half turn about the line of sight: x and y change sign, z stays.

    A reversed normal points away from the camera, which no visible surface does and no trained
    network predicts. A half turn stays among visible surfaces. What faces the camera keeps its direction; the more a
    surface is inclined, the further off its target.
    """
    return labels * labels.new_tensor([-1.0, -1.0, 1.0]).view(1, 3, 1, 1)


_CLASSES = KindRules(
    losses=_class_losses,
    known=lambda labels: labels != UNLABELLED,
    right=lambda outputs, labels: outputs.argmax(dim=1) == labels,
    wrong=_shifted_class,
)
KINDS: Mapping[TaskKind, KindRules] = {
    TaskKind.BINARY: _CLASSES,
    TaskKind.CATEGORICAL: _CLASSES,
    TaskKind.SEGMENTATION: _CLASSES,
    TaskKind.DEPTH: KindRules(
        losses=_depth_losses,
        known=_known_value,
        right=lambda outputs, labels: ((outputs.float() - labels).abs() <= NEAR_DEPTH * labels)[:, 0],
        wrong=_flipped_depth,
    ),
    TaskKind.NORMALS: KindRules(
        losses=lambda outputs, labels, _, reduction: _masked(1 - _cosine(outputs, labels), labels, reduction),
        known=_known_value,
        right=lambda outputs, labels: _cosine(outputs, labels) >= math.cos(math.radians(NEAR_ANGLE)),
        wrong=_turned_normal,
    ),
}


def labelled_rows(labels: Tensor, task: Task) -> Tensor:
    """Which samples of ``(N, ...)`` labels have any label, ``(N,)`` bool."""
    known = KINDS[task.kind].known(labels)
    return known.flatten(1).any(dim=1) if known.ndim > 1 else known
