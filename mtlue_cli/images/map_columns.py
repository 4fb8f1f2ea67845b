"""What a column of masks or maps is, by its files: every one is read and checked against its image."""

import contextlib
import os
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mtlue_cli.choices import TaskKind
from mtlue_cli.errors import ImageError
from mtlue_cli.images.arrays import Array
from mtlue_cli.images.decode import upright_size
from mtlue_cli.images.folder import file_check
from mtlue_cli.images.reading import ReadingThreads
from mtlue_cli.images.targets import as_target, class_numbers, read_stored
from mtlue_cli.tasks.declared import MAX_MAP_CLASSES, Declaration
from mtlue_cli.tasks.maps import FOLDER_IN_WORDS, MapColumn
from mtlue_cli.tasks.spec import UNLABELLED, Task, numbered_classes
from mtlue_cli.tasks.wording import quoted

SAMPLE = 64
"""Maps that are looked at to tell the kind of a column."""

MOST_INFERRED = 64
"""Different numbers in a sample that are taken for classes. The brightness of a photo or the depth of a scene in 8 bits
shows more, and must not be taken for one."""

IGNORED = 255
"""Commonly no class (an outline, unlabelled) in masks of 8 bits; taken so where every other number is far below."""

_THREADS = 4


def look_at_maps(images: Path, column: MapColumn) -> tuple[Task | None, list[str], list[str]]:
    """The task that a column of maps stands for; :data:`~mtlue_cli.tasks.maps.LookAtMaps` for one image folder.

    The kind is what is declared, else segmentation where the maps hold whole numbers of few different values. Its
    classes are what is declared, else as many as the numbers of all maps ask for.

    Args:
        images: Where the images of the column's rows lead from.
        column: The column.

    Returns:
        The task; a line for each map that is missing, damaged, of another type, size or class than expected; and how
        the column was understood, if nobody said so.
    """
    fault_of = file_check(column.folder, (), FOLDER_IN_WORDS)
    rows: list[int] = []
    faults: list[str] = []
    for row, file in enumerate(column.files):
        if file is None:
            continue
        problem = fault_of(file)
        if problem is None:
            rows.append(row)
        else:
            faults.append(_fault(column, row, problem))
    declaration = column.declaration
    if declaration is None:
        declaration, problem = _inferred(column, rows)
        if declaration is None:
            return None, [*faults, *([problem] if problem else [])], []
    seen = _look_at_all(images, column, rows, declaration)
    faults += [_fault(column, one.row, problem) for one in seen for problem in one.problems]
    if declaration.kind is TaskKind.DEPTH and declaration.scale is None and any(one.whole for one in seen):
        faults.append(
            f"column {quoted(column.name)}: its maps hold whole numbers; give the value of one step with "
            f"--task {_shown(column.name, 'depth:scale=0.001')} (scale=1: the unit itself)"
        )
    numbers = frozenset().union(*(one.numbers for one in seen)) if seen else frozenset()
    task, odd = _task(declaration, numbers, column.declaration is None)
    notes = []
    if column.declaration is None and not odd and not faults:
        ignored = f", ignoring {task.ignore[0]}" if task.ignore else ""
        declaration = Declaration(task.name, task.kind, task.classes, task.ignore)
        notes = [
            f"column {quoted(task.name)} is read as segmentation, {task.num_classes} classes by number{ignored}; "
            f"to change this, edit --task {shlex.quote(str(declaration))}"
        ]
    return task, faults + odd, notes


@dataclass(frozen=True)
class _Seen:
    """What was seen in one map.

    Attributes:
        row: Its row.
        problems: One per line.
        numbers: Its class numbers, where the classes are not stated.
        whole: Whether it stores whole numbers.
    """

    row: int
    problems: tuple[str, ...]
    numbers: frozenset[int] = frozenset()
    whole: bool = False


def _look_at_all(images: Path, column: MapColumn, rows: Sequence[int], declaration: Declaration) -> list[_Seen]:
    counts = declaration.kind is TaskKind.SEGMENTATION and declaration.classes is None
    task = Task(
        column.name,
        declaration.kind,
        declaration.classes or (),
        scale=declaration.scale or 1.0,
        ignore=declaration.ignore,
    )

    photos = _identities(images / name for name in column.images)

    def look(row: int) -> _Seen:
        file = str(column.files[row])
        path, photo = column.folder / file, images / column.images[row]
        try:
            stored = read_stored(path)
            numbers = frozenset(np.unique(class_numbers(stored)).tolist()) if counts else frozenset()
            if not counts:
                as_target(stored, task)
            problem = _misfit(stored, photo)
            if _identities([path]) & photos:
                problem = "is one of the images: as a label it would be released unprotected"
        except ImageError as error:
            return _Seen(row, (f"{quoted(file)} {error}",))
        whole = stored.dtype.kind in "bui"
        return _Seen(row, () if problem is None else (f"{quoted(file)} {problem}",), numbers, whole)

    with ReadingThreads(max_workers=_THREADS) as pool:
        return list(pool.map(look, rows))


def _identities(paths: Iterable[Path]) -> set[tuple[int, int]]:
    """Device and inode of each file that is there."""
    found: set[tuple[int, int]] = set()
    for path in paths:
        with contextlib.suppress(OSError):
            status = os.stat(path)
            found.add((status.st_dev, status.st_ino))
    return found


def _misfit(stored: Array, photo: Path) -> str | None:
    """Why a map cannot belong to its image; None if it can.

    It may be of any size as long as its sides are in the image's proportion, give or take one pixel; or square, as is
    everything that was made for training on squares.
    """
    size = upright_size(photo)
    height, width = stored.shape[:2]
    if size is None or height == width or abs(width * size[0] - height * size[1]) <= max(height, width, *size):
        return None
    return (
        f"has {width} x {height} pixels, its image {size[1]} x {size[0]}: expected the same aspect ratio, or a square"
    )


def _inferred(column: MapColumn, rows: Sequence[int]) -> tuple[Declaration | None, str | None]:
    """Segmentation where a sample of the files leaves no doubt, else a line that asks for a declaration."""
    numbers: set[int] = set()
    drawn = rows[:: max(1, len(rows) // SAMPLE)][:SAMPLE]
    for row in drawn:
        try:
            stored = read_stored(column.folder / str(column.files[row]))
        except ImageError as error:
            return None, _fault(column, row, f"{quoted(str(column.files[row]))} {error}")
        if stored.ndim == 3:
            return None, _undeclared(column, "three numbers per pixel", TaskKind.NORMALS.value)
        if stored.dtype.kind == "f":
            return None, _undeclared(column, "floating-point numbers", TaskKind.DEPTH.value)
        if stored.max() > IGNORED:
            return None, _undeclared(column, f"whole numbers up to {stored.max()}", "depth:scale=0.001")
        numbers.update(np.unique(stored).tolist())
    if not drawn:
        return None, None
    if numbers == {0, IGNORED}:
        return None, _undeclared(column, "0 and 255 alone; write 0 and 1 for two classes", "segmentation:ignore=255")
    if len(numbers) > MOST_INFERRED:
        return None, _undeclared(column, f"{len(numbers)} different numbers", TaskKind.SEGMENTATION.value)
    return Declaration(column.name, TaskKind.SEGMENTATION), None


def _undeclared(column: MapColumn, what: str, likely: str) -> str:
    return (
        f"column {quoted(column.name)} holds files whose kind is not clear ({what}): declare it with "
        f"--task {_shown(column.name, likely)}, or --task {_shown(column.name, 'categorical')} if its cells are text"
    )


def _task(declaration: Declaration, numbers: frozenset[int], inferred: bool) -> tuple[Task, list[str]]:
    """The task of a declared or inferred kind, with the classes that ``numbers`` ask for where none are stated."""
    name, kind, ignore = declaration.column, declaration.kind, declaration.ignore
    if kind is not TaskKind.SEGMENTATION or declaration.classes is not None:
        return Task(name, kind, declaration.classes or (), scale=declaration.scale or 1.0, ignore=ignore), []
    others = {number for number in numbers if number != IGNORED}
    if inferred and IGNORED in numbers and max(others, default=0) < IGNORED // 2:
        ignore = (IGNORED,)
    known = {number for number in numbers if number not in ignore and number != UNLABELLED}
    count = max(known, default=-1) + 1
    if min(known, default=0) < 0 or count > MAX_MAP_CLASSES:
        odd = min(known) if min(known) < 0 else max(known)
        fault = f"column {quoted(name)}: its maps hold {odd}, expected class indices from 0 to {MAX_MAP_CLASSES - 1}"
        return Task(name, kind, (), ignore=ignore), [
            f"{fault}; leave one out with --task {_shown(name, f'{kind.value}:ignore={odd}')}"
        ]
    return Task(name, kind, numbered_classes(count), ignore=ignore), []


def _fault(column: MapColumn, row: int, problem: str) -> str:
    return f"{column.places[row]}: column {quoted(column.name)}: {problem}"


def _shown(column: str, kind: str) -> str:
    return shlex.quote(f"{column}={kind}")
