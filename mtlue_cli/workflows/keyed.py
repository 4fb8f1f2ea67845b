"""Universal weights in use: which label columns they protect, in which order of classes, under which key."""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mtlue_cli.choices import TaskKind
from mtlue_cli.errors import InputError
from mtlue_cli.generator.checkpoint import CheckpointCard
from mtlue_cli.generator.code_embedding import cells_for
from mtlue_cli.keys import FoundKey, find_key
from mtlue_cli.manifest import RunRecord, is_release, read_run
from mtlue_cli.tasks.classes import MAX_CLASSES
from mtlue_cli.tasks.spec import Task, TaskSet
from mtlue_cli.tasks.wording import quoted

_NOT_THE_RAREST = 1.001


@dataclass(frozen=True)
class CodableColumns:
    """Label columns, sorted by whether they can be protected.

    Attributes:
        tasks: Those that can be protected.
        unfit: Why each of the others cannot, by name.
    """

    tasks: TaskSet
    unfit: Mapping[str, str]

    @property
    def notes(self) -> list[str]:
        """What is not protected, a line each."""
        return [f"not protected: column {reason}" for reason in self.unfit.values()]


def codable(labels: TaskSet, named: Sequence[str] | None) -> CodableColumns:
    """The columns that universal weights can protect: those with at least two classes, and not a value an image.

    Args:
        labels: All label columns.
        named: Those that the user asks for; None: whatever can be protected.

    Raises:
        InputError: A named column cannot be protected, or none can.
    """
    unfit = {task.name: reason for task in labels if (reason := _reason(task)) is not None}
    return without(labels, unfit, named)


def without(labels: TaskSet, unfit: Mapping[str, str], named: Sequence[str] | None) -> CodableColumns:
    """The columns but those that cannot be protected.

    Args:
        labels: All label columns.
        unfit: Why a column cannot be protected, by name.
        named: Those that the user asks for; None: whatever can be protected.

    Raises:
        InputError: A named column cannot be protected, or none can.
    """
    asked_for = [unfit[name] for name in named or () if name in unfit]
    if asked_for:
        raise InputError("columns that --tasks names cannot be protected", asked_for)
    fit = labels.subset(name for name in labels.names if name not in unfit)
    if not fit:
        raise InputError("no label column can be protected", list(unfit.values()))
    return CodableColumns(fit, unfit)


def _reason(task: Task) -> str | None:
    if task.num_classes > MAX_CLASSES:
        return f"{quoted(task.name)} holds {task.num_classes} distinct values: it looks like an identifier"
    if task.num_classes < 2:
        return f"{quoted(task.name)} holds fewer than two classes: there is nothing to tell apart"
    return None


def offered_tasks(card: CheckpointCard, labels: TaskSet, named: Sequence[str] | None) -> CodableColumns:
    """What a generator can protect: its own tasks, or, if it is universal, the columns that codes can stand for."""
    return codable(labels, named) if card.universal else CodableColumns(card.tasks, {})


def in_code_order(tasks: TaskSet, earlier: Mapping[str, Sequence[str]]) -> TaskSet:
    """The same tasks with the classes of an earlier run first, in its order, and new ones after them.

    So codes of the classes before stay what they were when a class is added, wherever it sorts. Classes of masks are
    numbered already.
    """
    ordered: list[Task] = []
    for task in tasks:
        before = () if task.is_dense else tuple(earlier.get(task.name, ()))
        classes = (*before, *(name for name in task.classes if name not in before))
        kind = TaskKind.BINARY if len(classes) <= 2 else TaskKind.CATEGORICAL
        ordered.append(Task(task.name, kind, classes) if before else task)
    return TaskSet(tuple(ordered))


def earlier_run(release: Path, run: RunRecord) -> RunRecord | None:
    """The record of an earlier run of the same weights and key; None where there was none."""
    with contextlib.suppress(InputError):  # whoever reads the release next says what is wrong with it
        if is_release(release):
            before = read_run(release)
            if (before.weights_sha256, before.key_fingerprint) == (run.weights_sha256, run.key_fingerprint):
                return before
    return None


def key_for(card: CheckpointCard, file: Path | None) -> FoundKey | None:
    """The key that a generator needs; None for one with learned embeddings, which takes none.

    Raises:
        InputError: ``file`` is given though no key is needed; or as :func:`~mtlue_cli.keys.find_key`.
    """
    if card.universal:
        return find_key(file)
    if file is not None:
        raise InputError(
            f"the weights {card.name} take no key", hint="leave out --key; keyed are the weights called default"
        )
    return None


def with_codes(
    run: RunRecord,
    tasks: TaskSet,
    earlier: RunRecord | None,
    least_cells: int,
    count: Callable[[], Mapping[str, Sequence[float]]],
) -> RunRecord:
    """The record of a keyed run, with what decides about its codes beside the key.

    That is the classes in the order of their codes, how frequent they are, and the cells of the patterns.

    Args:
        run: The record without; its version of codes tells whether there are any.
        tasks: Those that are protected.
        earlier: If its settings are the same, its shares and cells go on, so that files that are added later are given
            what they would have been given then.
        least_cells: Side in cells of the coarsest patterns that the weights take.
        count: Share of each class among the labels, by task; called if it is needed.
    """
    known: Mapping[str, Sequence[float]] = {}
    cells = 0
    if earlier is not None and not run.differences(earlier):
        known, cells = earlier.shares, earlier.code_cells
    if run.code_version and not cells:
        cells = cells_for(tasks, least_cells)
    classes = {task.name: list(task.classes) for task in tasks}
    run = replace(run, classes=classes, code_cells=cells)
    if all(len(known.get(name, ())) == len(own) for name, own in classes.items()):
        return replace(run, shares={name: known[name] for name in classes})
    shares = {name: _gone_on(known.get(name, ()), own) for name, own in count().items()}
    return replace(run, shares=shares)


def _gone_on(before: Sequence[float], now: Sequence[float]) -> list[float]:
    """Shares of an earlier run; classes that came after it are never the rarest, whose place decides most."""
    if not before or len(before) > len(now):
        return list(now)
    least = min(before) * _NOT_THE_RAREST
    found = [*before, *(max(own, least) for own in now[len(before) :])]
    return found if len(before) == len(now) else [own / sum(found) for own in found]
