"""What a release or a generator promises: a bound, and the tasks that nobody is to learn."""

from collections.abc import Sequence
from dataclasses import dataclass

from mtlue_cli.errors import InputError
from mtlue_cli.manifest import Manifest
from mtlue_cli.tasks.spec import TaskSet

ASSUMED_EPSILON = 8
"""Epsilon of the noise control for a release that does not say its own, in 255ths."""


@dataclass(frozen=True)
class Promise:
    """What is judged.

    Attributes:
        epsilon: Bound in 255ths; the noise control takes the same.
        tasks: The label columns that are protected; the verdict rests on these.
        notes: What a reader should know.
    """

    epsilon: int
    tasks: tuple[str, ...]
    notes: tuple[str, ...] = ()


def promised_by_manifest(manifest: Manifest | None, labels: TaskSet) -> Promise:
    """The promise of a release; one without a manifest is held to protect every label column.

    Raises:
        InputError: No label column is a protected task.
    """
    if manifest is None:
        note = f"the release does not say its epsilon: the noise control takes {ASSUMED_EPSILON}/255"
        return Promise(ASSUMED_EPSILON, labels.names, (note,))
    return promised(manifest.run.epsilon, manifest.run.tasks, labels)


def promised(epsilon: int, tasks: Sequence[str], labels: TaskSet) -> Promise:
    """The promise to protect ``tasks``, as far as they are label columns.

    Raises:
        InputError: None is.
    """
    covered = tuple(name for name in labels.names if name in tasks)
    left_open = ", ".join(name for name in labels.names if name not in tasks)
    if not covered:
        raise InputError(f"no label column is a protected task (columns: {left_open}; protected: {', '.join(tasks)})")
    notes = (f"not protected by design, shown and not judged: {left_open}",) if left_open else ()
    return Promise(epsilon, covered, notes)
