"""What is learned from an image: tasks, their classes, and the label table of a folder.

Torch-free, so that label faults are reported before anything heavy is loaded.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from mtlue_cli.choices import TaskKind
from mtlue_cli.tasks.wording import listed, quoted

UNLABELLED = -1
"""Class index of an empty cell: masked in training, the neutral embedding in protection."""


@dataclass(frozen=True)
class Task:
    """One task: its column name and its classes in a stable order (the class index is the position).

    Attributes:
        name: Column name.
        kind: How it is labelled.
        classes: Class names; none for depth and normals.
        places: Where each class first stands in its label file, for messages; empty if it comes from elsewhere.
        scale: What one unit of a stored number is worth, depth only.
        ignore: Stored values that are no class, segmentation only.
        span: Least and largest usual label in the data that a network learns from, depth only; None: not measured.
            Networks, losses and targets work in it, so that the unit of a depth does not matter.
    """

    name: str
    kind: TaskKind
    classes: tuple[str, ...]
    places: tuple[str, ...] = field(default=(), compare=False, repr=False)
    scale: float = 1.0
    ignore: tuple[int, ...] = ()
    span: tuple[float, float] | None = None

    @property
    def num_classes(self) -> int:
        """Number of classes; two for a binary task, none for depth and normals."""
        return len(self.classes)

    @property
    def is_dense(self) -> bool:
        """Whether every pixel has a label of its own."""
        return self.kind.is_dense

    @property
    def channels(self) -> int:
        """Width of a network's output: one value a class, one for depth, three for normals."""
        return {TaskKind.DEPTH: 1, TaskKind.NORMALS: 3}.get(self.kind, self.num_classes)

    def place_of(self, name: str) -> str:
        """Where the class ``name`` first stands, in brackets for a message; nothing if that is not known."""
        return f" ({self.places[self.classes.index(name)]})" if self.places else ""


@dataclass(frozen=True)
class TaskSet:
    """The tasks of a data set, in column order, keyed by name."""

    tasks: tuple[Task, ...]

    def __iter__(self) -> Iterator[Task]:
        return iter(self.tasks)

    def __len__(self) -> int:
        return len(self.tasks)

    def __getitem__(self, name: str) -> Task:
        return self._by_name[name]

    def __contains__(self, name: object) -> bool:
        return name in self._by_name

    @cached_property
    def _by_name(self) -> dict[str, Task]:
        return {task.name: task for task in self.tasks}

    @property
    def names(self) -> tuple[str, ...]:
        """Task names in column order."""
        return tuple(task.name for task in self.tasks)

    def subset(self, names: Iterable[str]) -> "TaskSet":
        """The tasks called ``names``, in this set's order."""
        wanted = set(names)
        return TaskSet(tuple(task for task in self.tasks if task.name in wanted))

    @property
    def image_level(self) -> "TaskSet":
        """The tasks with one label an image."""
        return TaskSet(tuple(task for task in self.tasks if not task.is_dense))

    @property
    def dense(self) -> "TaskSet":
        """The tasks that are labelled pixel by pixel."""
        return TaskSet(tuple(task for task in self.tasks if task.is_dense))

    def to_json(self) -> list[dict[str, Any]]:
        """A JSON-ready list that :meth:`from_json` reads back."""
        return [
            {"name": task.name, "kind": task.kind.value, "classes": list(task.classes), **_dense_to_json(task)}
            for task in self.tasks
        ]

    @classmethod
    def from_json(cls, document: Iterable[Mapping[str, Any]]) -> "TaskSet":
        """Read what :meth:`to_json` wrote.

        Raises:
            KeyError, TypeError, ValueError: The document has another form.
        """
        return cls(
            tuple(
                Task(
                    str(entry["name"]),
                    TaskKind(entry["kind"]),
                    tuple(str(name) for name in entry["classes"]),
                    scale=float(entry.get("scale", 1.0)),
                    ignore=tuple(int(value) for value in entry.get("ignore", ())),
                    span=_span(entry.get("span")),
                )
                for entry in document
            )
        )

    def unmet_by(self, labels: "TaskSet") -> list[str]:
        """Why label columns ``labels`` cannot be served by a generator trained for this set, a line each.

        Every task of this set must have its column; the column's classes must all be known. A column that knows
        fewer classes (a small folder rarely shows all) is served, and so are extra columns (they are not tasks).
        """
        problems: list[str] = []
        for task in self.tasks:
            if task.name not in labels:
                problems.append(f"column {quoted(task.name)} is missing")
                continue
            column = labels[task.name]
            unknown = [name for name in column.classes if name not in task.classes]
            if unknown:
                shown = ", ".join(f"{quoted(name)}{column.place_of(name)}" for name in unknown[:12])
                more = ", ..." if len(unknown) > 12 else ""
                problems.append(
                    f"column {quoted(task.name)} has unknown classes {shown}{more}; known: {listed(list(task.classes))}"
                )
        return problems


def _dense_to_json(task: Task) -> dict[str, Any]:
    if not task.is_dense:
        return {}
    return {"scale": task.scale, "ignore": list(task.ignore), "span": None if task.span is None else list(task.span)}


def _span(found: Iterable[float] | None) -> tuple[float, float] | None:
    if found is None:
        return None
    low, high = map(float, found)
    if not 0 <= low < high < float("inf"):
        raise ValueError(f"the span {low:g} to {high:g} is none")
    return low, high


@dataclass(frozen=True)
class LabelTable:
    """The labels of a folder, one row an image.

    Attributes:
        file_names: Relative POSIX paths, in the order of the label file.
        columns: Task name to class indices, ``(N,)`` int64, :data:`UNLABELLED` where the cell is empty.
        tasks: The tasks that the columns stand for.
        places: Where each row stands in the label file, for messages; empty for a table from elsewhere.
    """

    file_names: tuple[str, ...]
    columns: Mapping[str, npt.NDArray[np.int64]]
    tasks: TaskSet
    places: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.file_names)

    def take(self, rows: Iterable[int]) -> "LabelTable":
        """The table of the given rows, in that order."""
        index = np.fromiter(rows, dtype=np.int64)
        return LabelTable(
            tuple(self.file_names[i] for i in index),
            {name: column[index] for name, column in self.columns.items()},
            self.tasks,
            tuple(self.places[i] for i in index) if self.places else (),
        )

    def with_unlabelled(self, names: Iterable[str]) -> "LabelTable":
        """This table and a row without any label for each of ``names``."""
        added = tuple(names)
        columns = {
            name: np.concatenate([column, np.full(len(added), UNLABELLED, dtype=np.int64)])
            for name, column in self.columns.items()
        }
        places = (*self.places, *("no row",) * len(added)) if self.places else ()
        return replace(self, file_names=(*self.file_names, *added), columns=columns, places=places)

    def class_name(self, task: str, row: int) -> str | None:
        """The class of a row in one task, None where it is unlabelled."""
        index = int(self.columns[task][row])
        return None if index == UNLABELLED else self.tasks[task].classes[index]

    def recoded(self, tasks: TaskSet) -> "LabelTable":
        """The same rows in the class indices of ``tasks``.

        Raises:
            KeyError: A column or class of ``tasks`` does not cover this table; ask :meth:`TaskSet.unmet_by` first.
        """
        columns: dict[str, npt.NDArray[np.int64]] = {}
        for task in tasks:
            index_of = {name: index for index, name in enumerate(task.classes)}
            lookup = np.array([index_of[name] for name in self.tasks[task.name].classes] + [UNLABELLED], dtype=np.int64)
            columns[task.name] = lookup[self.columns[task.name]]
        return replace(self, columns=columns, tasks=tasks)
