"""The cells of a label column as classes, how frequent these are, and what speaks against learning them."""

import re
import shlex
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from mtlue_cli.choices import TaskKind
from mtlue_cli.tasks.spec import UNLABELLED, Task, TaskSet, image_task
from mtlue_cli.tasks.spelling import abbreviated, alike, differing_in_case, likely_missing, turned_to_dates
from mtlue_cli.tasks.wording import LONGEST, listed, quoted

MAX_CLASSES = 1000
"""A column with more distinct values looks like an identifier, not like a task."""

_MOST_DIGITS = 4000


def make_task(name: str, cells: Sequence[str | None], places: Sequence[str]) -> tuple[Task, npt.NDArray[np.int64]]:
    """The task of a column, and the class index of each row, ``(N,)`` int64.

    Cells are class names, None where unlabelled; ``places`` say where each is, for messages.
    """
    classes = ordered_classes(cells)
    first = {cell: place for cell, place in zip(reversed(cells), reversed(places), strict=True) if cell is not None}
    task = image_task(name, classes, [first[value] for value in classes])
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


def _natural_key(value: str) -> tuple[tuple[int, int, str], ...]:
    parts = re.findall(r"\d+|\D+", value)
    sortable = ((0, int(part), "") if part.isdecimal() and len(part) < _MOST_DIGITS else (1, 0, part) for part in parts)
    return (*sortable, (2, 0, value))


def image_level_shares(labels: Mapping[str, npt.NDArray[np.int64]], tasks: TaskSet) -> dict[str, list[float]]:
    """Share of each class among the labelled samples, with one more sample of every class added, by task.

    The added samples (Laplace's rule) keep a class that does not occur from being impossible. Labels go by task,
    ``(N,)``, negative where unlabelled, and may hold more than those of the tasks that label whole images.
    """
    found: dict[str, list[float]] = {}
    for task in tasks.image_level:
        column = labels[task.name]
        counts = np.bincount(column[column >= 0], minlength=task.num_classes) + 1.0
        found[task.name] = (counts / counts.sum()).tolist()
    return found


def too_few(classes: Sequence[str]) -> str | None:
    """Why nothing can be learned from so few classes, as said after the name of a column; None if there are enough."""
    if not classes:
        return "has no labels"
    return f"holds only one class, {quoted(classes[0])}: there is nothing to learn" if len(classes) == 1 else None


def unfit(task: Task) -> str | None:
    """Why nothing can be learned from a column, as said after its name; spelling is no reason."""
    if task.is_dense and (task.num_classes > 1 or task.kind is not TaskKind.SEGMENTATION):
        return None
    if task.num_classes > MAX_CLASSES:
        return f"holds {task.num_classes} distinct values: it looks like an identifier, leave it out"
    return too_few(task.classes)


def class_faults(task: Task) -> list[str]:
    """Why nothing can be learned from a column, or from its classes as they are spelled, one per line."""
    reason = unfit(task)
    return spelling_faults(task) if reason is None else [f"column {quoted(task.name)} {reason}"]


def spelling_faults(task: Task) -> list[str]:
    """Classes of a column that are likely to be one class in several spellings, one per line."""
    by_place = sorted(task.classes, key=lambda value: _natural_key(task.place_of(value)))
    return [
        f"column {quoted(task.name)} spells what looks like one class in several ways: "
        # Letter by letter: two encodings of an accent look the same.
        + ", ".join(f"{value[:LONGEST]!a}{task.place_of(value)}" for value in ways)
        + "; use one spelling"
        for ways in ([] if task.is_dense else alike(by_place))
    ]


def class_notes(task: Task) -> list[str]:
    """Classes of an image-level task that may be one, or may stand for a missing label, one per line."""
    name, advice = f"column {quoted(task.name)}", "they count as different, use one spelling if they are one"
    odd = [("differ in upper and lower case alone", ways) for ways in differing_in_case(task.classes)]
    odd += [("may be one", ways) for ways in abbreviated(task.classes)]
    notes = [f"{name} has classes that {why}: {listed(ways)}; {advice}" for why, ways in odd]
    dates = turned_to_dates(task.classes)
    if dates:
        notes.append(
            f"{name} has the class {listed(dates)}{task.place_of(dates[0])} beside ranges: a spreadsheet makes such "
            "dates of 10-19 or 3-9; write the ranges again"
        )
    found = likely_missing(task.classes)
    if found:
        where = task.place_of(found[0])
        notes.append(f"{name} has the class {listed(found)}{where}; if that means no label, add {as_missing(found)}")
    return notes


def as_missing(values: Iterable[str]) -> str:
    """The options that make ``values`` stand for a missing label."""
    return " ".join(f"--missing-value {shlex.quote(value)}" for value in values)
