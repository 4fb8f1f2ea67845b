"""The cells of a label column as classes, and what speaks against learning them."""

import re
import shlex
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from mtlue_cli.choices import TaskKind
from mtlue_cli.tasks.spec import UNLABELLED, Task
from mtlue_cli.tasks.spelling import abbreviated, alike, differing_in_case, likely_missing, turned_to_dates
from mtlue_cli.tasks.wording import LONGEST, listed, quoted

MAX_CLASSES = 1000
"""A column with more distinct values looks like an identifier, not like a task."""

_MOST_DIGITS = 4000


def make_task(name: str, cells: Sequence[str | None], places: Sequence[str]) -> tuple[Task, npt.NDArray[np.int64]]:
    """The task that a column stands for, and the class index of each row, ``(N,)`` int64.

    Args:
        name: The column's header.
        cells: Class names, None where unlabelled.
        places: Where each cell stands, for messages.
    """
    classes = ordered_classes(cells)
    first = {cell: place for cell, place in zip(reversed(cells), reversed(places), strict=True) if cell is not None}
    kind = TaskKind.BINARY if len(classes) <= 2 else TaskKind.CATEGORICAL
    task = Task(name, kind, classes, tuple(first[value] for value in classes))
    index_of: Mapping[str | None, int] = {value: index for index, value in enumerate(classes)}
    return task, np.array([index_of.get(cell, UNLABELLED) for cell in cells], dtype=np.int64)


def ordered_classes(cells: Iterable[str | None]) -> tuple[str, ...]:
    """Distinct values of a column, empty cells left out, in an order that does not depend on the rows.

    Numbers sort by value; other text sorts naturally, runs of digits by value: ``0-2, 3-9, 10-19, 70+``.
    """
    values = {cell for cell in cells if cell}
    try:
        return tuple(sorted(values, key=lambda value: (int(value), value)))
    except ValueError:
        return tuple(sorted(values, key=_natural_key))


def class_faults(task: Task) -> list[str]:
    """Why nothing can be learned from a column, one per line."""
    name, classes = quoted(task.name), task.classes
    if task.is_dense and (len(classes) > 1 or task.kind is not TaskKind.SEGMENTATION):
        return []
    if not classes:
        return [f"column {name} has no labels"]
    if len(classes) == 1:
        return [f"column {name} holds only one class, {quoted(classes[0])}: there is nothing to learn"]
    if len(classes) > MAX_CLASSES:
        return [f"column {name} holds {len(classes)} distinct values: it looks like an identifier, leave it out"]
    return spelling_faults(task)


def spelling_faults(task: Task) -> list[str]:
    """Classes of a column that are likely to be one class in several spellings, one per line."""
    if task.is_dense:
        return []
    return [
        f"column {quoted(task.name)} spells what looks like one class in several ways: "
        # Letter by letter: two encodings of an accent look the same.
        + ", ".join(f"{value[:LONGEST]!a}{task.place_of(value)}" for value in ways)
        + "; use one spelling"
        for ways in alike(sorted(task.classes, key=lambda value: _natural_key(task.place_of(value))))
    ]


def class_notes(task: Task) -> list[str]:
    """Classes that may stand for a missing label, or differ in case alone, one per line."""
    if task.is_dense:
        return []
    notes = [
        f"column {quoted(task.name)} has classes that differ in upper and lower case alone: "
        f"{listed(ways)}; they count as different, use one spelling if they are one"
        for ways in differing_in_case(task.classes)
    ]
    notes += [
        f"column {quoted(task.name)} has classes that may be one: {listed(ways)}; they count as different, use one "
        "spelling if they are one"
        for ways in abbreviated(task.classes)
    ]
    dates = turned_to_dates(task.classes)
    if dates:
        notes.append(
            f"column {quoted(task.name)} has the class {listed(dates)}{task.place_of(dates[0])} beside ranges: a "
            "spreadsheet makes such dates of 10-19 or 3-9; write the ranges again"
        )
    found = likely_missing(task.classes)
    if found:
        words = " ".join(f"--missing-value {shlex.quote(value)}" for value in found)
        notes.append(
            f"column {quoted(task.name)} has the class {listed(found)}{task.place_of(found[0])}; "
            f"if that means no label, add {words}"
        )
    return notes


def _natural_key(value: str) -> tuple[tuple[int, int, str], ...]:
    parts = re.findall(r"\d+|\D+", value)
    sortable = ((0, int(part), "") if part.isdecimal() and len(part) < _MOST_DIGITS else (1, 0, part) for part in parts)
    return (*sortable, (2, 0, value))
