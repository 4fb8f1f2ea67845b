"""Codes of a label set as they are painted: the axes they need, their origin, their grid of cells. Numpy only."""

import math
from collections.abc import Mapping, Sequence
from itertools import count
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from mtlue_cli.choices import TaskKind
from mtlue_cli.generator.codebook import Codebook, Numbers, centred_codes, evenness, origins, reserved_axes
from mtlue_cli.images.targets import row_maps
from mtlue_cli.tasks.classes import image_level_shares
from mtlue_cli.tasks.spec import LabelTable, TaskSet

COARSEST_GRID, FINEST_GRID = 7, 15
"""Sides in cells of the patterns of universal weights, for tasks that need few directions or many."""

GREEN = (-1.0, 1.0, -1.0)
"""Colour in which photos vary least, against its opposite."""

STRIDE = 4
"""Pixels per cell of what a generator sees and draws, each way."""

FloatT = TypeVar("FloatT", bound=np.floating)

_LEAST_POWER = 1e-12
_PIXELS = 64


def is_tinted(tasks: TaskSet) -> bool:
    """Whether an image that has a mask is painted with tints alone: segmentation, with one image-level task at most."""
    return (
        len(tasks.dense) > 0
        and len(tasks.image_level) <= 1
        and all(task.kind is TaskKind.SEGMENTATION for task in tasks.dense)
    )


def coded_tasks(tasks: TaskSet) -> TaskSet:
    """Those of ``tasks`` that have codes: all but masks that are tinted."""
    return tasks.image_level if is_tinted(tasks) else tasks


def cells_for(tasks: TaskSet, least: int) -> int:
    """Side in cells, ``least`` or more, of the coarsest patterns with as many axes as ``tasks`` reserve."""
    axes = sum(reserved_axes(task.num_classes) for task in coded_tasks(tasks))
    finest = max(FINEST_GRID, least)
    return next((cells for cells in range(least, finest + 1, 2) if pattern_dimension(1, cells) >= axes), finest)


def shares_for_codes(table: LabelTable, tasks: TaskSet, size: int) -> dict[str, list[float]]:
    """Share of each class of the tasks that codes or tints are made for: among images, or among the pixels of masks.

    Masks are counted at ``size`` x ``size`` pixels; at most :data:`~mtlue_cli.tasks.label_tensors.COUNTED` are read.

    Raises:
        ImageError: A mask cannot be read.
    """
    found = image_level_shares(table.columns, tasks)
    if is_tinted(tasks):
        import torch

        from mtlue_cli.tasks.label_tensors import COUNTED, code_shares

        rows = np.linspace(0, len(table) - 1, min(COUNTED, len(table))).astype(int).tolist()
        maps = [row_maps(table, tasks, row, size) for row in rows]
        for task in tasks.dense:
            found[task.name] = code_shares(torch.from_numpy(np.stack([own[task.name] for own in maps])), task)
    return found


def painted_codes(codebook: Codebook, shares: Mapping[str, Sequence[float]] | None = None) -> dict[str, Numbers]:
    """The codes of each task that has some about their origin, ``(C, d)``, as they are painted but for their scale.

    Args:
        codebook: The codes.
        shares: Of each class among the images, by task; a task that is absent has classes of equal share.
    """
    coded = coded_tasks(codebook.tasks)
    frequency = [np.asarray((shares or {}).get(task.name, task.equal_shares), dtype=np.float64) for task in coded]
    return {
        name: evenness(share) * centred_codes(codebook.of_task(name), share, origin)
        for name, share, origin in zip(coded.names, frequency, origins(frequency), strict=True)
    }


def unit_scale(
    codes: Mapping[str, Numbers], grid: int, least: int, shares: Mapping[str, Sequence[float]] | None = None
) -> float:
    """What :func:`painted_codes` are multiplied by to have unit power over images and pixels.

    Args:
        codes: Of each task.
        grid: Side in cells of the maps of an embedding, to which patterns are scaled up before they are drawn.
        least: Side in cells of the patterns where there are no codes.
        shares: As :func:`painted_codes` takes them.

    Raises:
        ValueError: The codes have a dimension that no patterns have.
    """
    flat = np.concatenate(list(codes.values())) if codes else np.zeros((0, pattern_dimension(1, least)))
    cells = mirrored(flat, cells_of(flat.shape[1]))
    each = [(shares or {}).get(name, [1 / len(own)] * len(own)) for name, own in codes.items()]
    frequency = np.array([share for own in each for share in own])
    line = linear_weights(grid, _PIXELS) @ linear_weights(cells.shape[-1], grid)
    gram = line.T @ line / _PIXELS
    power = float(frequency @ (gram @ cells @ gram * cells).sum(axis=(1, 2)))
    return math.sqrt(len(codes) / max(power, _LEAST_POWER))


def pattern_dimension(channels: int, grid: int) -> int:
    """Dimension of the space of mirror-symmetric patterns of ``channels`` x ``grid`` x ``grid`` cells."""
    return channels * grid * ((grid + 1) // 2)


def cells_of(dimension: int) -> int:
    """Side in cells of the patterns of one channel that have so many dimensions; ValueError if none have."""
    cells = next(cells for cells in count(1) if pattern_dimension(1, cells) >= dimension)
    if pattern_dimension(1, cells) != dimension:
        raise ValueError(f"no patterns have {dimension} dimensions")
    return cells


def mirrored(codes: npt.NDArray[FloatT], cells: int) -> npt.NDArray[FloatT]:
    """Patterns of one channel that a horizontal flip leaves as they are, with the lengths and angles of the codes.

    Codes are ``(C, d)``, where ``d`` is :func:`pattern_dimension`; patterns ``(C, cells, cells)``, of the same type.
    """
    half = (cells + 1) // 2
    # Off-centre columns stand twice in the mirrored grid: weigh them so that angles are kept.
    weight = np.full(half, math.sqrt(0.5), codes.dtype)
    if cells % 2:
        weight[-1] = 1.0
    left = codes.reshape(len(codes), cells, half) * weight
    return np.concatenate([left, left[..., : cells - half][..., ::-1]], axis=-1)


def linear_weights(source: int, target: int) -> npt.NDArray[np.float64]:
    """Weights of linear interpolation with aligned pixel centres, ``(target, source)``, as torch has them."""
    position = np.maximum((np.arange(target) + 0.5) * (source / target) - 0.5, 0)
    first = np.minimum(position.astype(np.intp), source - 1)
    part = position - first
    weights = np.zeros((target, source))
    weights[np.arange(target), first] += 1 - part
    weights[np.arange(target), np.minimum(first + 1, source - 1)] += part
    return weights
