"""Columns whose cells are files: masks and maps that label an image pixel by pixel.

What such a file holds is looked at above this layer; here is what the table alone says.
"""

import os
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

from mtlue_cli.choices import TaskKind
from mtlue_cli.tasks.declared import Declaration
from mtlue_cli.tasks.paths import LONGEST_PATH, path_fault
from mtlue_cli.tasks.spec import Task
from mtlue_cli.tasks.spelling import LIKELY_MISSING
from mtlue_cli.tasks.wording import quoted

MAP_SUFFIXES = (
    *(".png", ".npy", ".tif", ".tiff", ".bmp", ".gif", ".webp", ".pgm", ".ppm", ".pnm", ".pbm", ".tga", ".jp2", ".j2k"),
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".avif", ".heic", ".heif", ".npz", ".exr", ".hdr", ".pfm", ".mat", ".dcm"),
)
"""Suffixes of pictures and arrays, lower case: a cell that leads to such a file is a map or a fault, never a class."""

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
        turns: EXIF orientation of the photo of each map that is to be turned upright with it.
    """

    task: Task | None
    files: tuple[str | None, ...]
    faults: list[str]
    notes: list[str]
    turns: Mapping[str, int] = field(default_factory=dict)


LookAtMaps = Callable[[MapColumn], FoundMaps]
"""What a column's files stand for; its files are those of the column."""


def may_be_maps(
    cells: Sequence[str | None], folder: Path, declaration: Declaration | None, images: Path | None = None
) -> bool:
    """Whether a column holds maps: it is declared so, or a cell leads to a picture or an array.

    Args:
        cells: Its cells.
        folder: Where paths of maps lead from.
        declaration: What the user says of the column.
        images: The image folder: a cell that leads to a file from there is no class either.
    """
    if declaration is not None:
        return declaration.kind.is_dense
    named = _named_files(cells)
    return any(_leads_from(folder, cell) or (images is not None and _leads_from(images, cell)) for cell in named)


def named_files(cells: Sequence[str | None], declaration: Declaration | None) -> set[str]:
    """Files that the cells of a column name though they are declared to be text: labels all the same, not images."""
    return set() if declaration is None else {cell for cell in _named_files(cells) if path_fault(cell) is None}


def _named_files(cells: Sequence[str | None]) -> list[str]:
    return [cell for cell in dict.fromkeys(cells) if cell is not None and cell.lower().endswith(MAP_SUFFIXES)]


def _leads_from(folder: Path, cell: str) -> bool:
    return len(cell) <= LONGEST_PATH and "\0" not in cell and os.path.isfile(folder / cell.replace("\\", "/"))


def not_maps_notes(
    column: str, cells: Sequence[str | None], folder: Path, declaration: Declaration | None
) -> list[str]:
    """That cells which end as pictures do lead to no file and are taken for classes, a line if so."""
    filled = [cell for cell in cells if cell is not None]
    if declaration is not None or not filled or not all(cell.lower().endswith(MAP_SUFFIXES) for cell in filled):
        return []
    return [f"column {quoted(column)} names files, but none of them is in {folder}: its cells are read as classes"]


def find_maps(
    column: MapColumn, rows: Iterable[int], look: LookAtMaps, *, for_learning: bool, images: Path | None = None
) -> FoundMaps:
    """The task and the files of a column.

    Args:
        column: The column, its cells as they stand.
        rows: The rows whose files are looked at.
        look: Looks at them.
        for_learning: Whether it is a fault if nothing can be learned from them.
        images: The image folder, to find out if the cells lead from there.
    """
    elsewhere = _elsewhere(column, images)
    if elsewhere is not None:
        return FoundMaps(None, column.files, [elsewhere], [])
    files: list[str | None] = []
    faults: list[str] = []
    for cell, place in zip(column.files, column.places, strict=True):
        problem = None if cell is None else _cell_fault(cell)
        if problem is not None:
            faults.append(f"{place}: column {quoted(column.name)}: {problem}")
        files.append(None if cell is None or problem is not None else str(PurePosixPath(cell)))
    found = look(replace(column, files=tuple(files)).take(rows))
    seen = found.faults
    if found.task is not None and for_learning and not faults and not seen:
        seen = _class_faults(found.task, files)
    return replace(found, files=tuple(files), faults=faults + seen)


def _cell_fault(cell: str) -> str | None:
    """Why a cell cannot be the path of a map; None if it can."""
    if cell.lower() in LIKELY_MISSING:
        return f"{quoted(cell)} is not the path of a map; if it means that there is none, add --missing-value {cell}"
    return path_fault(cell, FOLDER_IN_WORDS)


def _elsewhere(column: MapColumn, images: Path | None) -> str | None:
    """Why a column that nobody declared cannot be taken for maps as a whole, though a cell leads to a picture."""
    filled = [(cell, place) for cell, place in zip(column.files, column.places, strict=True) if cell is not None]
    if column.declaration is not None:
        return None
    name = column.name
    led = [(cell, place) for cell, place in filled if _leads_from(column.folder, cell)]
    if images is not None and not led:
        return (
            f"column {quoted(name)} names files of the image folder, {images}, but paths of masks and maps lead from "
            "the "
            f"{FOLDER_IN_WORDS}, {column.folder}: move the label file into the image folder, or change the paths"
        )
    named = sum(cell.lower().endswith(MAP_SUFFIXES) for cell, _ in filled)
    if 2 * named < len(filled):
        cell, place = led[0]
        return (
            f"column {quoted(name)}: {quoted(cell)} ({place}) leads to a file, but most of the other cells are text: "
            "if "
            f"they are paths of maps, declare it with --task {declared_as(name, 'segmentation')}, if they are text "
            "with "
            f"--task {declared_as(name, 'categorical')}"
        )
    return None


def declared_as(column: str, kind: str) -> str:
    """The value of ``--task`` that declares a column, as a shell takes it."""
    return shlex.quote(f"{column}={kind}")


def _class_faults(task: Task, files: Sequence[str | None]) -> list[str]:
    """Why nothing can be learned from a column of maps, a line if so."""
    if not any(file is not None for file in files):
        return [f"column {quoted(task.name)} has no labels"]
    if task.kind is TaskKind.SEGMENTATION and task.num_classes < 2:
        return [f"column {quoted(task.name)}: its maps hold only one class: there is nothing to learn"]
    return []
