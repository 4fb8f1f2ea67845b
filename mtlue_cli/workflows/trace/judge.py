"""``mtlue trace judge``: from answers to a verdict."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

import numpy as np
import numpy.typing as npt
from msgspec import structs

from mtlue_cli.choices import ExitCode
from mtlue_cli.documents import Document
from mtlue_cli.errors import InputError
from mtlue_cli.files import file_digest
from mtlue_cli.workflows.progress import Progress
from mtlue_cli.workflows.trace.answers import LEAST_COUNTED, Answers, Numbers, Renamed, TaskAnswers, read_answers
from mtlue_cli.workflows.trace.config import FULL_SIGNAL, JudgeConfig
from mtlue_cli.workflows.trace.ranks import holm, interval, p_in_words, power, rank_sum_p, ranks, smallest_p
from mtlue_cli.workflows.trace.sealed import TRUE_ARM, SealedAnswers, opened

ENOUGH_POWER = 0.8
"""Power from which a result without evidence is not for lack of queries."""


class TraceVerdict(StrEnum):
    """What the answers say."""

    TRAINED = "trained on this release"
    NO_EVIDENCE = "no evidence"
    TOO_FEW = "too few queries"

    @property
    def exit_code(self) -> ExitCode:
        """What the process says."""
        codes = {self.TRAINED: ExitCode.SUCCESS, self.NO_EVIDENCE: ExitCode.NOT_PROTECTED}
        return codes.get(self, ExitCode.INCONCLUSIVE)


_SIGNS = {
    TraceVerdict.TRAINED: ("protected", "\N{HEAVY CHECK MARK}"),
    TraceVerdict.NO_EVIDENCE: ("inconclusive", "\N{EN DASH}"),
    TraceVerdict.TOO_FEW: ("inconclusive", "?"),
}
"""Verdict to its colour on a page and the sign beside its word."""


class TaskResult(Document, frozen=True):
    """Figures of one task.

    Attributes:
        name: The task.
        stages: Stages that test it.
        answers: Answers to true codes; decoys have as many in each of the other arms.
        follow_true, follow_decoys: Share of answers that name the class of the code, shown at full strength.
        difference_low, difference_high: 95 % interval of their difference; None with a single stage.
        p_value: Of the labels, exact.
        p_holm: After Holm's correction over the tasks.
        p_scores: Of the scores; None where there are none.
    """

    name: str
    stages: int
    answers: int
    follow_true: float
    follow_decoys: float
    difference_low: float | None
    difference_high: float | None
    p_value: float
    p_holm: float
    p_scores: float | None = None


class StageResult(Document, frozen=True):
    """What happened in one stage.

    Attributes:
        tested: Classes whose codes were tested, by task.
        followed: Answers that name the class of the code, by arm; the first is the true one.
        asked: Answers per arm.
        rank: Rank of the true codes by labels.
        rank_scores: And by scores.
    """

    tested: Mapping[str, Sequence[str]]
    followed: Sequence[int]
    asked: int
    rank: int
    rank_scores: int | None = None


class JudgeResult(Document, frozen=True, tag_field="schema_version", tag=1):
    """The result of ``mtlue trace judge``.

    Attributes:
        verdict: In words.
        reason: One sentence.
        p_value: What the verdict is made of: of the scores if all answered tasks have some, else of the labels.
        basis: ``scores`` or ``labels``.
        p_labels, p_scores: Both.
        level: Chance of a false alarm that is accepted.
        smallest_p: The least that these probes could have given.
        power: How often a model that follows :attr:`full_signal` of the true codes is found.
        full_signal: That share.
        arms, images: True codes and decoys, and images per stage.
        queries: Probes.
        tasks: Figures per task.
        stages: What happened in each stage.
        answers: Where the answers come from.
        answers_sha256: Digest of that file; empty for a table that was given in Python.
        probes, made: The folder, and when it was made.
        commitment_sha256: Digest of its commitment.
        seed_sha256, key_fingerprint, release_sha256: What the commitment is to.
        unknown_names: Whether the naming of classes was unknown.
        notes: How answers were understood.
        versions: Of the program that made the probes and what it computed with.
    """

    verdict: TraceVerdict
    reason: str
    p_value: float
    basis: str
    p_labels: float
    p_scores: float | None
    level: float
    smallest_p: float
    power: float
    full_signal: float
    arms: int
    images: int
    queries: int
    tasks: Sequence[TaskResult]
    stages: Sequence[StageResult]
    answers: str
    answers_sha256: str
    probes: str
    made: str
    commitment_sha256: str
    key_fingerprint: str
    release_sha256: str
    unknown_names: bool
    notes: Sequence[str]
    versions: Mapping[str, str]

    @property
    def exit_code(self) -> ExitCode:
        """What the process says."""
        return self.verdict.exit_code

    def html(self) -> str:
        """The page of ``--report``."""
        from mtlue_cli.verification.reports.pages import page_environment  # brings torch
        from mtlue_cli.verification.reports.wording import NOTHING

        environment = page_environment("mtlue_cli.workflows", "trace")
        environment.filters["p"] = lambda p: NOTHING if p is None else p_in_words(p)
        colour, sign = _SIGNS[self.verdict]
        return environment.get_template("trace.html.jinja").render(result=self, colour=colour, sign=sign)


def judge_model(config: JudgeConfig, progress: Progress) -> JudgeResult:
    """Judge the answers of a table, or of a model file.

    Raises:
        InputError: Probes, sealed answers and answers do not go together.
    """
    if (config.answers is None) == (config.model is None):
        raise InputError("give either --answers or --model", hint="--answers predictions.csv")
    sealed, commitment = opened(config.probes, config.sealed)
    renamed = Renamed.read(config.map, sealed.tasks)
    if config.model is None:
        assert config.answers is not None
        answers = read_answers(config.answers, sealed, renamed, unknown_names=config.unknown_names)
        for note in answers.notes:
            progress.note(note)
    else:
        from mtlue_cli.workflows.trace.models import ask_model

        answers = ask_model(config.probes, sealed, config, renamed, progress)
    answers = replace(answers, notes=(*answers.notes, *renamed.notes()))
    result = judge_answers(sealed, answers, config.level, config.probes, commitment, unknown=config.unknown_names)
    read = config.model if config.answers is None else config.answers
    assert read is not None
    return structs.replace(result, answers_sha256=file_digest(read))


def judge_answers(
    sealed: SealedAnswers, answers: Answers, level: float, probes: Path, commitment: str, *, unknown: bool = False
) -> JudgeResult:
    """The verdict on answers to all probes.

    Raises:
        InputError: No stage tests a task that was answered.
    """
    counted = Counted(sealed, answers.tasks, unknown)
    if not counted.stages:
        raise InputError("no task that was answered is tested by these probes")
    p_labels = rank_sum_p(counted.ranks(counted.followed.sum(axis=2)), sealed.arms)
    with_scores = all(own.scores is not None for own in answers.tasks.values())
    p_scores = rank_sum_p(counted.ranks(counted.scores.sum(axis=2)), sealed.arms) if with_scores else None
    p_value = p_labels if p_scores is None else p_scores
    tasks = counted.task_results(answers.tasks)
    least = smallest_p(len(counted.stages), sealed.arms)
    follow = {task.name: task.follow_decoys for task in tasks}
    found_by = power(counted.counts(), sealed.arms, follow, FULL_SIGNAL, level)
    verdict, reason = _verdict(p_value, level, least, found_by)
    return JudgeResult(
        verdict=verdict,
        reason=reason,
        p_value=p_value,
        basis="labels" if p_scores is None else "scores",
        p_labels=p_labels,
        p_scores=p_scores,
        level=level,
        smallest_p=least,
        power=found_by,
        full_signal=FULL_SIGNAL,
        arms=sealed.arms,
        images=sealed.images,
        queries=len(sealed.probes),
        tasks=tasks,
        stages=counted.stage_results(with_scores=with_scores),
        answers=answers.source,
        answers_sha256="",
        probes=str(probes),
        made=sealed.made,
        commitment_sha256=commitment,
        key_fingerprint=sealed.key_fingerprint,
        release_sha256=sealed.release_sha256,
        unknown_names=unknown,
        notes=answers.notes,
        versions=sealed.versions,
    )


@dataclass
class Counted:
    """Answers by stage, arm and task.

    Attributes:
        stages: Numbers of the stages that test a task that was answered.
        names: Those tasks.
        asked: ``(stages, tasks)`` answers per arm.
        followed: ``(stages, arms, tasks)`` answers that name the class of the code.
        asked_full, followed_full: The same of probes at full strength.
        scores: ``(stages, arms, tasks)`` log-probabilities of these classes, summed; zeros without scores.
    """

    def __init__(self, sealed: SealedAnswers, answers: Mapping[str, TaskAnswers], unknown: bool) -> None:
        self._sealed = sealed
        self.names = [name for name in sealed.tasks if name in answers]
        cells: dict[tuple[int, str], dict[int, list[int]]] = {}
        for number, probe in enumerate(sealed.probes):
            for name in probe.tested:
                if name in answers:
                    cells.setdefault((probe.stage, name), {}).setdefault(probe.arm, []).append(number)
        self.stages = sorted({stage for stage, _ in cells})
        shape = (len(self.stages), sealed.arms, len(self.names))
        self.asked = np.zeros((shape[0], shape[2]), np.int64)
        self.asked_full = np.zeros_like(self.asked)
        self.followed, self.followed_full, self.scores = np.zeros(shape), np.zeros(shape), np.zeros(shape)
        taken: dict[str, set[int]] = {name: set() for name in self.names}
        for row, stage in enumerate(self.stages):
            for place, name in enumerate(self.names):
                if (stage, name) not in cells:
                    continue
                arms = cells[stage, name]
                self.asked[row, place] = len(arms[TRUE_ARM])
                count = _count_unknown if unknown else _count
                given: dict[int, set[int]] = {}
                for arm, probes in arms.items():
                    counted = count(sealed, answers[name], name, probes, taken[name])
                    self.followed[row, arm, place], self.scores[row, arm, place], given[arm] = counted
                    full = [number for number in probes if sealed.probes[number].epsilon == sealed.epsilon]
                    self.asked_full[row, place] = len(full)
                    self.followed_full[row, arm, place] = count(sealed, answers[name], name, full, taken[name])[0]
                taken[name] = given[TRUE_ARM]

    def ranks(self, scores: Numbers) -> list[int]:
        """Ranks of the true codes by ``scores``, ``(stages, arms)``."""
        return ranks(scores, self._ties())

    def counts(self) -> list[dict[str, int]]:
        """Of each stage, how many answers of an arm test each task."""
        return [{name: int(count) for name, count in zip(self.names, row, strict=True) if count} for row in self.asked]

    def task_results(self, answers: Mapping[str, TaskAnswers]) -> list[TaskResult]:
        """Figures per task."""
        found: dict[str, tuple[list[int], float, float | None]] = {}
        for place, name in enumerate(self.names):
            rows = np.flatnonzero(self.asked[:, place]).tolist()
            if not rows:
                continue
            ties = self._ties()[rows]
            p = rank_sum_p(ranks(self.followed[rows, :, place], ties), self._sealed.arms)
            scored = answers[name].scores is not None
            p_scores = rank_sum_p(ranks(self.scores[rows, :, place], ties), self._sealed.arms) if scored else None
            found[name] = rows, p, p_scores
        corrected = holm({name: p for name, (_, p, _) in found.items()})
        return [self._task(name, *figures, corrected[name]) for name, figures in found.items()]

    def stage_results(self, *, with_scores: bool) -> list[StageResult]:
        """What happened in each stage."""
        by_label = self.ranks(self.followed.sum(axis=2))
        by_score = self.ranks(self.scores.sum(axis=2)) if with_scores else [None] * len(self.stages)
        return [
            StageResult(
                self._tested(stage),
                [int(count) for count in self.followed[row].sum(axis=1)],
                int(self.asked[row].sum()),
                by_label[row],
                by_score[row],
            )
            for row, stage in enumerate(self.stages)
        ]

    def _task(self, name: str, rows: list[int], p: float, p_scores: float | None, corrected: float) -> TaskResult:
        place = self.names.index(name)
        asked = self.asked_full[rows, place]
        true = self.followed_full[rows, TRUE_ARM, place] / asked
        others = self.followed_full[rows, TRUE_ARM + 1 :, place].mean(axis=1) / asked
        between = interval((true - others).tolist(), np.random.default_rng(0))
        return TaskResult(
            name,
            len(rows),
            int(self.asked[rows, place].sum()),
            float(np.average(true, weights=asked)),
            float(np.average(others, weights=asked)),
            None if between is None else between[0],
            None if between is None else between[1],
            p,
            corrected,
            p_scores,
        )

    def _tested(self, stage: int) -> dict[str, list[str]]:
        found: dict[str, dict[str, None]] = {}
        for probe in self._sealed.probes:
            if probe.stage == stage and probe.arm == TRUE_ARM:
                for name in probe.tested:
                    found.setdefault(name, {})[probe.classes[name]] = None
        return {name: sorted(classes) for name, classes in found.items()}

    def _ties(self) -> Numbers:
        """A random number for each stage and arm, fixed by the seed that was committed to."""
        seed = int.from_bytes(bytes.fromhex(self._sealed.seed), "big")
        drawn: Numbers = np.random.default_rng([seed, 1]).random((self._sealed.stages, self._sealed.arms))
        return drawn[self.stages]


def _count(
    sealed: SealedAnswers, answers: TaskAnswers, task: str, probes: Sequence[int], taken: set[int]
) -> tuple[float, float, set[int]]:
    """How many of ``probes`` are answered with the class of their code, and the log-probabilities of these classes.

    ``taken`` are names that stages have given to classes, where the naming is unknown; returned with those of this one.
    """
    classes = _classes(sealed, task, probes)
    followed = float((answers.labels[list(probes)] == classes).sum())
    return followed, 0.0 if answers.scores is None else _counted(answers.scores[list(probes), classes]), taken


def _count_unknown(
    sealed: SealedAnswers, answers: TaskAnswers, task: str, probes: Sequence[int], taken: set[int]
) -> tuple[float, float, set[int]]:
    """The same for whichever naming fits best: one name per class, and none that an earlier stage has given away."""
    followed, score = 0.0, 0.0
    rows, classes = np.asarray(probes), _classes(sealed, task, probes)
    given = set(taken)
    for shown in np.unique(classes):
        own = rows[classes == shown]
        free = [name for name in range(len(answers.names)) if name not in given]
        if not free:
            break
        counts = np.bincount(answers.labels[own], minlength=len(answers.names))
        best = max(free, key=lambda name: (int(counts[name]), -name))
        followed += int(counts[best])
        if answers.scores is not None:
            score += max(_counted(answers.scores[own, name]) for name in free)
        given.add(best)
    return followed, score, given


def _counted(logs: Numbers) -> float:
    """Sum of log-probabilities, each as it counts."""
    return float(np.maximum(logs, LEAST_COUNTED).sum())


def _classes(sealed: SealedAnswers, task: str, probes: Sequence[int]) -> npt.NDArray[np.int64]:
    known = {name: number for number, name in enumerate(sealed.tasks[task])}
    return np.array([known[sealed.probes[number].classes[task]] for number in probes], np.int64)


def _verdict(p_value: float, level: float, least: float, found_by: float) -> tuple[TraceVerdict, str]:
    if p_value <= level:
        return TraceVerdict.TRAINED, (
            f"true codes are followed more than decoys, to a degree that a model that has never seen the release "
            f"reaches with a probability of {p_value:.1e}"
        )
    if least > level:
        return TraceVerdict.TOO_FEW, (
            f"these probes cannot give a p-value below {least:.2g}, and {level:g} is asked for: make more probes"
        )
    if found_by < ENOUGH_POWER:
        return TraceVerdict.TOO_FEW, (
            f"the p-value is {p_value:.2g}, but so few probes would find a model that follows {FULL_SIGNAL:.0%} of the "
            f"true codes only {found_by:.0%} of the time: make more probes"
        )
    return TraceVerdict.NO_EVIDENCE, (
        f"true codes are not followed more than decoys (p-value {p_value:.2g}); a model that follows {FULL_SIGNAL:.0%} "
        f"of the true codes would be found {found_by:.0%} of the time"
    )
