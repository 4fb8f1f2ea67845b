"""Columns whose cells are files: masks and maps that label an image pixel by pixel.

What such a file holds is looked at above this layer; here is what the table alone says.
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
        files: Its cells: relative POSIX paths, None where a cell is empty.
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


@dataclass(frozen=True)
class FoundMaps:
    """A column of maps, understood.

    Attributes:
        task: The task that it stands for; None if that is unknown.
        files: Relative POSIX path of each row's map in its shortest spelling, None where it is unlabelled.
        faults: One per line.
        notes: What a user should know and is no fault.
    """

    task: Task | None
    files: tuple[str | None, ...]
    faults: list[str]
    notes: list[str]


LookAtMaps = Callable[[MapColumn], tuple[Task | None, list[str], list[str]]]
"""The task that a column's files stand for, None if that is unknown; one line per fault; and what is no fault."""


def may_be_maps(cells: Sequence[str | None], folder: Path, declaration: Declaration | None) -> bool:
    """Whether a column holds maps: it is declared so, or all its cells end as maps do and some lead to a file."""
    if declaration is not None:
        return declaration.kind.is_dense
    if not _end_as_maps(cells):
        return False
    return any(cell and path_fault(cell) is None and os.path.isfile(folder / cell) for cell in cells)


def not_maps_notes(
    column: str, cells: Sequence[str | None], folder: Path, declaration: Declaration | None
) -> list[str]:
    """That cells which end as maps do lead to no file and are taken for classes, a line if so."""
    if declaration is not None or not _end_as_maps(cells):
        return []
    return [f"column {quoted(column)} names files, but none of them is in {folder}: its cells are read as classes"]


def _end_as_maps(cells: Sequence[str | None]) -> bool:
    filled = [cell for cell in cells if cell is not None]
    return bool(filled) and all(cell.lower().endswith(MAP_SUFFIXES) for cell in filled)


def find_maps(column: MapColumn, rows: Iterable[int], look: LookAtMaps, *, for_learning: bool) -> FoundMaps:
    """The task and the files of a column.

    Args:
        column: The column, its cells as they stand.
        rows: The rows whose files are looked at.
        look: Looks at them.
        for_learning: Whether it is a fault if nothing can be learned from them.
    """
    files: list[str | None] = []
    faults: list[str] = []
    for cell, place in zip(column.files, column.places, strict=True):
        problem = None if cell is None else path_fault(cell, FOLDER_IN_WORDS)
        if problem is not None:
            faults.append(f"{place}: column {quoted(column.name)}: {problem}")
        files.append(None if cell is None or problem is not None else str(PurePosixPath(cell)))
    task, seen, notes = look(replace(column, files=tuple(files)).take(rows))
    if task is not None and for_learning and not faults and not seen:
        seen = _class_faults(task, files)
    return FoundMaps(task, tuple(files), faults + seen, notes)


def _class_faults(task: Task, files: Sequence[str | None]) -> list[str]:
    """Why nothing can be learned from a column of maps, a line if so."""
    if not any(file is not None for file in files):
        return [f"column {quoted(task.name)} has no labels"]
    if task.kind is TaskKind.SEGMENTATION and task.num_classes < 2:
        return [f"column {quoted(task.name)}: its maps hold only one class: there is nothing to learn"]
    return []
