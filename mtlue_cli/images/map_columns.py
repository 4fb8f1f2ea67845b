"""What a column of masks or maps is, by its files: every one is read and checked against its image."""

import contextlib
import os
import shlex
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from mtlue_cli.budget import ReadingThreads
from mtlue_cli.choices import TaskKind
from mtlue_cli.errors import ImageError, InputError
from mtlue_cli.images.arrays import Array
from mtlue_cli.images.decode import read_content, upright_frame
from mtlue_cli.images.folder import file_check
from mtlue_cli.images.palettes import Colour, Palette, find_palettes, read_palette
from mtlue_cli.images.soft_edges import soft_numbers
from mtlue_cli.images.targets import (
    as_target,
    class_numbers,
    is_lossy,
    looks_like_normals,
    numbers_of_ids,
    packed_colours,
    single_channel,
    stored_array,
    unpacked_colours,
)
from mtlue_cli.tasks.declared import MAX_MAP_CLASSES, Declaration
from mtlue_cli.tasks.maps import FOLDER_IN_WORDS, FoundMaps, MapColumn, declared_as
from mtlue_cli.tasks.spec import UNLABELLED, Task, number_range, numbered_classes
from mtlue_cli.tasks.wording import counted, listed, quoted

SAMPLE = 64
"""Maps that are looked at to tell the kind of a column."""

MOST_INFERRED = 64
"""Different numbers in a sample that are taken for classes. The brightness of a photo or the depth of a scene in 8 bits
shows more, and must not be taken for one."""

IGNORED = 255
"""Commonly no class (an outline, unlabelled) in masks of 8 bits; taken so where every other number is far below."""

WHITE = (255, 65535)
"""With 0 alone, these are the two classes of a mask in black and white."""

CERTAIN = 32
"""Numbers below it are class indices although some are left out, and 255 beside them is no class."""

COMMON_TOP = 0.01
"""Share of the depths at the top of their range from which it is pointed out."""

_THREADS = 4


def look_at_maps(images: Path, column: MapColumn) -> FoundMaps:
    """What a column of maps stands for; :data:`~mtlue_cli.tasks.maps.LookAtMaps` for the image folder ``images``.

    The kind is what is declared, else segmentation where the maps hold whole numbers of few different values, or the
    colours of a palette file beside them. The classes are what is declared, else those of the palette, else what the
    numbers of all maps ask for. Each map that is missing, damaged, or of another type, size or class is a fault.
    """
    fault_of = file_check(column.folder, (), FOLDER_IN_WORDS)
    problems = {row: fault_of(file) for row, file in enumerate(column.files) if file is not None}
    rows = [row for row, problem in problems.items() if problem is None]
    faults = [_fault(column, row, problem) for row, problem in problems.items() if problem is not None]
    if faults and not rows:
        return FoundMaps(None, column.files, faults, [])
    try:
        declaration, palette = _understood(column, rows)
    except InputError as error:
        return FoundMaps(None, column.files, [*faults, *(error.faults or (str(error),))], [])
    stated = _stated_task(declaration, palette)
    seen = _look_at_all(images, column, rows, declaration, stated)
    faults += [_fault(column, one.row, one.problem) for one in seen if one.problem is not None]
    if declaration.kind is TaskKind.DEPTH and declaration.scale is None and any(one.whole for one in seen):
        advice = declared_as(column.name, f"depth:scale=0.001{_no_depth(one.top for one in seen)}")
        faults.append(
            f"column {quoted(column.name)}: its maps hold whole numbers; give the value of one step with "
            f"--task {advice} (scale=1: the unit itself)"
        )
    turns, turn_faults, notes = _turns(column, seen, declaration.kind)
    faults += turn_faults
    try:
        task = stated or _counted_task(declaration, frozenset().union(*(one.numbers for one in seen)))
    except InputError as error:
        return FoundMaps(None, column.files, [*faults, str(error)], [])
    if not faults:
        notes = [*_class_notes(column, task, palette), *_depth_notes(column, seen, declaration), *notes]
    return FoundMaps(task, column.files, faults, notes, turns)


@dataclass(frozen=True)
class _Seen:
    """What was seen in one map.

    Attributes:
        row: Its row.
        problem: Why it cannot be used; None if it can.
        numbers: Its class numbers, where the classes are not stated.
        whole: Whether it stores whole numbers.
        top: As :func:`_top` finds it.
        orientation: Of its photo, as EXIF has it; 1 is upright.
        fits: Whether it has the shape of the photo as it is stored, and as it is seen; both if there is no telling.
        lossy: Whether its file is compressed with loss.
    """

    row: int
    problem: str | None
    numbers: frozenset[int] = frozenset()
    whole: bool = False
    top: tuple[int, int, int] = (0, 0, 0)
    orientation: int = 1
    fits: tuple[bool, bool] = (True, True)
    lossy: bool = False


def _look_at_all(
    images: Path, column: MapColumn, rows: Sequence[int], declaration: Declaration, task: Task | None
) -> list[_Seen]:
    """What is in the maps of some rows; ``task`` is that of the column, None if its maps say which classes it has."""
    photos = _identities(images / name for name in column.images)

    def look(row: int) -> _Seen:
        file = str(column.files[row])
        path = column.folder / file
        try:
            content = read_content(path)
            stored = stored_array(content, colours=task is not None and bool(task.colours))
            if declaration.ids:
                stored = numbers_of_ids(stored, declaration.ids[file])
            numbers: frozenset[int] = frozenset()
            if task is None:
                numbers = frozenset(np.unique(class_numbers(stored)).tolist())
            else:
                as_target(stored, task)
            height, width = stored.shape[:2]
            tall, wide, orientation = upright_frame(images / column.images[row]) or (height, width, 1)
            fits = _fits(height, width, tall, wide, orientation, exact=bool(declaration.ids))
            if _identities([path]) & photos:
                raise ImageError("is one of the images: as a label it would be released unprotected")
            if not any(fits):
                same = "size" if declaration.ids else "aspect ratio, or a square"
                raise ImageError(f"has {width} x {height} pixels, its image {wide} x {tall}: expected the same {same}")
        except ImageError as error:
            return _Seen(row, f"{quoted(file)} {error}")
        whole, top = stored.dtype.kind in "bui", _top(stored, declaration)
        return _Seen(row, None, numbers, whole, top, orientation, fits, is_lossy(content))

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


def _fits(height: int, width: int, tall: int, wide: int, orientation: int, *, exact: bool) -> tuple[bool, bool]:
    """Whether a map has the shape of its photo, ``tall`` x ``wide``, as that is stored, and as it is seen.

    It may be of any size as long as its sides are in the image's proportion, give or take one pixel; or square, as is
    everything that was made for training on squares. With ``exact`` it has the size of the image.
    """

    def fits(rows: int, columns: int) -> bool:
        if exact:
            return (rows, columns) == (tall, wide)
        return rows == columns or abs(columns * tall - rows * wide) <= max(rows, columns, tall, wide)

    as_seen = fits(height, width)
    return (fits(width, height) if orientation > 4 else as_seen), as_seen


def _turns(column: MapColumn, seen: Sequence[_Seen], kind: TaskKind) -> tuple[dict[str, int], list[str], list[str]]:
    """Which maps are turned upright with their photos: orientation by file; faults; and a note.

    A photo that EXIF turns is released upright. Its map is taken to fit the pixels as they are stored, unless shapes of
    maps of photos on their sides say that they fit what is seen.
    """
    name = quoted(column.name)
    photos = [one for one in seen if one.orientation != 1 and one.problem is None]
    if not photos:
        return {}, [], []
    turned = f"column {name}: {counted(len(photos), 'photo')} turned"
    stored = [one for one in photos if one.fits == (True, False)]
    upright = [one for one in photos if one.fits == (False, True)]
    if stored and upright:
        fault = (
            f"column {name}: the photos of {column.places[stored[0].row]} and {column.places[upright[0].row]} are "
            "turned by an EXIF orientation; the map of the first fits its photo as it is stored, that of the second as "
            "it is seen: turn photos and maps upright, and save them without the orientation"
        )
        return {}, [fault], []
    if upright:
        return {}, [], [f"{turned} by an EXIF orientation; the maps fit the upright photos"]
    faults: list[str] = []
    orientations: dict[str, int] = {}
    for one in seen:
        file, orientation, problem = str(column.files[one.row]), one.orientation, None
        if orientations.setdefault(file, orientation) != orientation:
            problem = "belongs to photos with different EXIF orientations, with which it would have to be turned"
        elif orientation != 1 and (kind is TaskKind.NORMALS or one.lossy):
            what = "normals change their direction" if kind is TaskKind.NORMALS else "it is compressed with loss"
            problem = f"belongs to a photo with the EXIF orientation {orientation} and cannot be turned with it: {what}"
        if problem is not None:
            hint = "save photo and map upright, without the orientation"
            faults.append(_fault(column, one.row, f"{quoted(file)} {problem}; {hint}"))
    turns = {file: orientation for file, orientation in orientations.items() if orientation != 1}
    return turns, faults, [f"{turned} upright by an EXIF orientation: the maps are turned with them"]


def _understood(column: MapColumn, rows: Sequence[int]) -> tuple[Declaration, Palette | None]:
    """How a column is read, with the palette of colour-coded masks; an InputError says what to declare or to repair."""
    declaration = column.declaration
    if declaration is not None and declaration.colours is not None:
        return declaration, _named_palette(column, declaration.colours)
    if declaration is not None and (declaration.kind is not TaskKind.SEGMENTATION or declaration.classes is not None):
        return declaration, None
    sample: list[Array] = []
    unread: list[str] = []
    for row in rows[:: max(1, len(rows) // SAMPLE)][:SAMPLE]:
        try:
            sample.append(single_channel(stored_array(read_content(column.folder / str(column.files[row])))))
        except ImageError as error:
            unread.append(_fault(column, row, f"{quoted(str(column.files[row]))} {error}"))
    if declaration is not None and not sample:  # what is wrong follows when all are read
        return declaration, None
    if not sample or (unread and declaration is None):
        raise InputError(f"column {quoted(column.name)} cannot be read", unread)
    if all(stored.ndim == 2 for stored in sample):
        _check_numbers(column, sample)
        return declaration or Declaration(column.name, TaskKind.SEGMENTATION), None
    if any(stored.dtype != np.uint8 for stored in sample):
        raise _undeclared(column, "three numbers per pixel", TaskKind.NORMALS.value)
    palette = _palette_beside(column, rows, sample)
    return Declaration(column.name, TaskKind.SEGMENTATION, colours=palette.file), palette


def _check_numbers(column: MapColumn, sample: Sequence[Array]) -> None:
    """Refuse numbers, one per pixel, that cannot be taken for classes."""
    declared = column.declaration is not None
    if any(stored.dtype.kind == "f" for stored in sample):
        if declared:
            return
        raise _undeclared(column, "floating-point numbers", TaskKind.DEPTH.value)
    numbers = {int(number) for stored in sample for number in np.unique(stored)}
    if numbers == {0, WHITE[1]} or (declared and max(numbers) > IGNORED):
        return
    if max(numbers) > IGNORED:
        tops = [_top(stored, Declaration(column.name, TaskKind.DEPTH)) for stored in sample]
        raise _undeclared(column, f"whole numbers up to {max(numbers)}", f"depth:scale=0.001{_no_depth(tops)}")
    soft = soft_numbers(sample) if min(numbers) >= 0 and numbers != {0, IGNORED} else ()
    if soft:
        clean = sorted(numbers - set(soft))
        raise InputError(
            f"column {quoted(column.name)}: its masks have soft edges: {counted(len(soft), 'number')} between the "
            f"classes, such as {soft[len(soft) // 2]}, beside {number_range(clean)}; they were smoothed (resized with "
            "interpolation) or saved as JPEG. Save them with one number for each class, such as 255 * (mask > 127), as "
            "PNG"
        )
    if len(numbers) > MOST_INFERRED and not declared:
        raise _undeclared(column, f"{len(numbers)} different numbers", TaskKind.SEGMENTATION.value)


def _palette_beside(column: MapColumn, rows: Sequence[int], sample: Sequence[Array]) -> Palette:
    """The one palette file of colour pictures, beside the masks or the label file."""
    packed = np.concatenate([np.unique(packed_colours(stored)) for stored in sample])
    colours = set(unpacked_colours(np.unique(packed)))
    folders = [column.folder, *((column.folder / str(column.files[row])).parent for row in rows)]
    folders += [folder.parent for folder in folders[1:] if folder.parent.is_relative_to(column.folder)]
    fitting: dict[tuple[Colour, ...], Palette] = {}
    for path, palette in find_palettes(folders):
        if colours <= set(palette.colours):
            fitting.setdefault(palette.colours, replace(palette, file=str(path)))
    if len(fitting) == 1:
        return next(iter(fitting.values()))
    name = quoted(column.name)
    by_file = declared_as(column.name, "segmentation:colours=FILE")
    if fitting:
        files = ", ".join(palette.file for palette in fitting.values())
        raise InputError(f"column {name}: several palette files fit ({files}): choose with --task {by_file}")
    coloured = [stored for stored in sample if stored.ndim == 3]
    if column.declaration is None and sum(map(looks_like_normals, coloured)) > len(coloured) / 2:
        raise _undeclared(column, "three numbers per pixel", TaskKind.NORMALS.value)
    if len(colours) > MAX_MAP_CLASSES:
        raise InputError(
            f"column {name} holds colour pictures ({len(colours):,} different colours, neither classes nor normals): "
            "save masks without smoothing and loss; if its cells are text, declare it with --task "
            f"{declared_as(column.name, 'categorical')}"
        )
    shown = ", ".join(map(str, sorted(colours)[:4])) + (", ..." if len(colours) > 4 else "")
    raise InputError(
        f"column {name} holds colour-coded masks of {counted(len(colours), 'colour')} ({shown}): name the file that "
        f"says which class each colour is with --task {by_file}; a line of it: 128 64 128 road"
    )


def _named_palette(column: MapColumn, named: str) -> Palette:
    """The palette file that a user names, from the current folder or from that of the label file."""
    path = Path(named).expanduser()
    beside = column.folder / path
    try:
        return read_palette(beside if not path.is_file() and beside.is_file() else path, named)
    except ImageError as error:
        raise InputError(f"column {quoted(column.name)}: colours={named} {error}") from error


def _undeclared(column: MapColumn, what: str, likely: str) -> InputError:
    return InputError(
        f"column {quoted(column.name)} holds files whose kind is not clear ({what}): declare it with "
        f"--task {declared_as(column.name, likely)}, or --task {declared_as(column.name, 'categorical')} if its cells "
        "are text"
    )


def _stated_task(declaration: Declaration, palette: Palette | None) -> Task | None:
    """The task of a column; None if it has classes and neither the declaration nor a palette states them."""
    name, kind, ignore = declaration.column, declaration.kind, declaration.ignore
    if palette is not None:
        return Task(name, kind, palette.classes, ignore=palette.ignore, colours=palette.colours)
    if kind is TaskKind.SEGMENTATION and declaration.classes is None:
        return None
    classes, scale = declaration.classes or (), declaration.scale or 1.0
    return Task(name, kind, classes, scale=scale, ignore=ignore, ids=declaration.ids)


def _counted_task(declaration: Declaration, numbers: frozenset[int]) -> Task:
    """The segmentation task whose maps hold ``numbers``; an InputError says how to declare what is not clear."""
    name, kind, ignore = declaration.column, declaration.kind, declaration.ignore
    others = {number for number in numbers if number not in (IGNORED, UNLABELLED)}
    if not ignore and IGNORED in numbers and others != {0} and max(others, default=0) < IGNORED // 2:
        if _leaves_out(others) and max(others) >= CERTAIN:
            levels = "|".join(map(str, sorted({*others, IGNORED})))
            by_level = declared_as(name, f"{kind.value}:classes={levels}")
            by_index = declared_as(name, f"{kind.value}:classes={max(others) + 1}:ignore={IGNORED}")
            raise InputError(
                f"column {quoted(name)}: its masks hold {number_range(sorted(others))} and {IGNORED}: if these are "
                f"grey levels, declare it with --task {by_level}, if {IGNORED} is no class, with --task {by_index}"
            )
        ignore = (IGNORED,)
    known = sorted(number for number in numbers if number not in ignore and number != UNLABELLED)
    low, high = (known[0], known[-1]) if known else (0, -1)
    if low < 0 or (high >= MAX_MAP_CLASSES and known != [0, WHITE[1]]):
        odd = low if low < 0 else high
        raise InputError(
            f"column {quoted(name)}: its maps hold {odd}, expected class indices from 0 to {MAX_MAP_CLASSES - 1}; "
            f"leave one out with --task {declared_as(name, f'{kind.value}:ignore={odd}')}"
        )
    classes = tuple(map(str, known)) if _leaves_out(known) else numbered_classes(high + 1)
    return Task(name, kind, classes, ignore=ignore)


def _leaves_out(numbers: Iterable[int]) -> bool:
    """Whether numbers are more likely levels than indices: several, and fewer than are left out up to the largest."""
    found = set(numbers)
    return len(found) > 1 and max(found) + 1 > 2 * len(found)


def _class_notes(column: MapColumn, task: Task, palette: Palette | None) -> list[str]:
    """A line that says how the classes of masks were found; none where the user states them."""
    declaration = column.declaration
    if task.kind is not TaskKind.SEGMENTATION or (declaration is not None and declaration.classes is not None):
        return []
    read = f"column {quoted(task.name)} is read as segmentation, "
    read += f"{task.num_classes} class{'' if task.num_classes == 1 else 'es'}"
    if palette is not None:
        void = f", ignoring {counted(len(task.ignore), 'colour')}" if task.ignore else ""
        found = f" by the colours of {palette.file}{void}: {listed(list(task.classes))}"
        shown = Declaration(task.name, task.kind, colours=palette.file)
    else:
        ignored = f", ignoring {', '.join(map(str, task.ignore))}" if task.ignore else ""
        if task.num_classes < 2:
            return [f"{read}{ignored}: nothing of it can be protected"]
        by_index = task.classes == numbered_classes(task.num_classes)
        found = (" by number" if by_index else f" by the numbers {number_range(task.numbers)}") + ignored
        shown = Declaration(task.name, task.kind, task.classes, task.ignore)
    return [f"{read}{found}; to change this, edit --task {shlex.quote(str(shown))}"]


def _top(stored: Array, declaration: Declaration) -> tuple[int, int, int]:
    """The largest whole number that the type of a depth map holds, how many depths it has, and of how many."""
    if declaration.kind is not TaskKind.DEPTH or stored.dtype.kind not in "ui":
        return 0, 0, 0
    top = int(np.iinfo(stored.dtype).max)
    return top, (0 if top in declaration.ignore else int((stored == top).sum())), stored.size


def _common_top(tops: Iterable[tuple[int, int, int]]) -> tuple[int, float] | None:
    """The largest number that depths can have and its share, if it is common."""
    found, sizes = Counter[int](), Counter[int]()
    for top, count, size in tops:
        found[top] += count
        sizes[top] += size
    common = ((top, count / sizes[top]) for top, count in sorted(found.items()) if count)
    return next(((top, share) for top, share in common if share >= COMMON_TOP), None)


def _no_depth(tops: Iterable[tuple[int, int, int]]) -> str:
    common = _common_top(tops)
    return "" if common is None else f":ignore={common[0]}"


def _depth_notes(column: MapColumn, seen: Sequence[_Seen], declaration: Declaration) -> list[str]:
    common = _common_top(one.top for one in seen)
    if common is None:
        return []
    shown = replace(declaration, ignore=tuple(sorted({*declaration.ignore, common[0]})))
    return [
        f"column {quoted(column.name)}: {common[1]:.0%} of its depths are {common[0]}, the largest number that its "
        f"maps can hold; if that means no depth, give --task {shlex.quote(str(shown))}"
    ]


def _fault(column: MapColumn, row: int, problem: str) -> str:
    return f"{column.places[row]}: column {quoted(column.name)}: {problem}"
