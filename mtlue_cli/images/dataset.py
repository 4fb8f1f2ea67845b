"""A folder's images as one tensor of equal squares, for training."""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from mtlue_cli.budget import ReadingThreads
from mtlue_cli.errors import ImageError, InputError
from mtlue_cli.images.decode import decode_image
from mtlue_cli.images.square import to_square
from mtlue_cli.images.targets import load_dense_columns
from mtlue_cli.tasks.spec import LabelTable


def load_square(path: Path, size: int) -> Tensor:
    """One image as a generator or a victim sees it: upright, in RGB, stretched to a square.

    Returns:
        ``(3, size, size)`` uint8.

    Raises:
        ImageError: The file cannot be read as a photo.
    """
    return torch.from_numpy(to_square(decode_image(path), size))


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
        size: Side in pixels; images are stretched to the square with antialiased bilinear interpolation.
        workers: Decoding threads.
        on_image: Called after each image.
        unread: Takes the index of every file that cannot be read, and why; None: they are refused. The images of
            these rows are undefined.

    Returns:
        ``(N, 3, size, size)`` uint8; ``3 * size**2`` bytes an image are kept in memory.

    Raises:
        InputError: Lists every file that could not be read.
    """
    images = torch.empty((len(file_names), 3, size, size), dtype=torch.uint8)
    faults: list[str] = []

    def load(row: int) -> str | None:
        try:
            images[row] = load_square(folder / file_names[row], size)
        except ImageError as error:
            return f"{file_names[row]}: {error}"
        return None

    with ReadingThreads(max_workers=max(workers, 1)) as pool:
        for row, fault in enumerate(pool.map(load, range(len(file_names)))):
            if fault is not None and unread is not None:
                unread[row] = fault
            elif fault is not None:
                faults.append(fault)
            if on_image is not None:
                on_image()
    if faults:
        raise InputError(
            f"{len(faults)} of {len(file_names)} images cannot be read",
            faults,
            "repair or remove these files and their rows",
        )
    return images


def load_labels(table: LabelTable, size: int, *, workers: int = 2) -> dict[str, Tensor]:
    """The labels of all rows as a loop takes them, maps at the size of the images.

    Args:
        table: The labels.
        size: Side of the maps in pixels.
        workers: Threads that read maps.

    Returns:
        Task name to ``(N,)`` int64, or to maps as :func:`~mtlue_cli.images.targets.load_dense_columns` keeps them.

    Raises:
        InputError: Lists every map that cannot be read.
    """
    columns = {name: torch.from_numpy(column.copy()) for name, column in table.columns.items()}
    maps = load_dense_columns(table.maps_folder, table, table.tasks, size, workers)
    return {task.name: (maps if task.is_dense else columns)[task.name] for task in table.tasks}
