"""Targets that an objective steers a surrogate towards."""

from collections.abc import Mapping

from torch import Tensor

from mtlue_cli.tasks.kinds import KINDS
from mtlue_cli.tasks.spec import TaskSet


def shifted_labels(labels: Mapping[str, Tensor], tasks: TaskSet) -> dict[str, Tensor]:
    """The wrong labels that targeted poisoning aims at.

    Classes, of images and of pixels: ``(y + floor(C / 2)) mod C``. Depth: near for far within the task's span.
    Normals: a half turn about the line of sight.

    Args:
        labels: Task name to labels; see :mod:`mtlue_cli.tasks.kinds`.
        tasks: The tasks.

    Returns:
        Wrong labels per task; unlabelled stays unlabelled.

    Source:
        Fowl et al., NeurIPS 2021, in the multi-task form of Yu et al., ICML 2025. Those of depth and normals are ours.
    """
    return {task.name: KINDS[task.kind].wrong(labels[task.name], task) for task in tasks}
