"""Which depths are usual in a data set."""

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from mtlue_cli.choices import TaskKind
from mtlue_cli.tasks.spec import Task, TaskSet

SHARES = (0.01, 0.99)
"""Quantiles of the valid pixels that bound a span: a few wild ones must not stretch it."""

SAMPLED = 1_000_000
"""Values of a data set at most that the quantiles are taken of."""


def with_spans(tasks: TaskSet, labels: Mapping[str, Tensor]) -> TaskSet:
    """The tasks with the spans of their depths, as these labels have them; other kinds, and depths never valid, stay.

    Args:
        tasks: The tasks.
        labels: Task name to all labels that a network will learn from.
    """
    return TaskSet(tuple(_with_span(task, labels) if task.kind is TaskKind.DEPTH else task for task in tasks))


def _with_span(task: Task, labels: Mapping[str, Tensor]) -> Task:
    values = labels[task.name].flatten()
    values = values[:: max(1, len(values) // SAMPLED)].float()
    values = values[values != 0]
    if not len(values):
        return task
    low, high = torch.quantile(values, torch.tensor(SHARES)).tolist()
    if high <= low:
        low, high = 0.5 * low, 1.5 * low
    return replace(task, span=(low, high))
