"""What a release or a generator promises: a bound, and the tasks that nobody is to learn."""

import contextlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mtlue_cli.choices import MAX_EPSILON
from mtlue_cli.errors import InputError
from mtlue_cli.release.records import FOLDER, read_run
from mtlue_cli.tasks.classes import class_faults
from mtlue_cli.tasks.spec import TaskSet
from mtlue_cli.verification.conditions import Role
from mtlue_cli.verification.figures import ConditionFigures

USEFUL = 0.95
"""Least learned fraction of a kept task that counts as useful."""

ASSUMED_EPSILON = 8
"""Of a release that does not say its own and whose change cannot be measured, in 255ths."""


@dataclass(frozen=True)
class Promise:
    """What is judged.

    Attributes:
        epsilon: Bound in 255ths. The noise control and attackers that need one take it.
        tasks: The label columns that are protected and can be measured; the verdict rests on these.
        notes: What a reader should know, above all what is not measured.
        kept: The label columns that are to stay useful and can be measured: victims learn them too, and the verdict
            does not rest on them.
        is_assumed: Whether nothing says the bound, so that :data:`ASSUMED_EPSILON` stands for it.
    """

    epsilon: int
    tasks: tuple[str, ...]
    notes: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()
    is_assumed: bool = False

    def measured(self, max_change: float | None) -> "Promise":
        """This promise with the largest measured change as its bound, in 255ths, if nothing says a bound.

        A note says so. None: nothing could be measured.
        """
        if not self.is_assumed:
            return self
        epsilon = ASSUMED_EPSILON if not max_change else min(MAX_EPSILON, math.ceil(max_change))
        why = "the usual bound" if not max_change else f"since the largest measured change is {max_change:g}/255"
        note = f"the release does not say its epsilon: the noise control and attackers use {epsilon}/255, {why}"
        return replace(self, epsilon=epsilon, notes=(note,), is_assumed=False)


def promised_by_release(
    release: Path, labels: TaskSet, usual: Sequence[str] | None = None, keep: Sequence[str] | None = None
) -> Promise:
    """The promise of a release; one without a readable run record is held to protect the columns in ``usual``, or all.

    Raises:
        InputError: No label column is a protected task that can be measured.
    """
    run = None
    if (release / FOLDER).exists():
        with contextlib.suppress(InputError):  # the audit reports what is wrong with it
            run = read_run(release)
    if run is not None:
        return promised(run.epsilon, run.tasks, labels, run.keep if keep is None else keep)
    covered = [name for name in (labels.names if usual is None else usual) if name not in (keep or ())]
    return replace(promised(ASSUMED_EPSILON, covered, labels, keep or ()), is_assumed=True)


def promised(epsilon: int, tasks: Sequence[str], labels: TaskSet, keep: Sequence[str] = ()) -> Promise:
    """The promise to protect ``tasks``, as far as they are label columns that something can be learned from.

    Those of ``keep`` are to stay useful.

    Raises:
        InputError: None is.
    """
    covered = labels.subset(tasks)
    kept = tuple(task.name for task in labels.subset(keep) if task.name not in tasks and not class_faults(task))
    left_open = ", ".join(name for name in labels.names if name not in (*tasks, *kept))
    if not covered:
        raise InputError(f"no label column is a protected task (columns: {left_open}; protected: {', '.join(tasks)})")
    faults = {task.name: class_faults(task) for task in covered}
    measured = tuple(name for name in covered.names if not faults[name])
    unfit = [fault for name in covered.names for fault in faults[name]]
    if not measured:
        raise InputError("no protected task can be measured with these labels", unfit)
    notes = [f"not protected by design and left out: {left_open}"] if left_open else []
    notes += [f"kept useful by design, so learned too and not judged: {', '.join(kept)}"] if kept else []
    absent = ", ".join(name for name in tasks if name not in labels)
    if absent:
        notes.append(f"protected, but not measured, since the labels have no such column: {absent}")
    notes += [f"not measured: {fault}" for fault in unfit]
    return Promise(epsilon, measured, tuple(notes), kept)


def refuse_unkept(keep: Sequence[str], promise: Promise, labels: TaskSet) -> None:
    """Refuse columns that are to stay useful and cannot be measured as such.

    Raises:
        InputError: Says of each why.
    """
    faults = {
        name: f"no label column is called {name}"
        if name not in labels
        else f"{name} is protected"
        if name in promise.tasks
        else "; ".join(class_faults(labels[name]))
        for name in keep
        if name not in promise.kept
    }
    if faults:
        raise InputError(
            "columns of --keep cannot be measured", list(faults.values()), "name columns that the release leaves alone"
        )


def utility_notes(conditions: Sequence[ConditionFigures], kept: Sequence[str]) -> list[str]:
    """What victims of the release as it is learn of each kept task, one line per victim; nothing without such tasks."""
    notes: list[str] = []
    for found in conditions:
        if not kept or found.role is not Role.JUDGED or found.countermeasure is not None:
            continue
        learned = {one.task: one.learned_fraction for one in found.tasks if one.task in kept}
        shown = [
            f"{name}: too little is learned from clean images to tell"
            if share is None
            else f"{name} {share.mean:.2f}" + ("" if share.mean >= USEFUL else f" (less than the intended {USEFUL})")
            for name, share in learned.items()
        ]
        notes.append(
            f"kept useful, share of what clean images teach after the last epoch, {found.name}: {', '.join(shown)}"
        )
    return notes
