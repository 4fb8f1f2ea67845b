"""Made result documents of ``mtlue verify``."""

from collections.abc import Sequence
from typing import Any

from msgspec.structs import replace

from mtlue_cli.choices import ImageFormat, LearnerName, MetricName, Tier
from mtlue_cli.metrics.flip import MeanFlip
from mtlue_cli.metrics.repeated import Repeated
from mtlue_cli.verification.audit import AuditReport
from mtlue_cli.verification.bootstrap import Interval
from mtlue_cli.verification.conditions import Role
from mtlue_cli.verification.document import Counts, VerifyDocument
from mtlue_cli.verification.figures import (
    Concepts,
    ConditionFigures,
    Curve,
    Learned,
    Stage,
    TaskFigures,
    Victim,
    average_of,
    reached,
    stronger,
)
from mtlue_cli.verification.probes.base import ProbeFigures
from mtlue_cli.verification.report import EXIT_CODES
from mtlue_cli.verification.tiers import NotTested
from mtlue_cli.verification.verdict import Verdict
from mtlue_cli.verification.victim_result import CurvePoint

MAX_LEARNED = 0.25
AUDIT = AuditReport(
    manifest=True,
    epsilon=8,
    weights={"name": "utkface", "sha256": "ab" * 32},
    protected_tasks=("age", "race", "gender"),
    format=ImageFormat.PNG,
    files=2000,
    measured=2000,
    max_change=8.0,
    quarantined={"00017.jpg": "truncated"},
    trace="mtlue trace probes CLEAN_PHOTOS --release faces-protected --out probes",
    notes=("12 files of the release have no row in the labels: checked all the same, but not trained on",),
)

HOSTILE = (
    "<script>alert(1)</script>",
    "a & b | c",
    "\"double\" 'single' `tick` ``two``",
    "smile \N{GRINNING FACE} _under_ *star* [link](https://example.org)",
    "line\nbreak\x00\x07 control",
    "half \ud83d surrogate ]]> {{ 7 * 7 }}",
)


def task(
    name: str,
    learned: float | None,
    *,
    best_gain: float | None = -0.05,
    clean: float = 0.9,
    floor: float = 0.5,
    judged: bool = True,
    seeds: int = 1,
) -> TaskFigures:
    """A task whose victim learned ``learned``; None makes it inconclusive. Seeds lie 0.01 apart.

    At the best epoch it learned ``best_gain`` more; None: that was not measured.
    """
    conclusive = learned is not None
    clean = clean if conclusive else floor + 0.01
    spread = [0.01 * (seed - (seeds - 1) / 2) for seed in range(seeds)]
    fractions = [(learned or 0.0) + step for step in spread]
    accuracy = [floor + fraction * (clean - floor) for fraction in fractions]
    best = None if best_gain is None else [fraction + best_gain for fraction in fractions]
    best_score = Repeated.of(floor + fraction * (clean - floor) for fraction in best) if best else None
    last_learned = Repeated.of(fractions) if conclusive else None
    best_learned = Repeated.of(best) if best and conclusive else None
    return TaskFigures(
        task=name,
        judged=judged,
        conclusive=conclusive,
        floor=floor,
        place_floor=None,
        clean=Repeated.of([clean] * seeds),
        score=Repeated.of(accuracy),
        metric="accuracy",
        lower_is_better=False,
        accuracy=Repeated.of(accuracy),
        balanced_accuracy=Repeated.of(value - 0.02 for value in accuracy),
        auroc=Repeated.of(value + 0.01 for value in accuracy) if conclusive else None,
        dense=None,
        learned=stronger(
            Learned(last_learned, Repeated.of(accuracy)) if last_learned else None,
            Learned(best_learned, best_score, at_best_epoch=True) if best_learned and best_score else None,
        ),
        learned_fraction=last_learned,
        learned_beyond_place=None,
        best_epoch_accuracy=best_score,
        best_epoch_learned_fraction=best_learned,
    )


def angles(name: str, learned: float, seeds: int = 1) -> TaskFigures:
    """A task of normals: floor 40 degrees, 30 by position alone, clean 20."""
    found = task(name, learned, clean=20.0, floor=40.0, seeds=seeds)
    return replace(
        found,
        place_floor=30.0,
        learned_beyond_place=Repeated.of((value - 30.0) / (20.0 - 30.0) for value in found.score.values),
        balanced_accuracy=None,
        auroc=None,
        metric="mean_angle",
        lower_is_better=True,
        dense={"mean_angle": found.score},
    )


def after_the_last_epoch(one: TaskFigures) -> TaskFigures:
    """A task under a condition whose victim does not stop early."""
    return replace(one, learned=one.learned_fraction and Learned(one.learned_fraction, one.score))


def condition(
    name: str,
    tasks: Sequence[TaskFigures],
    *,
    role: Role = Role.JUDGED,
    title: str | None = None,
    countermeasure: str | None = None,
    source: str | None = None,
    epochs: int = 4,
) -> ConditionFigures:
    """A condition with curves that climb to the accuracies of ``tasks``."""
    seeds = tuple(range(len(tasks[0].score.values)))
    kept = [one for one in tasks if one.judged and one.conclusive]
    last = average_of(kept, [one.score for one in kept])
    best = average_of(kept, [one.best_epoch_accuracy for one in kept])
    most = stronger(reached(last), reached(best, at_best_epoch=True))
    stops_early = role not in (Role.CONTROL, Role.REFERENCE)
    judged_most = most.mean if most and role is Role.JUDGED else 0.0

    def point(seed: int, epoch: int) -> CurvePoint:
        climb = (epoch / epochs) ** 0.5
        train = None if epoch == 1 else min(1.0, 0.5 + 0.48 * epoch / epochs)
        tested = {one.task: one.floor + climb * (one.score.values[seed] - one.floor) for one in tasks}
        return CurvePoint(epoch, None if epoch == 1 else 1.0 / epoch, dict.fromkeys(tested, train), tested)

    return ConditionFigures(
        name=name,
        role=role,
        title=title or name,
        victim=Victim(name.split(" + ")[0], LearnerName.MTL, "ls", "scratch", {}),
        countermeasure=countermeasure,
        countermeasure_settings=None if countermeasure is None else {"quality": 10},
        source=source,
        protected_fraction=1.0,
        seeds=seeds,
        tasks=tuple(tasks if stops_early else map(after_the_last_epoch, tasks)),
        average=last,
        best_epoch_average=best,
        best_epochs=((epochs, epochs - 1),) * len(seeds),
        steps_per_epoch=50,
        best_epoch_steps=((50 * epochs, 50 * (epochs - 1)),) * len(seeds),
        learned=most if stops_early else reached(last),
        learned_fraction=most.mean if most else None,
        above_gate=judged_most > MAX_LEARNED,
        recovers_half=judged_most > 0.5,
        curves=tuple(Curve(seed, tuple(point(seed, epoch) for epoch in range(1, epochs + 1))) for seed in seeds),
        seconds=42.5,
        cached=False,
    )


def document(
    verdict: Verdict,
    reason: str,
    conditions: Sequence[ConditionFigures],
    **changes: Any,  # noqa: ANN401 - any field
) -> VerifyDocument:
    """A whole document; ``changes`` replace its fields."""
    measured = [one for one in conditions if one.role is Role.JUDGED and one.learned_fraction is not None]
    worst = max(measured, key=lambda one: one.learned_fraction or 0.0, default=None)
    made = VerifyDocument(
        subject="release faces-protected",
        verdict=verdict,
        reason=reason,
        warning=None,
        max_learned=MAX_LEARNED,
        metric=MetricName.ACCURACY,
        tier=Tier.SMOKE,
        worst_condition=worst.name if worst else None,
        exit_code=EXIT_CODES[verdict],
        conditions=tuple(conditions),
        probes=(
            ProbeFigures(
                "detector",
                "Linear detector",
                {"auroc": 0.987, "accuracy": 0.951},
                "how well a linear model tells protected from clean images; 0.5 is a coin toss",
            ),
        ),
        not_tested=(
            NotTested("pgd", "adversarial training takes hours; run --tier full"),
            NotTested("vit-b-16", "left out by --tier smoke"),
        ),
        audit=AUDIT,
        key_fingerprint=None,
        counts=Counts(1600, 400),
        settings={"epochs": 4, "size": 64, "backbone": ["resnet18"], "limit": None},
        device="cpu (2 threads)",
        versions={"mtlue": "0.1.0", "torch": "2.15.0"},
        epsilon=8,
        flip=MeanFlip(0.1503, 24),
        notes=("3 images are in quarantine, not in the release, and left out here",),
        command_line="mtlue verify faces --labels faces/labels.csv --protected faces-protected --tier smoke",
        seconds=412.3,
        digest="3f1c9a52",
    )
    return replace(made, **changes)


def protected() -> VerifyDocument:
    """Two judged conditions below the gate; one task above it taken alone, one inconclusive, one not judged."""
    return document(
        Verdict.PROTECTED,
        "a victim learns 0.14 of what clean images teach on average under the worst condition",
        [
            condition(
                "resnet18", [task(name, 1.0) for name in ("age", "race")], role=Role.REFERENCE, title="Clean images"
            ),
            condition("resnet18 + noise", [task("age", 0.97), task("race", 0.99)], role=Role.CONTROL, title="Noise"),
            condition(
                "resnet18 + none",
                [task("age", -0.4), task("race", 0.1), task("gender", None), task("glasses", 0.9, judged=False)],
                title="As released",
            ),
            condition(
                "resnet18 + jpeg-10",
                [task("age", -0.02), task("race", 0.3), task("gender", None), task("glasses", 1.02, judged=False)],
                title="JPEG, quality 10",
                countermeasure="jpeg-10",
                source="Liu et al., ICML 2023",
            ),
        ],
        warning="taken alone, a victim learns more than 0.25 of: race (0.30)",
    )


def with_new_victims() -> VerifyDocument:
    """Two kept tasks; victims that saw a sequence of releases, have a concept bottleneck, or stopped early."""
    rows = [task("age", 0.1), task("race", 0.2), task("gender", 1.0, judged=False), task("hat", 0.8, judged=False)]
    unjudged = average_of(rows[2:], [row.score for row in rows[2:]])

    def made(name: str, **others: Any) -> ConditionFigures:  # noqa: ANN401 - any field
        return replace(condition(name, rows), utility=unjudged, **others)

    stages = tuple(
        Stage(
            protected_fraction=share,
            score=Repeated.of([score]),
            learned_fraction=Repeated.of([(score - 0.5) / 0.4]),
            error=Repeated.of([error]),
            mean_error=Repeated.of([mean]),
        )
        for share, score, error, mean in ((1.0, 0.5, 0.1, 0.1), (0.5, 0.7, 0.2, 0.15), (0.0, 0.9, 0.3, 0.2))
    )
    concepts = Concepts(
        target="gender",
        concepts=12,
        residuals=8,
        accuracy=Repeated.of([0.8]),
        by_concepts=Repeated.of([0.6]),
        learned_by_concepts=Repeated.of([0.25]),
        efficiency=Repeated.of([0.5]),
        efficiency_by_concepts=Repeated.of([0.75]),
    )
    return document(
        Verdict.PROTECTED,
        "fine",
        [
            condition(
                "small: clean images", [task(row.task, 1.0, judged=row.judged) for row in rows], role=Role.REFERENCE
            ),
            made("small"),
            made("small + early-stop", stopped_epochs=({"age": 2, "race": 2, "gender": 2, "hat": 2},)),
            made("small res-cbm", concepts=concepts),
            made("small: 100, 50, 0 % protected", role=Role.COMPARISON, trajectory=stages),
        ],
    )


def not_protected(seeds: int = 2) -> VerifyDocument:
    """Three judged conditions, the last above the gate and over half; several seeds."""
    names = ("age", "race", "gender")

    def row(*learned: float) -> list[TaskFigures]:
        return [task(name, one, seeds=seeds) for name, one in zip(names, learned, strict=True)]

    return document(
        Verdict.NOT_PROTECTED,
        "a victim learns 0.62 of what clean images teach on average under resnet18 + regression",
        [
            condition("resnet18", row(1.0, 1.0, 1.0), role=Role.REFERENCE, title="Clean images"),
            condition("resnet18 + none", row(-0.4, -0.1, 0.1), title="As released"),
            condition("resnet18 + jpeg-10", row(-0.1, 0.2, 0.3), title="JPEG, quality 10", countermeasure="jpeg-10"),
            condition(
                "resnet18 + regression",
                row(0.2, 0.71, 0.95),
                title="Label regression",
                countermeasure="regression",
                source="pixels regressed on the published labels",
            ),
            condition("resnet18 + noise", row(0.99, 0.98, 1.0), role=Role.CONTROL, title="Noise of the same size"),
        ],
    )


def undecided() -> VerifyDocument:
    """One judged condition whose interval holds the gate, judged with a confidence of 0.95."""
    made = condition("small", [task("age", 0.2, best_gain=None)])
    assert made.average is not None
    assert made.learned is not None
    interval = Interval(0.05, 0.371, 0.95)
    bounded = replace(
        made,
        average=replace(made.average, interval=interval),
        learned=replace(made.learned, interval=interval),
        undecided=True,
    )
    return document(Verdict.INCONCLUSIVE, "too few test images to tell", [bounded], confidence=0.95)


def stopped_early(seeds: int = 1) -> VerifyDocument:
    """A judged condition above the gate at its best epoch alone: below the gate, and below another, after the last."""
    return document(
        Verdict.NOT_PROTECTED,
        "under the worst of 2 conditions, small, a victim learns 0.75 of what clean images teach on average when it "
        "stops at its best epoch",
        [
            condition("resnet18", [task("age", 1.0, best_gain=0.07, seeds=seeds)], role=Role.REFERENCE),
            condition("resnet18 + noise", [task("age", 0.9, best_gain=0.07, seeds=seeds)], role=Role.CONTROL),
            condition("resnet18 + none", [task("age", 0.2, seeds=seeds), task("race", 0.2, seeds=seeds)]),
            condition(
                "small",
                [
                    task("age", 0.03, best_gain=1.002, seeds=seeds),
                    task("race", 0.23, best_gain=0.24, seeds=seeds),
                    task("glasses", 0.1, best_gain=0.2, judged=False, seeds=seeds),
                ],
            ),
        ],
    )


def other_metric() -> VerifyDocument:
    """One judged condition under a metric for which no best epoch is measured."""
    rows = [task("age", 0.4, best_gain=None), task("race", None, best_gain=None)]
    metric = MetricName.BALANCED
    rows = [replace(row, metric=metric.value) for row in rows]
    return document(Verdict.NOT_PROTECTED, "too much", [condition("resnet18 + none", rows)], metric=metric)


def inconclusive() -> VerifyDocument:
    """A clean victim that learned nothing, and the one judged condition that was run all the same."""
    return document(
        Verdict.INCONCLUSIVE,
        "the victim trained on clean images beats the floor by 2 points on no judged task",
        [
            condition("resnet18", [task("age", None), task("race", None)], role=Role.REFERENCE, title="Clean images"),
            condition("resnet18 + none", [task("age", None), task("race", None)], title="As released"),
        ],
        probes=(),
    )


def failed_audit(faults: int = 2) -> VerifyDocument:
    """A release whose files already fail; nothing was trained."""
    lines = [f"{number:05d}.png: its bytes are not those of the manifest" for number in range(faults)]
    return document(
        Verdict.NOT_PROTECTED,
        f"the audit of the release found {faults} faults; no victim was trained",
        [],
        probes=(),
        counts=None,
        flip=None,
        audit=replace(AUDIT, faults=tuple(lines)),
    )


def generator() -> VerifyDocument:
    """A generator that was judged without a release: no audit, no tier, nothing left out, no notes."""
    return replace(protected(), subject="generator utkface", audit=None, tier=None, not_tested=(), notes=())


def large(tasks: int = 40, conditions: int = 25, name: str = "attribute {}", *, epochs: int = 4) -> VerifyDocument:
    """Many tasks and conditions, with every kind of cell; the last condition is far above the gate."""

    def learned(row: int, column: int) -> float | None:
        if row % 13 == 12:
            return None
        return round(-0.6 + 1.7 * column / conditions + 0.3 * ((row * 7 + column * 3) % 11 - 5) / 5, 3)

    made = [
        condition("resnet18", [task(name.format(row), 1.0) for row in range(tasks)], role=Role.REFERENCE, epochs=epochs)
    ]
    for column in range(conditions):
        rows = [task(name.format(row), learned(row, column), judged=row % 17 != 16) for row in range(tasks)]
        named = f"resnet18 + {name.format(column)} measure"
        made.append(condition(named, rows, countermeasure=f"measure-{column}", epochs=epochs))
    return document(Verdict.NOT_PROTECTED, "a victim learns far too much under the last condition", made)


def hostile() -> VerifyDocument:
    """Names and texts that break out of careless XML, Markdown and HTML."""
    evil = " ".join(HOSTILE)
    rows = [task(name, 0.4) for name in HOSTILE]
    made = [condition(f"{name} + x", rows, title=name, countermeasure=name, source=evil) for name in HOSTILE]
    return document(
        Verdict.NOT_PROTECTED,
        evil,
        made,
        subject=evil,
        warning=evil,
        worst_condition=made[0].name,
        probes=(ProbeFigures(evil, evil, {evil: 0.5}, evil),),
        not_tested=(NotTested(evil, evil),),
        notes=(evil,),
        settings={evil: evil},
        device=evil,
        versions={evil: evil},
        command_line=f"mtlue verify {evil} ```` </pre>",
        audit=replace(AUDIT, trace=evil, notes=(evil,), quarantined={evil: evil}),
    )
