"""Universal weights in use: which label columns they protect, in which order of classes, under which key."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from msgspec import structs

from mtlue_cli.choices import TaskKind
from mtlue_cli.errors import InputError
from mtlue_cli.generator.checkpoint import CheckpointCard, read_card
from mtlue_cli.generator.code_patterns import cells_for, coded_tasks
from mtlue_cli.generator.codebook import CODE_VERSION
from mtlue_cli.generator.shipped import DEFAULT, find_weights
from mtlue_cli.keys import FoundKey, find_key
from mtlue_cli.release.records import RunRecord
from mtlue_cli.tasks.classes import MAX_CLASSES
from mtlue_cli.tasks.names import resolved_names
from mtlue_cli.tasks.spec import Task, TaskSet, image_task
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


def offered_tasks(
    card: CheckpointCard, labels: TaskSet, named: Sequence[str] | None, left_out: Mapping[str, str]
) -> CodableColumns:
    """What a generator can protect: its own tasks, or, if it is universal, the columns that codes can stand for.

    Raises:
        InputError: As :func:`without`.
    """
    if not card.universal:
        return CodableColumns(card.tasks, {})
    return without(labels, {task.name: reason for task in labels if (reason := _reason(task))}, named, left_out)


def without(
    labels: TaskSet, unfit: Mapping[str, str], named: Sequence[str] | None, left_out: Mapping[str, str]
) -> CodableColumns:
    """The columns but those that cannot be protected.

    Args:
        labels: All label columns.
        unfit: Why a column cannot be protected, by name, as said after the name.
        named: Those that the user asks for; None: whatever can be protected.
        left_out: Columns that are no tasks unless the user names columns, likewise with the reason.

    Raises:
        InputError: A named column cannot be protected, or none can.
    """
    unfit = {**unfit, **(left_out if named is None else {})}
    faults = {name: f"column {quoted(name)} {reason}" for name, reason in unfit.items()}
    asked_for = [faults[name] for name in resolved_names(named or (), labels.names) if name in faults]
    if asked_for:
        raise InputError("columns that --tasks names cannot be protected", asked_for)
    fit = labels.subset(name for name in labels.names if name not in unfit)
    if not fit:
        raise InputError(
            "no label column can be protected",
            list(faults.values()),
            "if one of them is a label all the same, name it with --tasks",
        )
    return CodableColumns(fit, unfit)


def _reason(task: Task) -> str | None:
    if task.num_classes > MAX_CLASSES:
        return f"holds {task.num_classes} distinct values: it looks like an identifier"
    if task.is_dense and task.kind is not TaskKind.SEGMENTATION:
        return f"holds {task.kind.value}, for which there are no ready-made patterns: train weights for it"
    if task.num_classes < 2:
        return "holds fewer than two classes: there is nothing to learn"
    return None


def in_code_order(tasks: TaskSet, earlier: Mapping[str, Sequence[str]]) -> TaskSet:
    """The same tasks with the classes of an earlier run first, in its order, and new ones after them.

    So codes of the classes before stay what they were when a class is added, wherever it sorts. Classes of masks are
    numbered already.
    """
    ordered: list[Task] = []
    for task in tasks:
        before = () if task.is_dense else tuple(earlier.get(task.name, ()))
        classes = (*before, *(name for name in task.classes if name not in before))
        ordered.append(image_task(task.name, classes) if before else task)
    return TaskSet(tuple(ordered))


def key_for(card: CheckpointCard, file: Path | None, *, traceable: bool = False, keep: bool = True) -> FoundKey | None:
    """The key that a generator needs; None for one with learned embeddings, which takes none unless ``traceable``.

    Raises:
        InputError: ``file`` is given though no key is needed; or as :func:`~mtlue_cli.keys.find_key`.
    """
    if card.universal or traceable:
        return find_key(file, keep=keep)
    if file is not None:
        raise InputError(
            f"the weights {card.name} take no key",
            hint="leave out --key, or add --traceable; the shipped weights default take one",
        )
    return None


def weights_of_codes(card: CheckpointCard, levels: int | None, epsilon: int, tasks: TaskSet) -> CheckpointCard | None:
    """The universal weights that draw the codes of a run: its own, or those beside trained ones for ``--traceable``.

    None where nothing draws any.

    Raises:
        InputError: The codes are beyond the bound, or a task labels every pixel.
    """
    if card.universal or levels is None:
        return card if card.universal else None
    if levels > epsilon:
        raise InputError(
            f"--traceable {levels} is beyond the bound, {epsilon}/255",
            hint="give fewer levels, or a larger --epsilon",
        )
    if len(tasks.dense):
        raise InputError(
            f"--traceable is for labels of whole images, and {quoted(tasks.dense.names[0])} labels every pixel",
            hint="leave --traceable out, or protect the other columns alone with --tasks",
        )
    return read_card(find_weights(DEFAULT))


def with_codes(
    run: RunRecord,
    tasks: TaskSet,
    earlier: RunRecord | None,
    least_cells: int,
    count: Callable[[], Mapping[str, Sequence[float]]],
) -> RunRecord:
    """The settings of a keyed run with what decides about its codes, beside the key.

    Args:
        run: All other settings.
        tasks: Those that are protected, with their classes in the order of the codes.
        earlier: The run that is continued, if any: its shares and cells stay, so that files that are added later get
            what they would have got then.
        least_cells: Side in cells of the coarsest patterns that the weights take.
        count: Share of each class among the labels, by task; called if it is needed.
    """
    known = {} if earlier is None else earlier.shares
    classes = {task.name: list(task.classes) for task in tasks}
    if all(len(known.get(name, ())) == len(own) for name, own in classes.items()):
        shares = {name: list(known[name]) for name in classes}
    else:
        shares = {name: _extended(known.get(name, ()), own) for name, own in count().items()}
    version = CODE_VERSION if len(coded_tasks(tasks)) else 0
    cells = 0 if earlier is None else earlier.code_cells
    cells = cells or (cells_for(tasks, least_cells) if version else 0)
    return structs.replace(run, classes=classes, shares=shares, code_version=version, code_cells=cells)


def _extended(before: Sequence[float], now: Sequence[float]) -> list[float]:
    """Shares of an earlier run; classes that came after it are never the rarest, whose code decides most."""
    if not before or len(before) > len(now):
        return list(now)
    least = min(before) * _NOT_THE_RAREST
    found = [*before, *(max(own, least) for own in now[len(before) :])]
    return found if len(before) == len(now) else [own / sum(found) for own in found]
