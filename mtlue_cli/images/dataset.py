"""A folder's images as one tensor of equal squares, for training."""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from mtlue_cli.budget import ReadingThreads
from mtlue_cli.errors import ImageError, InputError
from mtlue_cli.images.decode import decode_image
from mtlue_cli.images.square import to_square
from mtlue_cli.images.targets import row_maps
from mtlue_cli.tasks.label_tensors import empty_maps
from mtlue_cli.tasks.spec import LabelTable
from mtlue_cli.tasks.wording import counted


def load_square_images(
    folder: Path,
    file_names: Sequence[str],
    size: int,
    *,
    workers: int = 2,
    on_image: Callable[[], None] | None = None,
    unread: dict[int, str] | None = None,
) -> Tensor:
    """Images of a folder in the order of ``file_names``, decoded by threads.

    Args:
        folder: Where the names lead from.
        file_names: Relative POSIX paths.
        size: Side in pixels, as :func:`to_square` makes it.
        workers: Decoding threads.
        on_image: Called after each image.
        unread: Takes the index of every file that cannot be read, and why; None: they are refused. The images of
            these rows are undefined.

    Returns:
        ``(N, 3, size, size)`` uint8.

    Raises:
        InputError: Lists every file that could not be read.
    """
    images = torch.empty((len(file_names), 3, size, size), dtype=torch.uint8)

    def load(row: int) -> None:
        images[row] = torch.from_numpy(to_square(decode_image(folder / file_names[row]), size))

    faults = {
        row: f"{file_names[row]}: {fault}" for row, fault in _each_row(load, len(file_names), workers, on_image).items()
    }
    if unread is not None:
        unread |= faults
    elif faults:
        raise InputError(
            f"{len(faults)} of {len(file_names)} images cannot be read",
            [*faults.values()],
            "repair or remove these files and their rows",
        )
    return images


def load_labels(table: LabelTable, size: int, *, workers: int = 2) -> dict[str, Tensor]:
    """The labels of all rows as a loop takes them, maps with the side ``size`` in pixels, like the images.

    Returns:
        Task name to ``(N,)`` int64, or to maps as :func:`~mtlue_cli.tasks.label_tensors.empty_maps` makes them,
        unlabelled where a cell is empty; :func:`~mtlue_cli.tasks.label_tensors.as_labels` widens a batch of these.

    Raises:
        InputError: Lists every map that cannot be read, with its row.
    """
    labels = {
        task.name: empty_maps(task, len(table), size)
        if task.is_dense
        else torch.from_numpy(table.columns[task.name].copy())
        for task in table.tasks
    }

    def load(row: int) -> None:
        for name, map_ in row_maps(table, table.tasks, row, size).items():
            labels[name][row] = torch.from_numpy(map_)

    faults = _each_row(load, len(table) if table.tasks.dense else 0, workers)
    if faults:
        raise InputError(
            f"{counted(len(faults), 'row')} with maps that cannot be read",
            [f"{table.places[row]}: {fault}" if table.places else fault for row, fault in faults.items()],
            "repair these files",
        )
    return labels


def _each_row(
    load: Callable[[int], None], count: int, workers: int, on_row: Callable[[], None] | None = None
) -> dict[int, str]:
    """Load rows in threads; why that failed, for each row for which it did."""

    def fault_of(row: int) -> str | None:
        try:
            load(row)
        except ImageError as error:
            return str(error)
        return None

    faults: dict[int, str] = {}
    with ReadingThreads(max_workers=max(workers, 1)) as pool:
        for row, fault in enumerate(pool.map(fault_of, range(count))):
            if fault is not None:
                faults[row] = fault
            if on_row is not None:
                on_row()
    return faults
