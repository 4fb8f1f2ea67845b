"""What is learned from an image: tasks, their classes, and the label table of a folder.

Torch-free, so that label faults are reported before anything heavy is loaded.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mtlue_cli.choices import TaskKind

UNLABELLED = -1
"""Class index of an empty cell: masked in training, the neutral embedding in protection."""


@dataclass(frozen=True)
class Task:
    """One task: its column name and its classes in a stable order (the class index is the position)."""

    name: str
    kind: TaskKind
    classes: tuple[str, ...]

    @property
    def num_classes(self) -> int:
        """Number of classes; two for a binary task."""
        return len(self.classes)


@dataclass(frozen=True)
class TaskSet:
    """The tasks of a data set, in column order, keyed by name."""

    tasks: tuple[Task, ...]

    def __iter__(self) -> Iterator[Task]:
        return iter(self.tasks)

    def __len__(self) -> int:
        return len(self.tasks)

    def __getitem__(self, name: str) -> Task:
        for task in self.tasks:
            if task.name == name:
                return task
        raise KeyError(name)

    def __contains__(self, name: object) -> bool:
        return any(task.name == name for task in self.tasks)

    @property
    def names(self) -> tuple[str, ...]:
        """Task names in column order."""
        return tuple(task.name for task in self.tasks)

    def subset(self, names: Iterable[str]) -> "TaskSet":
        """The tasks called ``names``, in this set's order."""
        wanted = set(names)
        return TaskSet(tuple(task for task in self.tasks if task.name in wanted))

    def to_json(self) -> list[dict[str, Any]]:
        """A JSON-ready list that :meth:`from_json` reads back."""
        return [{"name": task.name, "kind": task.kind.value, "classes": list(task.classes)} for task in self.tasks]

    @classmethod
    def from_json(cls, document: Iterable[Mapping[str, Any]]) -> "TaskSet":
        """Read what :meth:`to_json` wrote.

        Raises:
            KeyError, TypeError, ValueError: The document has another form.
        """
        return cls(
            tuple(
                Task(str(entry["name"]), TaskKind(entry["kind"]), tuple(str(name) for name in entry["classes"]))
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
                problems.append(f"column {task.name!r} is missing")
                continue
            unknown = [name for name in labels[task.name].classes if name not in task.classes]
            if unknown:
                known = ", ".join(task.classes[:12]) + (", ..." if task.num_classes > 12 else "")
                problems.append(f"column {task.name!r} has unknown classes {', '.join(unknown[:12])} (known: {known})")
        return problems


@dataclass(frozen=True)
class LabelTable:
    """The labels of a folder, one row an image.

    Attributes:
        file_names: Relative POSIX paths, in the order of the label file.
        columns: Task name to class indices, ``(N,)`` int64, :data:`UNLABELLED` where the cell is empty.
        tasks: The tasks that the columns stand for.
    """

    file_names: tuple[str, ...]
    columns: Mapping[str, npt.NDArray[np.int64]]
    tasks: TaskSet

    def __len__(self) -> int:
        return len(self.file_names)

    def take(self, rows: Iterable[int]) -> "LabelTable":
        """The table of the given rows, in that order."""
        index = np.fromiter(rows, dtype=np.int64)
        return LabelTable(
            tuple(self.file_names[i] for i in index),
            {name: column[index] for name, column in self.columns.items()},
            self.tasks,
        )

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
        return LabelTable(self.file_names, columns, tasks)
