"""What a model answered to probes: labels, and scores where it gives them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mtlue_cli.errors import InputError
from mtlue_cli.tasks.readers.base import FILE_COLUMNS, LabelSource
from mtlue_cli.tasks.readers.registry import reader_of
from mtlue_cli.tasks.wording import counted, listed, quoted
from mtlue_cli.workflows.trace.sealed import SealedAnswers

Numbers = npt.NDArray[np.float64]

NAMES_OF_FILES = ("file", *FILE_COLUMNS)
LEAST_LOG = math.log(1e-6)
"""Smaller logarithms of probabilities are kept as this one."""
LEAST_COUNTED = math.log(0.01)
"""And count as this one: a single answer, perhaps a random one, must not decide."""
_CLOSE = 1e-3


@dataclass(frozen=True)
class TaskAnswers:
    """Answers to all probes, in the order of the sealed answers, for one task.

    Attributes:
        names: Classes that an answer may name: those of the release, in their order, unless the naming is unknown.
        labels: ``(P,)`` index of the class that was answered.
        scores: ``(P, C)`` log-probabilities; None for answers without scores.
    """

    names: tuple[str, ...]
    labels: npt.NDArray[np.int64]
    scores: Numbers | None = None


@dataclass(frozen=True)
class Answers:
    """Answers of a model.

    Attributes:
        source: Where they come from, in words.
        tasks: The tasks that it answered.
        notes: How the answers were understood, for the user.
    """

    source: str
    tasks: Mapping[str, TaskAnswers]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Renamed:
    """Class names in the answers that differ from those of the release, as ``--map`` gives them."""

    pairs: Mapping[tuple[str, str], str] = field(default_factory=dict)

    @classmethod
    def read(cls, given: Sequence[str], tasks: Mapping[str, Sequence[str]]) -> "Renamed":
        """Pairs such as ``theirs=ours`` or ``task:theirs=ours``.

        Raises:
            InputError: Lists every pair that names no class of the release.
        """
        pairs: dict[tuple[str, str], str] = {}
        faults: list[str] = []
        for text in given:
            theirs, equals, ours = (part.strip() for part in text.rpartition("="))
            task, colon, rest = theirs.partition(":")
            meant = [task] if colon and task in tasks else list(tasks)
            theirs = rest if colon and task in tasks else theirs
            holding = [name for name in meant if ours in tasks[name]]
            if not equals or not theirs or not holding:
                known = listed([own for name in meant for own in tasks[name]])
                faults.append(f"--map {text}: expected theirs=ours, where ours is one of {known}")
            pairs |= {(name, theirs): ours for name in holding}
        if faults:
            raise InputError("class names cannot be mapped", faults)
        return cls(pairs)

    def notes(self) -> tuple[str, ...]:
        """What was renamed, in words: whoever may choose among many namings finds one that fits."""
        found = [f"{task}:{theirs}={ours}" for (task, theirs), ours in sorted(self.pairs.items())]
        return (f"classes were named by --map: {', '.join(found)}",) if found else ()

    def ours(self, task: str, name: str) -> str:
        """What the release calls a class of the answers."""
        return self.pairs.get((task, name), name)


def read_answers(path: Path, sealed: SealedAnswers, renamed: Renamed, *, unknown_names: bool = False) -> Answers:
    """Answers from a table: a file column, and per task a column of labels, or a column of scores per class.

    Args:
        path: CSV, TSV, JSON Lines or Parquet.
        sealed: Which probes there are.
        renamed: Other names of classes.
        unknown_names: Whether the names are others that nobody knows.

    Raises:
        InputError: Lists every probe without a row, row without a probe, and cell that is not understood.
    """
    table = reader_of(path).read(LabelSource(path, NAMES_OF_FILES))
    faults = list(table.faults)
    column = next((name for name in NAMES_OF_FILES if name in table.header), None)
    if column is None:
        raise InputError(
            f"{path} has no file column", faults, f"name the column with the names of the probes {quoted('file')}"
        )
    if twice := sorted({name for name in table.header if table.header.count(name) > 1}):
        raise InputError(f"{path} has two columns {listed(twice)}")
    at = table.header.index(column)
    files = {probe.file: number for number, probe in enumerate(sealed.probes)}
    rows: dict[int, tuple[str, Mapping[str, str]]] = {}
    first: dict[str, str] = {}
    for place, cells in zip(table.places, table.rows, strict=True):
        if len(cells) != len(table.header):
            faults.append(f"{place}: {counted(len(cells), 'cell')}, expected {len(table.header)}")
            continue
        name = Path((cells[at] or "").replace("\\", "/")).name
        if name not in files:
            faults.append(f"{place}: {quoted(cells[at] or '')} is not a probe")
        elif name in first:
            faults.append(f"{place}: {name} stands in {first[name]} already")
        else:
            first[name] = place
            rows[files[name]] = place, dict(zip(table.header, (cell or "" for cell in cells), strict=True))
    faults += [f"{name}: has no row" for name in files if name not in first]
    complete = [rows.get(number, ("", {})) for number in range(len(files))]
    found: dict[str, TaskAnswers] = {}
    notes: list[str] = []
    used = {column}
    for task, classes in sealed.tasks.items():
        reader = _Columns(task, tuple(classes), renamed, unknown_names, table.header)
        used |= reader.used
        if reader.used:
            answers, wrong, note = reader.read(complete)
            faults += wrong
            notes += note
            if answers is not None:
                found[task] = answers
        else:
            notes.append(f"task {task}: not answered")
    if not found and not faults:
        faults.append(f"no column is a task: expected {listed(list(sealed.tasks))}, or scores such as task:class")
    if faults:
        raise InputError(f"the answers in {path} cannot be used", faults, _hint(faults))
    if others := [name for name in table.header if name not in used]:
        notes.append(f"columns that are not used: {listed(others)}")
    return Answers(str(path), found, tuple(notes))


def as_scores(values: Numbers) -> tuple[Numbers, str]:
    """``(P, C)`` outputs of a model as log-probabilities, and how they were understood, in words."""
    if bool((values >= 0).all()) and np.allclose(values.sum(axis=1), 1.0, atol=_CLOSE):
        return np.log(np.maximum(values, math.exp(LEAST_LOG))), "probabilities"
    shifted = values - values.max(axis=1, keepdims=True)
    logs = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return np.maximum(logs, LEAST_LOG), "logits, with a softmax"


def of_one_column(values: Numbers) -> tuple[Numbers, str]:
    """``(P,)`` outputs for the second of two classes as ``(P, 2)`` log-probabilities, and how they were understood."""
    if bool(((values >= 0) & (values <= 1)).all()):
        found, words = values, "the probability of the second class"
    else:
        found, words = 1 / (1 + np.exp(-values.clip(-700, 700))), "a logit of the second class, with a sigmoid"
    return np.log(np.maximum(np.stack([1 - found, found], axis=1), math.exp(LEAST_LOG))), words


class _Columns:
    """The columns of one task in a table of answers."""

    def __init__(
        self, task: str, classes: tuple[str, ...], renamed: Renamed, unknown: bool, header: Sequence[str]
    ) -> None:
        self.task, self.classes, self.renamed, self.unknown = task, classes, renamed, unknown
        self.label = task if task in header else None
        self.scores = {
            self.renamed.ours(task, name.partition(":")[2]): name for name in header if name.startswith(f"{task}:")
        }
        self.used = {*self.scores.values(), *([task] if self.label else [])}

    @property
    def _is_alone(self) -> bool:
        """Whether one of two classes has scores, which are the other's too."""
        return len(self.classes) == 2 and len(self.scores) == 1

    def read(self, rows: Sequence[tuple[str, Mapping[str, str]]]) -> tuple[TaskAnswers | None, list[str], list[str]]:
        """The answers, faults and notes."""
        faults: list[str] = []
        scores, notes = None, []
        names = self.classes
        if self.scores:
            names = tuple(self.scores) if self.unknown else self.classes
            if self.unknown and self._is_alone:
                names = (f"not {names[0]}", names[0])
            values = self._numbers(rows, faults)
            if values is not None:
                scores, words = values
                notes.append(f"task {self.task}: scores are {words}")
        elif self.unknown:
            names = tuple(sorted({cells[self.task] for _, cells in rows if cells.get(self.task)}))
        if self.label is None:
            labels = None if scores is None else scores.argmax(axis=1)
        else:
            labels = self._labels(rows, names, faults)
        if faults or labels is None:
            return None, faults, notes
        return TaskAnswers(names, labels, scores), faults, notes

    def _labels(
        self, rows: Sequence[tuple[str, Mapping[str, str]]], names: tuple[str, ...], faults: list[str]
    ) -> npt.NDArray[np.int64]:
        index = {name: number for number, name in enumerate(names)}
        found = np.zeros(len(rows), np.int64)
        for number, (place, cells) in enumerate(rows):
            if not cells:
                continue
            answer = cells[self.task]
            name = answer if self.unknown else self.renamed.ours(self.task, answer)
            if name not in index:
                what = "is empty" if not answer else f"is {quoted(answer)}"
                faults.append(f"{place}: {self.task} {what}, expected {listed(list(names))}")
            else:
                found[number] = index[name]
        return found

    def _numbers(self, rows: Sequence[tuple[str, Mapping[str, str]]], faults: list[str]) -> tuple[Numbers, str] | None:
        names = list(self.scores)
        odd = [] if self.unknown else [name for name in names if name not in self.classes]
        missing = [] if self.unknown else [name for name in self.classes if name not in self.scores]
        if odd:
            faults.append(f"columns of {self.task}: {listed(odd)} is no class, expected {listed(list(self.classes))}")
            return None
        alone = self._is_alone
        if missing and not alone:
            faults.append(f"columns of {self.task}: no scores of {listed(missing)}")
            return None
        order = names if self.unknown or alone else list(self.classes)
        values = np.zeros((len(rows), len(order)))
        before = len(faults)
        for number, (place, cells) in enumerate(rows):
            for position, name in enumerate(order if cells else ()):
                cell = cells[self.scores[name]]
                try:
                    values[number, position] = float(cell)
                except ValueError:
                    values[number, position] = math.nan
                if not math.isfinite(values[number, position]):
                    faults.append(f"{place}: {self.scores[name]} is {quoted(cell)}, expected a number")
        if len(faults) > before:
            return None
        if not alone:
            return as_scores(values)
        logs, words = of_one_column(values[:, 0])
        if order[0] == self.classes[0]:
            logs, words = logs[:, ::-1], words.replace("second class", f"class {self.classes[0]}")
        return logs, words


def _hint(faults: Sequence[str]) -> str:
    if any("expected" in fault and "is '" in fault for fault in faults):
        return (
            "name classes as the release does, or say which is which with --map theirs=ours; if nobody knows, give "
            "--unknown-names"
        )
    if any("is empty" in fault for fault in faults):
        return "leave out the columns of tasks that the model does not answer"
    return "one row per probe, and nothing else; see answers.csv in the folder of the probes"
