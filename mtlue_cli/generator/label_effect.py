"""Whether a generator's perturbation depends on the labels: one that does not teaches a victim nothing wrong."""

from typing import Any

import numpy as np
import numpy.typing as npt

from mtlue_cli.perturbation.batching import BatchedPerturbation
from mtlue_cli.tasks.spec import TaskSet

LEAST_LABEL_EFFECT = 0.1
"""Least share of the perturbation that may depend on the labels. The shipped generators have 0.85 to 0.95, one that was
trained for CelebA's forty columns 0.78."""

_LABELLINGS = 8


def label_effect(perturb: BatchedPerturbation, tasks: TaskSet, size: int) -> float | None:
    """The share of a perturbation that changes with the classes of one flat grey image.

    Args:
        perturb: The generator.
        tasks: Its protected tasks.
        size: Side in pixels of the squares that it sees.

    Returns:
        Root mean square deviation of the perturbations of eight drawn labellings from their mean, divided by the root
        mean square of all: 0 if labels do not matter, near 1 if nothing else does. None without image-level tasks of
        two classes or more, or if nothing is added at all.
    """
    columns = {task.name: task.num_classes for task in tasks.image_level}
    if max(columns.values(), default=0) < 2 or len(tasks.dense):
        return None
    rng = np.random.default_rng(0)
    labels: dict[str, Any] = {
        # Every class once if there are so many, and never one class alone.
        name: [int(place) % count for place in rng.permutation(_LABELLINGS)]
        for name, count in columns.items()
    }
    image: npt.NDArray[np.uint8] = np.full((3, size, size), 128, np.uint8)
    deltas = np.stack(perturb([image] * _LABELLINGS, labels))
    power = float(np.square(deltas).mean())
    return float(np.square(deltas - deltas.mean(axis=0)).mean() / power) ** 0.5 if power > 0 else None
