"""Masks and maps: the label of every pixel, read from PNG, TIFF or a NumPy array and checked.

A mask holds one class index per pixel: grey or palette PNG (the index, not the colour), TIFF or array; -1 is no class.
Depth is grey of 8 or 16 bits, floating-point TIFF or array; 0, NaN and infinite mean not measured. Normals are an
array of unit vectors, or an 8-bit RGB picture that holds ``(n + 1) / 2``; what has no direction was not measured. An
array may carry its channel first or last.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mtlue_cli.choices import TaskKind
from mtlue_cli.errors import ImageError, InputError
from mtlue_cli.images.arrays import Array, decode_array, is_array
from mtlue_cli.images.decode import check_size, is_deep_colour, opened_image, read_content
from mtlue_cli.images.reading import ReadingThreads
from mtlue_cli.tasks.spec import UNLABELLED, LabelTable, Task, TaskSet
from mtlue_cli.tasks.wording import counted, quoted

if TYPE_CHECKING:
    from torch import Tensor

FORMATS = ("PNG", "TIFF")
"""What a mask or map is read from beside ``.npy``, in Pillow's names, whatever the file is called."""

_MODES = frozenset({"1", "L", "P", "I", "F", "RGB"})
_SHORTEST_VECTOR, _LONGEST_VECTOR = 0.1, 1.5
_SHORTEST_ENCODED = 0.5
"""Of a normal in 8 bits: grey (127, 127, 127) stands for no direction, and rounding turns it into a short vector."""
_SHOWN_VALUES = 5


def read_target(path: Path, task: Task) -> npt.NDArray[Any]:
    """One mask or map at its own size.

    Returns:
        Segmentation: ``(h, w)`` int64 class indices, -1 where there is no class. Depth: ``(h, w)`` float32 in the
        task's unit, 0 where it was not measured. Normals: ``(h, w, 3)`` float32 unit vectors, zero where not measured.

    Raises:
        ImageError: The file cannot be read, or holds something else.
    """
    return as_target(read_stored(path), task)


def read_stored(path: Path) -> Array:
    """What a file holds, as it is: ``(h, w)`` or ``(h, w, 3)`` numbers.

    Raises:
        ImageError: The file cannot be read, is damaged, too large, or holds another number of channels.
    """
    return stored_array(read_content(path))


def stored_array(content: bytes) -> Array:
    """:func:`read_stored` of a file's content."""
    if is_array(content):
        array = channels_last(decode_array(content))
    else:
        with opened_image(content, FORMATS) as opened:
            if is_deep_colour(opened, content):
                raise ImageError("has more than 8 bits per colour, which would be cut to 8; save it as .npy")
            opened.load()
            if opened.mode not in _MODES and not opened.mode.startswith("I;16"):
                raise ImageError(f"has {opened.mode} pixels, expected one number per pixel, or RGB for normals")
            array = np.array(opened)
    check_size(array.shape[1], array.shape[0])
    return array


def as_target(stored: Array, task: Task) -> npt.NDArray[Any]:
    """What :func:`read_target` returns, of an array as stored.

    Raises:
        ImageError: It does not hold what ``task`` is labelled by.
    """
    return _CHECKS[task.kind](stored, task)


def class_numbers(stored: Array) -> npt.NDArray[np.int64]:
    """The numbers of a mask, ``(h, w)`` int64; -1 where an array holds NaN.

    Raises:
        ImageError: It is no mask: colours, fractions, or numbers beyond all classes.
    """
    if stored.ndim != 2:
        raise ImageError("is a colour picture, expected one class index per pixel (grey or palette)")
    if stored.dtype.kind == "f":
        stored = np.where(np.isnan(stored), UNLABELLED, stored)
        if not (np.isfinite(stored).all() and (stored == np.rint(stored)).all()):
            raise ImageError("holds fractions, expected class indices")
    if stored.min() < -_FURTHEST or stored.max() > _FURTHEST:
        raise ImageError(f"holds numbers up to {np.abs(stored.astype(np.float64)).max():.0f}, expected class indices")
    return stored.astype(np.int64)


def to_size(target: npt.NDArray[Any], task: Task, size: int) -> npt.NDArray[Any]:
    """A target stretched to a square by nearest neighbour, in the layout of a loop: no value is mixed with another.

    Args:
        target: As :func:`read_target` returns it.
        task: Its task.
        size: Side in pixels.

    Returns:
        ``(S, S)`` int64 for segmentation, ``(1, S, S)`` float32 for depth, ``(3, S, S)`` float32 for normals.
    """
    rows, columns = (((np.arange(size) + 0.5) * side / size).astype(np.int64) for side in target.shape[:2])
    square: npt.NDArray[Any] = target[rows[:, None], columns]
    if task.kind is TaskKind.SEGMENTATION:
        return square
    return np.ascontiguousarray(np.atleast_3d(square).transpose(2, 0, 1))


def unlabelled_target(task: Task, size: int) -> npt.NDArray[Any]:
    """What :func:`to_size` makes of a map without any label."""
    if task.kind is TaskKind.SEGMENTATION:
        return np.full((size, size), UNLABELLED, dtype=np.int64)
    return np.zeros((task.channels, size, size), dtype=np.float32)


def load_dense_columns(
    folder_of_maps: Path,
    table: LabelTable,
    tasks: TaskSet,
    size: int,
    workers: int = 2,
    on_image: Callable[[], None] | None = None,
) -> "dict[str, Tensor]":
    """The maps of all rows at one size, read by threads.

    Args:
        folder_of_maps: Where the names in ``table.maps`` lead from.
        table: The labels.
        tasks: Its tasks; those that are not dense are left out.
        size: Side in pixels.
        workers: Threads.
        on_image: Called after each row.

    Returns:
        Dense task name to a tensor as :func:`~mtlue_cli.tasks.dense.empty_maps` makes it; wholly unlabelled where a
        cell is empty. :func:`~mtlue_cli.tasks.dense.as_labels` widens a batch.

    Raises:
        InputError: Lists every map that cannot be read, with its row.
    """
    import torch

    from mtlue_cli.tasks.dense import empty_maps

    loaded = {task.name: empty_maps(task, len(table), size) for task in tasks.dense}
    faults: list[str] = []

    def load(row: int) -> list[str]:
        try:
            for name, map_ in row_maps(folder_of_maps, table, tasks, row, size).items():
                loaded[name][row] = torch.from_numpy(map_)
        except ImageError as error:
            return [f"{table.places[row]}: {error}" if table.places else str(error)]
        return []

    if not loaded:
        return loaded
    with ReadingThreads(max_workers=max(workers, 1)) as pool:
        for found in pool.map(load, range(len(table))):
            faults += found
            if on_image is not None:
                on_image()
    if faults:
        raise InputError(f"{counted(len(faults), 'row')} with maps that cannot be read", faults, "repair these files")
    return loaded


def row_maps(
    folder_of_maps: Path, table: LabelTable, tasks: TaskSet, row: int, size: int
) -> dict[str, npt.NDArray[Any]]:
    """The maps of one row at one size, as :func:`to_size` returns them; a wholly unlabelled one where a cell is empty.

    Raises:
        ImageError: One cannot be read; the message names it.
    """
    found: dict[str, npt.NDArray[Any]] = {}
    for task in tasks.dense:
        file = table.maps[task.name][row]
        if file is None:
            found[task.name] = unlabelled_target(task, size)
            continue
        try:
            found[task.name] = to_size(read_target(folder_of_maps / file, task), task, size)
        except ImageError as error:
            raise ImageError(f"column {quoted(task.name)}: {quoted(file)} {error}") from error
    return found


_FURTHEST = 2**31
"""Numbers beyond it are no class."""


def channels_last(array: Array) -> Array:
    """``(h, w)`` or ``(h, w, 3)`` of an array that may have its channel first."""
    if array.ndim == 3 and array.shape[2] in (1, 3):
        channels = array
    elif array.ndim == 3 and array.shape[0] in (1, 3):
        channels = np.moveaxis(array, 0, 2)
    elif array.ndim == 2:
        return array
    else:
        raise ImageError(f"is an array of the shape {array.shape}, expected height x width, with 1 or 3 channels")
    return channels[..., 0] if channels.shape[2] == 1 else channels


def _classes(stored: Array, task: Task) -> npt.NDArray[np.int64]:
    numbers = class_numbers(stored)
    classes = np.where(np.isin(numbers, (*task.ignore, UNLABELLED)), UNLABELLED, numbers)
    odd = np.unique(classes[(classes < UNLABELLED) | (classes >= task.num_classes)])
    if odd.size:
        shown = ", ".join(map(str, odd[:_SHOWN_VALUES])) + (", ..." if odd.size > _SHOWN_VALUES else "")
        ignored = f" (ignored: {', '.join(map(str, task.ignore))})" if task.ignore else ""
        raise ImageError(f"holds {shown}, expected classes from 0 to {task.num_classes - 1}{ignored}")
    return classes


def _depth(stored: Array, task: Task) -> npt.NDArray[np.float32]:
    if stored.ndim != 2:
        raise ImageError("is a colour picture, expected one depth per pixel")
    with np.errstate(over="ignore"):
        depth = (stored.astype(np.float64) * task.scale).astype(np.float32)
    depth[~np.isfinite(depth)] = 0
    if depth.min() < 0:
        raise ImageError(f"holds the negative depth {depth.min():g}; write 0 or NaN where it was not measured")
    return depth


def _normals(stored: Array, task: Task) -> npt.NDArray[np.float32]:  # noqa: ARG001 - the shape of every such check
    if stored.ndim != 3:
        raise ImageError("holds one number per pixel, expected three, a unit vector")
    if stored.dtype.kind != "f" and stored.dtype != np.uint8:
        raise ImageError(f"holds {stored.dtype} numbers, expected floating point or 8-bit RGB")
    encoded = stored.dtype == np.uint8
    with np.errstate(over="ignore"):
        vectors = stored.astype(np.float32)
    if encoded:
        vectors = vectors / np.float32(127.5) - 1
    vectors[~np.isfinite(vectors).all(axis=2)] = 0
    length = np.linalg.norm(vectors, axis=2, keepdims=True)
    if not encoded and length.max() > _LONGEST_VECTOR:
        raise ImageError(f"holds a vector of the length {length.max():g}, expected unit vectors")
    measured = (length > (_SHORTEST_ENCODED if encoded else _SHORTEST_VECTOR)) & (length <= _LONGEST_VECTOR)
    return np.where(measured, vectors / np.maximum(length, _SHORTEST_VECTOR), 0).astype(np.float32)


_CHECKS: Mapping[TaskKind, Callable[[Array, Task], npt.NDArray[Any]]] = {
    TaskKind.SEGMENTATION: _classes,
    TaskKind.DEPTH: _depth,
    TaskKind.NORMALS: _normals,
}
