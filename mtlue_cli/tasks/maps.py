"""Columns whose cells are files: masks and maps that label an image pixel by pixel.

What such a file holds is looked at above this layer; here is what the table alone says.
"""

import os
import shlex
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

from mtlue_cli.tasks.classes import as_missing, class_faults
from mtlue_cli.tasks.declared import Declaration
from mtlue_cli.tasks.paths import path_fault
from mtlue_cli.tasks.readers.base import FILE_COLUMNS
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
    """A column whose cells may be files, before these are looked at.

    Attributes:
        name: Its header.
        folder: Where its cells lead from.
        files: Its cells: relative POSIX paths, None where a cell is empty.
        places: Where each row is, for messages.
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
        files = tuple(self.files[row] for row in index)
        places, images = (tuple(each[row] for row in index) for each in (self.places, self.images))
        return replace(self, files=files, places=places, images=images)


@dataclass(frozen=True)
class FoundMaps:
    """A column of maps, understood.

    Attributes:
        task: None if it is unknown.
        files: Relative POSIX path of each row's map in its shortest spelling, None where it is unlabelled.
        faults, notes: One per line.
        turns: EXIF orientation of the photo of each map that is to be turned upright with it.
    """

    task: Task | None
    files: tuple[str | None, ...]
    faults: list[str]
    notes: list[str]
    turns: Mapping[str, int] = field(default_factory=dict)


LookAtMaps = Callable[[MapColumn], FoundMaps]
"""What a column's files stand for; its files are those of the column."""


def may_be_maps(column: MapColumn, images: Path | None) -> bool:
    """Whether a column holds maps: it is declared so, or a cell leads to a picture or an array that is not its photo.

    Cells may also lead from ``images``, the image folder, if it is known.
    """
    if column.declaration is not None:
        return column.declaration.kind.is_dense
    roots = [column.folder] if images is None else [column.folder, images]
    leads = any(_leads_from(root, cell) for cell in named_files(column) for root in roots)
    return leads and column.name not in FILE_COLUMNS and not _names_own_photo(column, images or column.folder)


def named_files(column: MapColumn) -> list[str]:
    """The distinct cells of a column that end as pictures and arrays do."""
    return [cell for cell in dict.fromkeys(column.files) if cell is not None and cell.lower().endswith(MAP_SUFFIXES)]


def _leads_from(folder: Path, cell: str) -> bool:
    """Whether a cell is the path of a file below ``folder``."""
    name = cell.replace("\\", "/")
    return path_fault(name) is None and os.path.isfile(folder / name)


def _names_own_photo(column: MapColumn, photos: Path) -> bool:
    """Whether each cell is the file name of its own row once more, and none leads to another file of that name.

    The mask of ``images/a.png`` may well be ``masks/a.png``.
    """
    pairs = [(cell, image) for cell, image in zip(column.files, column.images, strict=True) if cell is not None]
    if any(PurePosixPath(cell).name != PurePosixPath(image).name for cell, image in pairs):
        return False

    def is_other(path: Path, photo: Path) -> bool:
        return os.path.isfile(path) and not (os.path.isfile(photo) and os.path.samefile(path, photo))

    return not any(is_other(root / cell, photos / image) for root in {photos, column.folder} for cell, image in pairs)


def not_maps_note(column: MapColumn) -> str | None:
    """That all cells end as pictures do, lead to no file and are read as classes; None if that is not so."""
    filled = {cell for cell in column.files if cell is not None}
    if column.declaration is not None or not filled or len(named_files(column)) < len(filled):
        return None
    name = quoted(column.name)
    return f"column {name} names files, but none of them is in {column.folder}: its cells are read as classes"


def find_maps(
    column: MapColumn, rows: Iterable[int], look: LookAtMaps, *, for_learning: bool, images: Path | None = None
) -> FoundMaps:
    """The task and the files of a column. ``look`` looks at the files of ``rows``.

    With ``for_learning`` it is a fault if nothing can be learned from them. ``images`` is the image folder, to find out
    if the cells lead from there.
    """
    elsewhere = _elsewhere(column, images)
    if elsewhere is not None:
        return FoundMaps(None, column.files, [elsewhere], [])
    files: list[str | None] = [None] * len(column.files)
    faults: list[str] = []
    for row, cell in enumerate(column.files):
        if cell is None:
            continue
        problem = path_fault(cell, FOLDER_IN_WORDS)
        if cell.lower() in LIKELY_MISSING:
            means = f"if it means that there is none, add {as_missing([cell])}"
            problem = f"{quoted(cell)} is not the path of a map; {means}"
        if problem is None:
            files[row] = str(PurePosixPath(cell))
        else:
            faults.append(f"{column.places[row]}: column {quoted(column.name)}: {problem}")
    found = look(replace(column, files=tuple(files)).take(rows))
    faults += found.faults
    if found.task is not None and for_learning and not faults:
        faults = class_faults(found.task) if any(files) else [f"column {quoted(column.name)} has no labels"]
    return replace(found, files=tuple(files), faults=faults)


def _elsewhere(column: MapColumn, images: Path | None) -> str | None:
    """Why a column that nobody declared cannot be taken for maps as a whole, though a cell leads to a picture."""
    if column.declaration is not None:
        return None
    filled = [(cell, place) for cell, place in zip(column.files, column.places, strict=True) if cell is not None]
    first = next(((cell, place) for cell, place in filled if _leads_from(column.folder, cell)), None)
    name = quoted(column.name)
    if images is not None and first is None:
        return (
            f"column {name} names files of the image folder, {images}, but paths of masks and maps lead from the "
            f"{FOLDER_IN_WORDS}, {column.folder}: move the label file into the image folder, or change the paths"
        )
    if first is not None and 2 * sum(cell.lower().endswith(MAP_SUFFIXES) for cell, _ in filled) < len(filled):
        return (
            f"column {name}: {quoted(first[0])} ({first[1]}) leads to a file, but most of the other cells are text: "
            f"if they are paths of maps, declare it with --task {declared_as(column.name, 'segmentation')}, if they "
            f"are text with --task {declared_as(column.name, 'categorical')}"
        )
    return None


def declared_as(column: str, kind: str) -> str:
    """The value of ``--task`` that declares a column, as a shell takes it."""
    return shlex.quote(f"{column}={kind}")
