"""From the accuracies of the victims to one verdict."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from mtlue_cli.metrics.classification import AverageLearned, average_learned, is_conclusive, learned_fraction
from mtlue_cli.tasks.spec import TaskSet

RELIABLE_CONTROL = 0.5
"""Noise that protects better than this learned fraction shows that the victims are too weak to judge by."""


class Verdict(StrEnum):
    """What a verification ends with."""

    PROTECTED = "protected"
    NOT_PROTECTED = "not protected"
    INCONCLUSIVE = "inconclusive"


@dataclass(frozen=True)
class TaskFigures:
    """One line of the table; accuracies in [0, 1], None where that victim was not trained.

    Attributes:
        name: The task.
        gated: Whether the release means to protect this task; others are shown and not judged.
        floor, clean, protected, control: Accuracies.
        learned: Learned fraction of the protected victim; None if inconclusive or not measured.
        control_learned: The same of the control victim.
    """

    name: str
    gated: bool
    floor: float
    clean: float
    protected: float | None
    control: float | None
    learned: float | None
    control_learned: float | None

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready document."""
        return {
            "task": self.name,
            "judged": self.gated,
            "floor": self.floor,
            "accuracy": {"clean": self.clean, "protected": self.protected, "noise": self.control},
            "learned_fraction": self.learned,
            "noise_learned_fraction": self.control_learned,
        }


@dataclass(frozen=True)
class Judgement:
    """The verdict, with everything that it rests on.

    Attributes:
        verdict: The outcome.
        reason: One sentence for a reader.
        max_learned: The gate on the average learned fraction.
        tasks: One line a task.
        protected, control: Averages over the judged, conclusive tasks; None where not measured or none is conclusive.
        worst: The judged task with the highest learned fraction, or None.
        above_gate: Judged tasks whose own learned fraction exceeds the gate, whatever the average says.
    """

    verdict: Verdict
    reason: str
    max_learned: float
    tasks: tuple[TaskFigures, ...] = ()
    protected: AverageLearned | None = None
    control: AverageLearned | None = None
    worst: TaskFigures | None = None
    above_gate: tuple[TaskFigures, ...] = ()

    @property
    def warning(self) -> str | None:
        """Which tasks a victim learns although the gate is on the average; None if there is none."""
        if not self.above_gate:
            return None
        named = ", ".join(f"{task.name} ({task.learned:.2f})" for task in self.above_gate)
        return f"taken alone, a victim learns more than {self.max_learned:.2f} of: {named}"

    @property
    def can_judge(self) -> bool:
        """Whether the clean victim beats the floor on any judged task, so that more victims are worth their time."""
        return any(task.gated and is_conclusive(task.clean, task.floor) for task in self.tasks)

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready document."""
        return {
            "verdict": self.verdict.value,
            "reason": self.reason,
            "max_learned": self.max_learned,
            "tasks": [task.to_json() for task in self.tasks],
            "average": _average_to_json(self.protected),
            "noise_average": _average_to_json(self.control),
            "tasks_above_gate": [task.name for task in self.above_gate],
            "warning": self.warning,
            "worst_task": self.worst.name if self.worst else None,
        }


def judge(
    tasks: TaskSet,
    floor: Mapping[str, float],
    clean: Mapping[str, float],
    protected: Mapping[str, float] | None,
    control: Mapping[str, float] | None,
    gated: Collection[str],
    max_learned: float,
) -> Judgement:
    """Judge a release by its victims.

    Args:
        tasks: All tasks of the victims.
        floor: Accuracy of the best constant guess, a task.
        clean: Accuracy of the victim trained on clean images.
        protected: Accuracy of the victim trained on the release; None if it was not trained.
        control: Accuracy of the victim trained on noisy images; None if there was no control.
        gated: Names of the tasks that the release means to protect.
        max_learned: Highest average learned fraction that still counts as protected.
    """
    judged = tuple(name for name in tasks.names if name in gated)
    lines = tuple(
        TaskFigures(
            name=name,
            gated=name in gated,
            floor=floor[name],
            clean=clean[name],
            protected=protected[name] if protected else None,
            control=control[name] if control else None,
            learned=learned_fraction(protected[name], clean[name], floor[name]) if protected else None,
            control_learned=learned_fraction(control[name], clean[name], floor[name]) if control else None,
        )
        for name in tasks.names
    )
    average = average_learned(protected, clean, floor, judged) if protected else None
    noise = average_learned(control, clean, floor, judged) if control else None
    ranked = sorted(
        (line for line in lines if line.gated and line.learned is not None), key=lambda line: line.learned or 0
    )
    worst = ranked[-1] if ranked else None
    verdict, reason = _decide(clean, floor, judged, average, noise, worst, max_learned)
    above = tuple(line for line in ranked if line.learned is not None and line.learned > max_learned)
    return Judgement(verdict, reason, max_learned, lines, average, noise, worst, above)


def failed_audit(faults: int, max_learned: float) -> Judgement:
    """The judgement of a release whose files already fail; no victim was trained."""
    count = "1 fault" if faults == 1 else f"{faults} faults"
    reason = f"the audit of the release found {count}; no victim was trained"
    return Judgement(Verdict.NOT_PROTECTED, reason, max_learned)


def _decide(
    clean: Mapping[str, float],
    floor: Mapping[str, float],
    judged: tuple[str, ...],
    average: AverageLearned | None,
    noise: AverageLearned | None,
    worst: TaskFigures | None,
    max_learned: float,
) -> tuple[Verdict, str]:
    if average_learned(clean, clean, floor, judged) is None:
        return Verdict.INCONCLUSIVE, (
            "the victim trained on clean images beats the floor by 2 points on no judged task; "
            "give it more images or --epochs"
        )
    if noise is not None and noise.fraction < RELIABLE_CONTROL:
        return Verdict.INCONCLUSIVE, (
            f"the measurement is unreliable: plain noise already lowers the learned fraction to {noise.fraction:.2f} "
            f"(it should stay above {RELIABLE_CONTROL}); give the victims more images or --epochs"
        )
    if average is None or worst is None:
        return Verdict.INCONCLUSIVE, "no victim was trained on protected images"
    figures = (
        f"a victim learns {average.fraction:.2f} of what clean images teach on average "
        f"(at most {max_learned:.2f} allowed; worst task: {worst.name} with {worst.learned:.2f})"
    )
    untold = [name for name in judged if name not in average.tasks]
    if untold:
        figures += f"; not in the average, since clean images teach hardly more than the floor: {', '.join(untold)}"
    return (Verdict.PROTECTED if average.fraction <= max_learned else Verdict.NOT_PROTECTED), figures


def _average_to_json(average: AverageLearned | None) -> dict[str, Any] | None:
    if average is None:
        return None
    return {
        "tasks": list(average.tasks),
        "accuracy": average.victim,
        "clean_accuracy": average.clean,
        "floor": average.floor,
        "learned_fraction": average.fraction,
    }
