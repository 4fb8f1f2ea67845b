"""How frequent the classes of image-level tasks are. Numpy only."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from mtlue_cli.tasks.spec import TaskSet

COUNTED = 256
"""Label maps that shares are counted over at most."""


def image_level_shares(labels: Mapping[str, npt.NDArray[np.int64]], tasks: TaskSet) -> dict[str, list[float]]:
    """Share of each class among the labelled samples, with one more sample of every class added, by task.

    The added samples (Laplace's rule) keep a class that does not occur from being impossible. Labels go by task,
    ``(N,)``, negative where unlabelled, and may hold more than those of the tasks that label whole images.
    """
    found: dict[str, list[float]] = {}
    for task in tasks.image_level:
        column = labels[task.name]
        counts = np.bincount(column[column >= 0], minlength=task.num_classes) + 1.0
        found[task.name] = (counts / counts.sum()).tolist()
    return found
