"""What is learned from an image: tasks, their classes, and the label table of a folder.

Torch-free, so that label faults are reported before anything heavy is loaded.
"""

import re
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mtlue_cli.choices import FEW_TASKS, TaskKind
from mtlue_cli.tasks.spelling import respelled
from mtlue_cli.tasks.wording import listed, quoted

UNLABELLED = -1
"""Class index of an empty cell: masked in training, the neutral embedding in protection."""


@dataclass(frozen=True)
class Task:
    """One task: its column name and its classes in a stable order (the class index is the position).

    Attributes:
        name: Column name.
        kind: How it is labelled.
        classes: Class names; none of depth and normals. Those of a segmentation task are in the order of the numbers
            that maps store, and are these numbers (``0``, ``1``, ... or ``0``, ``255``) where no names are known.
        places: Where each class first appears in its label file, for messages; empty if it comes from elsewhere.
        scale: What one unit of a stored number is worth; depth only.
        ignore: Stored numbers that are no class (segmentation) or no depth.
        span: Least and largest usual depth in the data that a network learns from; None: not measured. Networks,
            losses and targets work in it, so that the unit of a depth does not matter.
        colours: Of colour-coded masks: the RGB colour of every number, of those that are no class too; else empty.
        ids: Of masks that store ids of segments or categories: file of each mask to the number for each of its ids,
            :data:`UNLABELLED` for what is no class; else empty.
    """

    name: str
    kind: TaskKind
    classes: tuple[str, ...]
    places: tuple[str, ...] = field(default=(), compare=False, repr=False)
    scale: float = 1.0
    ignore: tuple[int, ...] = ()
    span: tuple[float, float] | None = None
    colours: tuple[tuple[int, int, int], ...] = field(default=(), compare=False, repr=False)
    ids: Mapping[str, Mapping[int, int]] = field(default_factory=dict, compare=False, repr=False)

    @property
    def num_classes(self) -> int:
        """Number of classes; two for a binary task, none for depth and normals."""
        return len(self.classes)

    @property
    def equal_shares(self) -> list[float]:
        """Share of each class where nothing is known of how frequent they are, ``(C,)``."""
        return [1 / max(1, self.num_classes)] * self.num_classes

    @property
    def is_dense(self) -> bool:
        """Whether its label is a map as large as the image."""
        return self.kind.is_dense

    @property
    def channels(self) -> int:
        """Width of a network's head: a class each, one for depth, three for normals."""
        return {TaskKind.DEPTH: 1, TaskKind.NORMALS: 3}.get(self.kind, self.num_classes)

    @property
    def has_class_names(self) -> bool:
        """Whether the classes of a segmentation task are called otherwise than by their numbers."""
        return not all(re.fullmatch(r"0|[1-9]\d{0,8}", name, re.ASCII) for name in self.classes)

    @property
    def numbers(self) -> tuple[int, ...]:
        """Number that maps store for each class of a segmentation task: its name if all are numbers, else its index."""
        return tuple(range(self.num_classes) if self.colours or self.has_class_names else map(int, self.classes))

    def place_of(self, name: str) -> str:
        """Where the class ``name`` first appears, in brackets for a message; nothing if that is not known."""
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

    @property
    def image_level(self) -> "TaskSet":
        """The tasks that label an image by a class."""
        return TaskSet(tuple(task for task in self.tasks if not task.is_dense))

    @property
    def dense(self) -> "TaskSet":
        """The tasks that label every pixel."""
        return TaskSet(tuple(task for task in self.tasks if task.is_dense))

    @property
    def few_labels(self) -> bool:
        """At most :data:`FEW_TASKS` tasks, all of which label an image by a class."""
        return len(self) <= FEW_TASKS and not len(self.dense)

    def subset(self, names: Iterable[str]) -> "TaskSet":
        """The tasks called ``names``, in this set's order."""
        wanted = set(names)
        return TaskSet(tuple(task for task in self.tasks if task.name in wanted))

    def to_json(self) -> list[dict[str, Any]]:
        """A JSON-ready list that :meth:`from_json` reads back."""
        return [_entry(task) for task in self.tasks]

    @classmethod
    def from_json(cls, document: Iterable[Mapping[str, Any]]) -> "TaskSet":
        """Read what :meth:`to_json` wrote.

        Raises:
            KeyError, TypeError, ValueError: The document has another form.
        """
        return cls(tuple(map(_task, document)))

    def unmet_by(self, labels: "TaskSet") -> list[str]:
        """Why label columns ``labels`` cannot be served by a generator trained for this set, one per line.

        Every task of this set must have its column, and the column's classes must all be known. It may know fewer (a
        small folder rarely shows all), and there may be extra columns. A dense task must be of the same kind.
        """
        unmet = {task.name: _unmet_by(task, labels) for task in self.tasks}
        return [f"column {quoted(name)}{fault}" for name, fault in unmet.items() if fault]


@dataclass(frozen=True)
class LabelTable:
    """The labels of a folder, one row per image.

    Attributes:
        file_names: Relative POSIX paths, in the order of the label file.
        columns: Image-level task name to class indices, ``(N,)`` int64, :data:`UNLABELLED` where the cell is empty.
        tasks: The tasks of the columns and maps.
        places: Where each row is in the label file, for messages; empty for a table from elsewhere.
        maps: Dense task name to the file of each row, relative POSIX; None where the cell is empty.
        maps_folder: Where those files lead from: the folder of the label file.
        turns: EXIF orientation (2 to 8) of the photo of each map that is turned upright with it.
    """

    file_names: tuple[str, ...]
    columns: Mapping[str, npt.NDArray[np.int64]]
    tasks: TaskSet
    places: tuple[str, ...] = ()
    maps: Mapping[str, tuple[str | None, ...]] = field(default_factory=dict)
    maps_folder: Path = Path()
    turns: Mapping[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.file_names)

    def map_files(self, row: int) -> tuple[str, ...]:
        """The distinct maps of a row, of all dense tasks."""
        return tuple(dict.fromkeys(name for files in self.maps.values() if (name := files[row]) is not None))

    @property
    def all_map_files(self) -> frozenset[str]:
        """Every map of every row."""
        return frozenset(name for files in self.maps.values() for name in files if name is not None)

    def take(self, rows: Iterable[int]) -> "LabelTable":
        """The table of the given rows, in that order."""
        index = np.fromiter(rows, dtype=np.int64)
        return replace(
            self,
            file_names=tuple(self.file_names[i] for i in index),
            columns={name: column[index] for name, column in self.columns.items()},
            places=tuple(self.places[i] for i in index) if self.places else (),
            maps={name: tuple(files[i] for i in index) for name, files in self.maps.items()},
        )

    def labelled(self, tasks: TaskSet) -> npt.NDArray[np.bool_]:
        """Which rows have a label of any of ``tasks``, ``(N,)``."""
        known = np.zeros(len(self), dtype=bool)
        for task in tasks:
            if task.is_dense:
                known |= np.array([name is not None for name in self.maps[task.name]], dtype=bool)
            else:
                known |= self.columns[task.name] >= 0
        return known

    def with_unlabelled(self, names: Iterable[str]) -> "LabelTable":
        """This table and a row without any label for each of ``names``."""
        added = tuple(names)
        padding = (0, len(added))
        columns = {name: np.pad(cells, padding, constant_values=UNLABELLED) for name, cells in self.columns.items()}
        places = (*self.places, *("no row",) * len(added)) if self.places else ()
        maps = {name: (*files, *(None,) * len(added)) for name, files in self.maps.items()}
        return replace(self, file_names=(*self.file_names, *added), columns=columns, places=places, maps=maps)

    def class_name(self, task: str, row: int) -> str | None:
        """The class of a row in one task, for a dense task the file of its map; None where it is unlabelled."""
        if task in self.maps:
            return self.maps[task][row]
        index = int(self.columns[task][row])
        return None if index == UNLABELLED else self.tasks[task].classes[index]

    def recoded(self, tasks: TaskSet) -> "LabelTable":
        """The same rows in the class indices of ``tasks``.

        A dense task keeps what this table knows of its files: scale, colours, ids, and what is ignored.

        Raises:
            KeyError: A column or class of ``tasks`` does not cover this table; ask :meth:`TaskSet.unmet_by` first.
        """
        columns: dict[str, npt.NDArray[np.int64]] = {}
        for task in tasks.image_level:
            index_of = {name: index for index, name in enumerate(task.classes)}
            indices = [*(index_of[name] for name in self.tasks[task.name].classes), UNLABELLED]
            columns[task.name] = np.array(indices, dtype=np.int64)[self.columns[task.name]]
        kept = tuple(_with_files_of(task, self.tasks[task.name]) if task.is_dense else task for task in tasks)
        maps = {task.name: self.maps[task.name] for task in tasks.dense}
        return replace(self, columns=columns, tasks=TaskSet(kept), maps=maps)


def image_task(name: str, classes: Sequence[str], places: Sequence[str] = ()) -> Task:
    """A task that labels images by ``classes``: binary with up to two, else categorical."""
    kind = TaskKind.BINARY if len(classes) <= 2 else TaskKind.CATEGORICAL
    return Task(name, kind, tuple(classes), tuple(places))


def numbered_classes(count: int) -> tuple[str, ...]:
    """Class names of a segmentation task whose classes have none: their numbers."""
    return tuple(map(str, range(count)))


def number_range(numbers: Sequence[int]) -> str:
    """Numbers in words, in the order given: ``0 to 11``, or each where some are left out."""
    if len(numbers) and list(numbers) == list(range(numbers[0], numbers[-1] + 1)):
        return f"{numbers[0]} to {numbers[-1]}"
    return ", ".join(map(str, numbers[:12])) + (", ..." if len(numbers) > 12 else "")


def _entry(task: Task) -> dict[str, Any]:
    entry: dict[str, Any] = {"name": task.name, "kind": task.kind.value, "classes": list(task.classes)}
    ignore = {"ignore": list(task.ignore)}
    if task.kind is TaskKind.SEGMENTATION:
        entry |= ignore
    if task.kind is TaskKind.DEPTH:
        span = None if task.span is None else list(task.span)
        entry |= {"scale": task.scale, **(ignore if task.ignore else {}), "span": span}
    return entry


def _task(entry: Mapping[str, Any]) -> Task:
    span = entry.get("span")
    if span is not None:
        low, high = span = tuple(map(float, span))
        if not 0 <= low < high < float("inf"):
            raise ValueError(f"the span {low:g} to {high:g} is empty")
    kind, classes = TaskKind(entry["kind"]), entry["classes"]
    if not isinstance(classes, list | tuple) or bool(classes) is (kind in (TaskKind.DEPTH, TaskKind.NORMALS)):
        raise ValueError(f"the classes {classes!r} are not those of a {kind.value} task")
    return Task(
        str(entry["name"]),
        kind,
        tuple(map(str, classes)),
        scale=float(entry.get("scale", 1.0)),
        ignore=tuple(map(int, entry.get("ignore", ()))),
        span=span,
    )


def _with_files_of(task: Task, own: Task) -> Task:
    """A dense task with what ``own`` knows of its files."""
    numbered = task.kind is TaskKind.SEGMENTATION and not (own.colours or own.ids)
    ignore = tuple(sorted({*task.ignore, *own.ignore})) if numbered else own.ignore
    return replace(task, scale=own.scale, ignore=ignore, colours=own.colours, ids=own.ids)


def _unmet_by(task: Task, labels: TaskSet) -> str:
    """Why no column of ``labels`` can serve ``task``, as said after its name; nothing if one can."""
    if task.name not in labels:
        return " is missing"
    column = labels[task.name]
    if not (task.is_dense or column.is_dense):
        unknown = [name for name in column.classes if name not in task.classes]
        shown = ", ".join(f"{quoted(name)}{column.place_of(name)}" for name in unknown[:12])
        more = ", ..." if len(unknown) > 12 else ""
        ways = list(respelled(unknown, task.classes).items())[:12]
        advice = "".join(f"; spell {quoted(new)} as {quoted(old)}" for new, old in ways)
        return f" has unknown classes {shown}{more}; known: {listed(task.classes)}{advice}" if unknown else ""
    if task.kind is not column.kind:
        declared = shlex.quote(f"{task.name}={task.kind.value}")
        read, expected = column.kind.value, task.kind.value
        return f" is read as {read}, expected {expected}: declare it with --task {declared}"
    if task.has_class_names and column.has_class_names:
        for at, (name, given) in enumerate(zip(task.classes, column.classes, strict=False)):
            if name != given:
                return f": class {at} is {quoted(given)}, expected {quoted(name)}"
    known = task.numbers
    beyond = [value for value in column.numbers if value not in (*known, *task.ignore)]
    return f" has unknown classes {number_range(beyond)}; known: {number_range(known)}" if beyond else ""
