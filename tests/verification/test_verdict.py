from collections.abc import Mapping, Sequence

import pytest
from msgspec.structs import replace

from mtlue_cli.choices import BackboneName, CountermeasureName, MetricName, TaskKind
from mtlue_cli.tasks.spec import Task, TaskSet
from mtlue_cli.verification.bootstrap import Interval
from mtlue_cli.verification.conditions import Condition, Material, VictimSpec
from mtlue_cli.verification.countermeasures.registry import COUNTERMEASURES
from mtlue_cli.verification.figures import ConditionFigures, figures_of
from mtlue_cli.verification.tiers import NotTested
from mtlue_cli.verification.verdict import Judgement, Verdict, failed_audit, judge
from mtlue_cli.verification.victim_result import CurvePoint, VictimResult

TASKS = TaskSet(tuple(Task(name, TaskKind.BINARY, ("0", "1")) for name in ("a", "b", "c")))
FLOOR = {"a": 0.5, "b": 0.5, "c": 0.5}
CLEAN = {"a": 0.9, "b": 0.7, "c": 0.51}
SMALL = VictimSpec(BackboneName.SMALL)
JPEG = Condition(SMALL, countermeasure=COUNTERMEASURES[CountermeasureName.JPEG_10])
Scores = Mapping[str, float]


def victim(
    scores: Scores, best: Scores | None = None, seed: int = 0, metric: MetricName = MetricName.ACCURACY
) -> VictimResult:
    """A finished victim of these figures; under other metrics it is at chance."""
    every: dict[MetricName, Mapping[str, float | None]] = {name: dict(FLOOR) for name in MetricName}
    every[metric] = dict(scores)
    return VictimResult("x", seed, every, {}, best, None, (), 1.0, "digest", cached=False)


def figures(
    condition: Condition, victims: Sequence[VictimResult], judged: str = "abc", metric: MetricName = MetricName.ACCURACY
) -> ConditionFigures:
    clean = [victim(CLEAN, metric=metric)] * len(victims)
    return figures_of(condition, victims, clean, FLOOR, TASKS, set(judged), metric)


def verdict_on(
    release: Scores,
    *,
    noise: Scores | None = None,
    best: Scores | None = None,
    others: Mapping[Condition, Scores] | None = None,
    judged: str = "abc",
    max_learned: float = 0.25,
) -> Judgement:
    rows = [figures(Condition(SMALL, Material.CLEAN), [victim(CLEAN)], judged)]
    rows.append(figures(Condition(SMALL), [victim(release, best)], judged))
    if noise is not None:
        rows.append(figures(Condition(SMALL, Material.NOISE), [victim(noise)], judged))
    rows += [figures(condition, [victim(scores)], judged) for condition, scores in (others or {}).items()]
    return judge(rows, MetricName.ACCURACY, max_learned, tuple(judged))


def test_the_gate_is_on_the_average() -> None:
    # Means over a and b: floor 0.5, clean 0.8, protected 0.575: fraction 0.25; b alone has 0.5.
    judgement = verdict_on({"a": 0.55, "b": 0.6, "c": 0.99})
    assert judgement.verdict is Verdict.PROTECTED
    assert judgement.worst is not None
    assert judgement.worst.learned_fraction == pytest.approx(0.25)
    assert judgement.worst.worst_task is not None
    assert judgement.worst.worst_task[0].task == "b"
    assert "0.25" in judgement.reason
    assert "b with 0.50" in judgement.reason


def test_above_the_gate_is_not_protected() -> None:
    assert verdict_on({"a": 0.56, "b": 0.6, "c": 0.5}).verdict is Verdict.NOT_PROTECTED
    assert verdict_on({"a": 0.56, "b": 0.6, "c": 0.5}, max_learned=0.3).verdict is Verdict.PROTECTED


def test_the_worst_condition_decides_and_is_named() -> None:
    held = {"a": 0.5, "b": 0.5, "c": 0.5}
    # JPEG: mean 0.7 of a and b, 0.2 of the gap of 0.3.
    judgement = verdict_on(held, others={JPEG: {"a": 0.8, "b": 0.6, "c": 0.5}})
    assert judgement.verdict is Verdict.NOT_PROTECTED
    assert judgement.worst is not None
    assert judgement.worst.name == JPEG.name
    assert judgement.reason.startswith("under the worst of 2 conditions, small + jpeg-10, a victim learns 0.67")
    assert [found.name for found in judgement.conditions if found.recovers_half] == [JPEG.name]
    assert verdict_on(held, others={JPEG: held}).verdict is Verdict.PROTECTED


def test_partly_protected_releases_are_shown_and_not_judged() -> None:
    half = Condition(SMALL, protected_fraction=0.5)
    judgement = verdict_on({"a": 0.5, "b": 0.5, "c": 0.5}, others={half: CLEAN})
    assert judgement.verdict is Verdict.PROTECTED
    assert not any(found.recovers_half for found in judgement.conditions)
    assert judgement.conditions[-1].learned_fraction == pytest.approx(1.0)


def bounded(release: Scores, low: float, high: float, judged: str = "abc") -> ConditionFigures:
    """The figures of a release with an interval."""
    found = figures(Condition(SMALL), [victim(release)], judged)
    assert found.learned is not None
    assert found.average is not None
    assert found.best_epoch_average is None
    interval = Interval(low, high, 0.95)
    return replace(
        found,
        learned=replace(found.learned, interval=interval),
        average=replace(found.average, interval=interval),
    )


def with_confidence(*rows: ConditionFigures, confidence: float | None = 0.95) -> Judgement:
    clean = figures(Condition(SMALL, Material.CLEAN), [victim(CLEAN)])
    return judge([clean, *rows], MetricName.ACCURACY, 0.25, ("a", "b", "c"), confidence=confidence)


LITTLE, MUCH = {"a": 0.5, "b": 0.53, "c": 0.5}, {"a": 0.6, "b": 0.6, "c": 0.5}
"""Learned 0.05 and 0.33 of a and b."""


@pytest.mark.parametrize(
    ("release", "ends", "verdict", "figures_alone"),
    [
        (LITTLE, (-0.05, 0.2), Verdict.PROTECTED, Verdict.PROTECTED),
        (LITTLE, (-0.05, 0.25), Verdict.PROTECTED, Verdict.PROTECTED),
        (LITTLE, (-0.2, 0.3), Verdict.INCONCLUSIVE, Verdict.PROTECTED),
        (MUCH, (0.2, 0.5), Verdict.INCONCLUSIVE, Verdict.NOT_PROTECTED),
        (MUCH, (0.26, 0.5), Verdict.NOT_PROTECTED, Verdict.NOT_PROTECTED),
    ],
)
def test_with_confidence_the_ends_of_the_interval_decide(
    release: Scores, ends: tuple[float, float], verdict: Verdict, figures_alone: Verdict
) -> None:
    judgement = with_confidence(bounded(release, *ends))
    assert judgement.verdict is verdict
    assert judgement.confidence == 0.95
    assert judgement.conditions[-1].above_gate == (verdict is Verdict.NOT_PROTECTED)
    assert judgement.conditions[-1].undecided == (verdict is Verdict.INCONCLUSIVE)
    assert f"({ends[0]:.2f} to {ends[1]:.2f})" in judgement.reason
    assert ("--test" in judgement.reason) == (verdict is Verdict.INCONCLUSIVE)
    assert with_confidence(bounded(release, *ends), confidence=None).verdict is figures_alone


def test_with_confidence_both_epochs_must_pass() -> None:
    found = bounded(LITTLE, -0.05, 0.2)
    assert found.average is not None
    wide = replace(found, best_epoch_average=replace(found.average, interval=Interval(-0.3, 0.4, 0.95)))
    judgement = with_confidence(wide)
    assert judgement.verdict is Verdict.INCONCLUSIVE
    assert "small (-0.05 to 0.40)" in judgement.reason
    assert "--seeds" not in judgement.reason
    assert "--seeds" in with_confidence(replace(wide, seeds=(0, 1))).reason


def test_one_condition_that_is_surely_above_decides_whatever_the_others_leave_open() -> None:
    jpeg = replace(bounded(LITTLE, 0.3, 0.4), name=JPEG.name)
    judgement = with_confidence(bounded(MUCH, 0.1, 0.6), jpeg)
    assert judgement.verdict is Verdict.NOT_PROTECTED
    assert judgement.reason.startswith(f"under a condition that is surely above, {JPEG.name}, a victim learns 0.05")
    assert judgement.worst is not None
    assert judgement.worst.name == "small"


def test_without_an_interval_nothing_is_certain() -> None:
    judgement = with_confidence(figures(Condition(SMALL), [victim(LITTLE)]))
    assert judgement.verdict is Verdict.INCONCLUSIVE
    assert "small (no interval)" in judgement.reason


MISSING = NotTested("small: noise", "its training diverged")


def judged_without(release: Scores, *missing: NotTested) -> Judgement:
    rows = [figures(Condition(SMALL, Material.CLEAN), [victim(CLEAN)]), figures(Condition(SMALL), [victim(release)])]
    return judge(rows, MetricName.ACCURACY, 0.25, ("a", "b", "c"), missing=missing)


def test_what_was_asked_for_and_not_run_is_inconclusive_unless_the_protection_fails() -> None:
    held = {"a": 0.5, "b": 0.5, "c": 0.5}
    assert judged_without(held).verdict is Verdict.PROTECTED
    judgement = judged_without(held, MISSING)
    assert judgement.verdict is Verdict.INCONCLUSIVE
    assert judgement.reason == "some conditions could not be tested: small: noise (its training diverged)"
    assert judged_without(held, *[MISSING] * 6).reason.endswith("; and 2 more")
    assert judged_without(CLEAN, MISSING).verdict is Verdict.NOT_PROTECTED


def test_of_two_epochs_the_stronger_counts_and_equals_are_the_last() -> None:
    last, best = {"a": 0.6, "b": 0.6, "c": 0.5}, {"a": 0.7, "b": 0.5, "c": 0.5}
    found = figures(Condition(SMALL), [victim(last, best)])
    # Floor 0.5: a has 0.1 and 0.2 of its gap of 0.4, b 0.1 and 0 of its gap of 0.2; on average both epochs are equal.
    assert [
        task.learned and (round(task.learned.mean, 6), task.learned.score.mean, task.learned.at_best_epoch)
        for task in found.tasks
    ] == [(0.5, 0.7, True), (0.5, 0.6, False), None]
    assert found.learned is not None
    assert not found.learned.at_best_epoch


@pytest.mark.parametrize("material", [Material.CLEAN, Material.NOISE])
def test_a_control_and_a_reference_are_read_after_the_last_epoch(material: Material) -> None:
    found = figures(Condition(SMALL, material), [victim(FLOOR, CLEAN)])
    assert found.learned is not None
    assert found.learned.mean == pytest.approx(0.0)
    assert found.tasks[0].learned is not None
    assert not found.tasks[0].learned.at_best_epoch
    assert found.learned_fraction == pytest.approx(1.0)


def test_who_stops_at_the_best_epoch_is_judged_too() -> None:
    last, best = {"a": 0.4, "b": 0.4, "c": 0.5}, {"a": 0.8, "b": 0.6, "c": 0.5}
    judgement = verdict_on(last, best=best)
    assert judgement.verdict is Verdict.NOT_PROTECTED
    assert "when it stops at its best epoch" in judgement.reason
    assert judgement.worst is not None
    assert judgement.worst.learned is not None
    assert judgement.worst.learned.at_best_epoch
    assert verdict_on(last, best=last).verdict is Verdict.PROTECTED


def test_inconclusive_tasks_are_shown_without_a_fraction() -> None:
    line = verdict_on({"a": 0.5, "b": 0.5, "c": 0.9}).conditions[1].tasks[2]
    assert (line.task, line.learned_fraction, line.score.values) == ("c", None, (0.9,))


def test_no_conclusive_task_is_inconclusive() -> None:
    judgement = verdict_on({"a": 0.5, "b": 0.5, "c": 0.5}, judged="c")
    assert judgement.verdict is Verdict.INCONCLUSIVE
    assert "clean" in judgement.reason


def test_noise_that_protects_makes_the_measurement_unreliable() -> None:
    release = {"a": 0.5, "b": 0.5, "c": 0.5}
    # Noise: mean 0.64 of a and b against 0.8 clean: 0.14 / 0.3 = 0.47; 0.65 gives 0.5.
    judgement = verdict_on(release, noise={"a": 0.68, "b": 0.6, "c": 0.5})
    assert judgement.verdict is Verdict.INCONCLUSIVE
    assert "unreliable" in judgement.reason
    assert "0.47" in judgement.reason
    assert verdict_on(release, noise={"a": 0.701, "b": 0.6, "c": 0.5}).verdict is Verdict.PROTECTED


def test_what_was_learned_counts_although_the_measurement_is_weak() -> None:
    learned = {"a": 0.9, "b": 0.6, "c": 0.5}
    assert verdict_on(learned, noise={"a": 0.6, "b": 0.6, "c": 0.5}).verdict is Verdict.NOT_PROTECTED


def test_a_first_victim_that_learns_nothing_leaves_noise_and_countermeasures_untried() -> None:
    def with_second_victim(release: Scores) -> Judgement:
        rows = [figures(Condition(VictimSpec(), Material.CLEAN), [victim(CLEAN)])]
        rows.append(figures(Condition(VictimSpec()), [victim(release)]))
        return judge(rows, MetricName.ACCURACY, 0.25, ("a", "b", "c"), complete=False)

    assert with_second_victim(FLOOR).verdict is Verdict.INCONCLUSIVE
    assert with_second_victim(CLEAN).verdict is Verdict.NOT_PROTECTED


def test_tasks_that_the_release_leaves_open_are_not_judged() -> None:
    protected = {"a": 0.5, "b": 0.7, "c": 0.5}
    assert verdict_on(protected).verdict is Verdict.NOT_PROTECTED
    judgement = verdict_on(protected, judged="a")
    assert judgement.verdict is Verdict.PROTECTED
    open_task = judgement.conditions[1].tasks[1]
    assert open_task.learned_fraction is not None
    assert open_task.learned_fraction.mean == pytest.approx(1.0)
    assert not open_task.judged


def test_an_audit_fault_is_not_protected() -> None:
    judgement = failed_audit(2, 0.25)
    assert judgement.verdict is Verdict.NOT_PROTECTED
    assert "2 faults" in judgement.reason


def test_a_task_learned_entirely_is_named_though_the_average_passes() -> None:
    judgement = verdict_on({"a": 0.1, "b": 0.7, "c": 0.5})
    assert judgement.verdict is Verdict.PROTECTED
    assert judgement.warning == "taken alone, a victim learns more than 0.25 of: b (1.00)"
    assert verdict_on({"a": 0.1, "b": 0.7, "c": 0.5}, judged="ac").warning is None


def test_judged_tasks_outside_the_average_are_named() -> None:
    assert verdict_on({"a": 0.5, "b": 0.5, "c": 0.9}).reason.endswith("hardly beats the floor there: c")
    assert "hardly more" not in verdict_on({"a": 0.5, "b": 0.5, "c": 0.9}, judged="ab").reason


def test_many_tasks_outside_the_average_are_counted() -> None:
    many = tuple("abc") + tuple(f"t{index}" for index in range(9))
    rows = [figures(Condition(SMALL, Material.CLEAN), [victim(CLEAN)]), figures(Condition(SMALL), [victim(FLOOR)])]
    reason = judge(rows, MetricName.ACCURACY, 0.25, many).reason
    assert reason.endswith("hardly beats the floor there: 10 of 12 tasks")


def test_seeds_give_a_mean_with_an_interval() -> None:
    victims = [victim({"a": value, "b": 0.5, "c": 0.5}, seed=seed) for seed, value in enumerate((0.5, 0.6, 0.7))]
    found = figures(Condition(SMALL), victims)
    learned = found.tasks[0].learned_fraction
    assert learned is not None
    assert learned.values == pytest.approx((0.0, 0.25, 0.5))
    assert found.average is not None
    # Mean of a and b a seed: 0.5, 0.55, 0.6 against floor 0.5 and clean 0.8.
    assert found.average.learned_fraction.values == pytest.approx((0.0, 1 / 6, 1 / 3))
    assert found.average.learned_fraction.half_width == pytest.approx(4.303 * (1 / 6) / 3**0.5, rel=1e-3)


def test_another_metric_is_judged_by_its_own_figures_and_knows_no_best_epoch() -> None:
    scores = {"a": 0.9, "b": 0.7, "c": 0.5}
    found = figures(Condition(SMALL), [victim(scores, best=CLEAN, metric=MetricName.AUROC)], metric=MetricName.AUROC)
    assert found.learned_fraction == pytest.approx(1.0)
    assert found.best_epoch_average is None
    assert figures(Condition(SMALL), [victim(scores, best=CLEAN)]).best_epoch_average is not None


def early_verdict(
    epochs: tuple[int, int], *, gain: float = 0.2, steps_per_epoch: int = 63, length: int = 8, conditions: int = 1
) -> Judgement:
    """Victims of ``length`` epochs that reach ``gain`` more at the best epochs than after the last."""
    last = {"a": 0.6, "b": 0.55, "c": 0.5}
    best = {name: value + gain for name, value in last.items()}
    curve = tuple(CurvePoint(epoch, 1.0, last, last) for epoch in range(1, length + 1))
    found = replace(victim(last, best), best_epochs=epochs, curve=curve)
    clean = [victim(CLEAN)]
    countermeasures = (None, *list(COUNTERMEASURES.values())[: conditions - 1])
    rows = [
        figures_of(condition, [found], clean, FLOOR, TASKS, set("abc"), MetricName.ACCURACY, None, steps_per_epoch)
        for condition in (
            Condition(SMALL, Material.CLEAN),
            Condition(SMALL, Material.NOISE),
            *(Condition(SMALL, countermeasure=choice) for choice in countermeasures),
        )
    ]
    return judge(rows, MetricName.ACCURACY, 0.25, tuple("abc"))


def test_an_early_best_epoch_is_noted_with_its_steps() -> None:
    judgement = early_verdict((1, 2))
    assert judgement.verdict is Verdict.NOT_PROTECTED
    assert judgement.early_note == (
        "the best epoch came within the first 500 optimiser steps, and an attacker would have to know when to stop: "
        "small (after 63 to 126 of 504 steps); --tier converged measures it with at least 3,000 steps"
    )
    assert "small (after 63 of 504 steps);" in (early_verdict((1, 1)).early_note or "")
    assert (early_verdict((1, 1), conditions=6).early_note or "").count("63 of 504") == 4
    assert "504 steps) and 2 more conditions;" in (early_verdict((1, 1), conditions=6).early_note or "")


def test_a_long_run_is_not_sent_to_the_converged_tier() -> None:
    note = early_verdict((1, 3), steps_per_epoch=125, length=24).early_note or ""
    assert note.endswith("small (after 125 to 375 of 3,000 steps)")


@pytest.mark.parametrize(
    "judgement",
    [
        early_verdict((1, 8)),
        early_verdict((4, 4), steps_per_epoch=125),
        early_verdict((1, 1), gain=0.0),
        early_verdict((1, 1), gain=-0.1),
        verdict_on({"a": 0.55, "b": 0.6, "c": 0.99}),
        failed_audit(2, 0.25),
    ],
    ids=["one half late", "500 steps", "as good as the last", "worse than the last", "not measured", "no victim"],
)
def test_no_note_without_an_early_best_epoch(judgement: Judgement) -> None:
    assert judgement.early_note is None
