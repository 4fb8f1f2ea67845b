"""How frequent classes are, for the codes and tints of universal weights."""

import numpy as np
import torch

from mtlue_cli.generator.tiles import is_tinted
from mtlue_cli.images.targets import row_maps
from mtlue_cli.tasks.label_maps import COUNTED, code_shares
from mtlue_cli.tasks.shares import image_level_shares
from mtlue_cli.tasks.spec import LabelTable, TaskSet


def shares_for_codes(table: LabelTable, tasks: TaskSet, size: int) -> dict[str, list[float]]:
    """Share of each class of the tasks that codes or tints are made for: among images, or among the pixels of masks.

    Args:
        table: The labels of all images.
        tasks: Those that are protected.
        size: Side in pixels at which masks are counted; at most :data:`~mtlue_cli.tasks.label_maps.COUNTED` are read.

    Raises:
        ImageError: A mask cannot be read.
    """
    found = image_level_shares(table.columns, tasks)
    if is_tinted(tasks):
        rows = np.linspace(0, len(table) - 1, min(COUNTED, len(table))).astype(int).tolist()
        maps = [row_maps(table.maps_folder, table, tasks, row, size) for row in rows]
        for task in tasks.dense:
            found[task.name] = code_shares(torch.from_numpy(np.stack([own[task.name] for own in maps])), task)
    return found
