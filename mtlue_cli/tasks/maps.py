"""Columns whose cells are files: masks and maps that label an image pixel by pixel.

What such a file holds is looked at above this layer; here is what the table alone tells.
"""

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from mtlue_cli.choices import TaskKind
from mtlue_cli.tasks.declared import Declaration
from mtlue_cli.tasks.paths import path_fault
from mtlue_cli.tasks.spec import Task
from mtlue_cli.tasks.wording import quoted

MAP_SUFFIXES = (".png", ".npy", ".tif", ".tiff")
"""Suffixes of the files that masks and maps are read from, lower case."""

FOLDER_IN_WORDS = "folder of the label file"
"""Where the cells of such a column lead from."""


@dataclass(frozen=True)
class MapColumn:
    """A column of maps, before its files are looked at.

    Attributes:
        name: Its header.
        folder: Where its cells lead from.
        files: Relative POSIX paths, None where the cell is empty or at fault.
        places: Where each row stands, for messages.
        images: The image of each row.
        declaration: What the user says of it; None: nothing.
    """

    name: str
    folder: Path
    files: tuple[str | None, ...]
    places: tuple[str, ...]
    images: tuple[str, ...]
    declaration: Declaration | None

    def take(self, rows: Iterable[int]) -> "MapColumn":
        """The column of the given rows, in that order."""
        index = tuple(rows)
        return replace(
            self,
            files=tuple(self.files[row] for row in index),
            places=tuple(self.places[row] for row in index),
            images=tuple(self.images[row] for row in index),
        )


LookAtMaps = Callable[[MapColumn], tuple[Task | None, list[str], list[str]]]
"""The task that a column's files stand for, None if that cannot be told; a line a fault; and what is no fault."""


def may_be_maps(cells: Sequence[str | None], folder: Path, declaration: Declaration | None) -> bool:
    """Whether a column holds maps: it is declared so, or all its cells end as maps do and some lead to a file."""
    if declaration is not None:
        return declaration.kind.is_dense
    filled = [cell for cell in cells if cell is not None]
    if not filled or not all(cell.lower().endswith(MAP_SUFFIXES) for cell in filled):
        return False
    return any(path_fault(cell) is None and os.path.isfile(folder / cell) for cell in filled)


def map_names(
    column: str, cells: Sequence[str | None], places: Sequence[str]
) -> tuple[tuple[str | None, ...], list[str]]:
    """Cells as relative POSIX paths in their shortest spelling, and a line for each that leads out of the folder."""
    names: list[str | None] = []
    faults: list[str] = []
    for cell, place in zip(cells, places, strict=True):
        problem = None if cell is None else path_fault(cell, FOLDER_IN_WORDS)
        if problem is not None:
            faults.append(f"{place}: column {quoted(column)}: {problem}")
        names.append(None if cell is None or problem is not None else str(PurePosixPath(cell)))
    return tuple(names), faults


def map_class_faults(task: Task, files: Sequence[str | None]) -> list[str]:
    """Why nothing can be learned from a column of maps, a line if so."""
    if not any(file is not None for file in files):
        return [f"column {quoted(task.name)} holds no label at all"]
    if task.kind is TaskKind.SEGMENTATION and task.num_classes < 2:
        return [f"column {quoted(task.name)}: its maps hold only one class: there is nothing to tell apart"]
    return []
