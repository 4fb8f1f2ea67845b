"""The adaptive tier: who goes on, who is left out and why, and what a limit of time does."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from msgspec import structs

from mtlue_cli.choices import CountermeasureName, Tier
from mtlue_cli.errors import InputError
from mtlue_cli.metrics.repeated import Repeated
from mtlue_cli.verification.conditions import Role
from mtlue_cli.verification.figures import ConditionFigures, Learned
from mtlue_cli.verification.tiers import NotTested
from mtlue_cli.workflows.progress import SilentProgress
from mtlue_cli.workflows.verify.adaptive import narrowed
from mtlue_cli.workflows.verify.config import VerifyConfig, check_options
from mtlue_cli.workflows.verify.plan import VerifyPlan, plan_verification
from mtlue_cli.workflows.verify.run import verify_release
from tests.verification.made_release import make_release, make_set
from tests.verification.reports import documents

pytestmark = pytest.mark.usefixtures("tiny_small")

SECONDS = 9.0
"""A short run of one victim for one epoch."""

NAMES = ("jpeg-10", "grayscale", "bit-depth", "gaussian-blur", "cutmix", "resize")
BASIS = ["small: clean images", "small", "small: noise"]


class Clock:
    """Time passes by training alone."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def plan_of(names: Sequence[str] = NAMES, tier: Tier = Tier.ADAPTIVE) -> VerifyPlan:
    return plan_verification(
        VerifyConfig(clean=Path("x"), labels=Path("x"), weights="w", tier=tier, countermeasures=tuple(names))
    )


def figures(name: str, role: Role, learned: float, seconds: float) -> ConditionFigures:
    made = documents.condition(name, [documents.task("a", learned, best_gain=None)], role=role)
    found = Learned(Repeated.of([learned]), Repeated.of([learned]))
    return structs.replace(made, learned=found, seconds=seconds)


def laboratory(
    learned: Mapping[str, float], clock: Clock, failing: Sequence[str] = (), diverging: Sequence[str] = ()
) -> tuple[Callable[[VerifyPlan, int], tuple[list[ConditionFigures], list[NotTested]]], list[tuple[int, list[str]]]]:
    """Runs rounds in which every attacker learns what it always does, and remembers them."""
    rounds: list[tuple[int, list[str]]] = []

    def run(plan: VerifyPlan, epochs: int) -> tuple[list[ConditionFigures], list[NotTested]]:
        found, failed = [], []
        for one in plan.conditions:
            name = str(one.countermeasure.name) if one.countermeasure else ""
            clock.seconds += SECONDS * epochs
            if name in failing:
                failed.append(NotTested(one.name, "too small"))
            elif name not in diverging:
                found.append(figures(one.name, one.role, learned.get(name, 1.0), SECONDS * epochs))
        rounds.append((epochs, [str(one.countermeasure.name) for one in plan.conditions if one.countermeasure]))
        return found, failed

    return run, rounds


LEARNED = {
    "jpeg-10": 0.1,
    "grayscale": 0.5,
    "bit-depth": 0.2,
    "gaussian-blur": 0.4,
    "cutmix": 0.05,
    "resize": 0.0,
    "grayscale+gaussian-blur": 0.6,
}


def test_a_third_continues_with_the_two_best_as_one_and_the_others_say_what_they_learned() -> None:
    run, rounds = laboratory(LEARNED, clock := Clock())
    plan, notes = narrowed(plan_of(), 27, 1e9, run, clock)
    assert rounds == [(3, list(NAMES)), (9, ["grayscale", "gaussian-blur", "grayscale+gaussian-blur"])]
    assert [one.name for one in plan.conditions] == [*BASIS, "small + grayscale+gaussian-blur"]
    reasons = {left.name: left.reason for left in plan.left_out}
    assert reasons["small + cutmix"] == "learned 0.05 in 3 epochs; stronger attackers went on"
    assert reasons["small + grayscale"] == "learned 0.50 in 9 epochs; stronger attackers went on"
    assert notes[0].startswith("tried for 3 of 27 epochs, learned: small + grayscale 0.50, small + gaussian-blur 0.40,")


def test_a_limit_of_time_lets_fewer_continue_but_always_one() -> None:
    run, rounds = laboratory(LEARNED, clock := Clock())
    # A first round of 7 victims for 3 epochs takes 189 seconds; the next has half of what is left: 81 seconds a victim.
    plan, _ = narrowed(plan_of(), 27, 189 + 2 * 2 * 81 + 1, run, clock)
    assert rounds[1:] == []  # one attacker is left, and goes on whole at once
    assert [one.name for one in plan.conditions] == [*BASIS, "small + grayscale"]
    run, _ = laboratory(LEARNED, clock := Clock())
    plan, _ = narrowed(plan_of(), 27, 0.0, run, clock)
    assert [one.name for one in plan.conditions] == [*BASIS, "small + grayscale"]


def test_a_combination_that_is_there_is_not_made_twice() -> None:
    run, rounds = laboratory(LEARNED, clock := Clock())
    narrowed(
        plan_of(("gaussian-blur", "grayscale", "grayscale+gaussian-blur", "cutmix", "resize")), 27, 1e9, run, clock
    )
    # The two best of the first round are the combination and one of its steps, which do not go together again.
    assert rounds[1] == (9, ["grayscale+gaussian-blur", "grayscale"])


@pytest.mark.parametrize(("seeds", "attackers"), [(1, 3), (3, 1)])
def test_whole_runs_take_the_time_of_all_seeds(seeds: int, attackers: int) -> None:
    run, _ = laboratory(LEARNED, clock := Clock())
    # A round of 7 victims for 1 epoch, and whole runs of 3 epochs: 3 without a countermeasure and 2 attackers.
    plan, _ = narrowed(plan_of(), 3, SECONDS * (7 + 3 * 5), run, clock, seeds=seeds)
    assert len(plan.conditions) == len(BASIS) + attackers


def test_what_does_not_fit_is_left_out_unless_it_was_asked_for_and_what_diverges_stays() -> None:
    asked = plan_of()
    run, _ = laboratory(LEARNED, clock := Clock(), failing=["resize"])
    plan, _ = narrowed(asked, 27, 1e9, run, clock)
    assert "small + resize" in [one.name for one in plan.conditions]  # run whole, so that the verdict counts it
    run, _ = laboratory(LEARNED, clock := Clock(), failing=["resize"])
    plan, _ = narrowed(replace(asked, asked=frozenset()), 27, 1e9, run, clock)
    assert NotTested("small + resize", "too small") in plan.left_out
    assert "small + resize" not in [one.name for one in plan.conditions]
    run, _ = laboratory(LEARNED, clock := Clock(), diverging=["resize"])
    plan, _ = narrowed(replace(asked, asked=frozenset()), 27, 1e9, run, clock)
    assert "small + resize" in [one.name for one in plan.conditions]


def test_where_the_clean_victim_has_learned_nothing_yet_all_continue() -> None:
    run, rounds = laboratory(LEARNED, clock := Clock())

    def late(plan: VerifyPlan, epochs: int) -> tuple[list[ConditionFigures], list[NotTested]]:
        found, failed = run(plan, epochs)
        return ([], [NotTested(one.name, "too early") for one in found]) if epochs < 9 else (found, failed)

    plan, _ = narrowed(plan_of(), 27, 1e9, late, clock)
    assert [names for _, names in rounds] == [list(NAMES)] * 2
    assert [one.name for one in plan.conditions] == [*BASIS, "small + grayscale", "small + gaussian-blur"]
    assert not any(left.reason == "too early" for left in plan.left_out)


def test_few_epochs_make_fewer_rounds() -> None:
    run, rounds = laboratory(LEARNED, clock := Clock())
    narrowed(plan_of(), 3, 1e9, run, clock)
    assert [epochs for epochs, _ in rounds] == [1]
    run, rounds = laboratory(LEARNED, clock := Clock())
    narrowed(plan_of(), 1, 1e9, run, clock)
    assert rounds == []


def test_the_tier_tries_what_the_standard_tier_tries() -> None:
    config = VerifyConfig(clean=Path("x"), labels=Path("x"), weights="w")
    adaptive, standard = (
        {one.countermeasure for one in plan_verification(replace(config, tier=tier)).conditions}
        for tier in (Tier.ADAPTIVE, Tier.STANDARD)
    )
    assert adaptive == standard


def test_a_limit_of_time_needs_the_tier_that_has_one(tmp_path: Path) -> None:
    config = VerifyConfig(tmp_path, tmp_path, protected=tmp_path, adaptive_minutes=5, tier=Tier.SMOKE)
    with pytest.raises(InputError, match="--adaptive-minutes has no effect without --tier adaptive"):
        check_options(replace(config, clean=tmp_path / "clean"))


@pytest.mark.slow
def test_a_release_is_judged_by_the_strongest(tmp_path: Path) -> None:
    made = make_set(tmp_path / "clean")
    make_release(made, tmp_path / "release")
    result = verify_release(
        VerifyConfig(
            clean=made.images,
            labels=made.labels,
            protected=tmp_path / "release",
            tier=Tier.ADAPTIVE,
            adaptive_minutes=0.01,
            countermeasures=(CountermeasureName.GRAYSCALE, CountermeasureName.CUTOUT),
            control=False,
            probes=False,
            epochs=3,
            size=16,
            batch_size=10,
            learning_rate=3e-3,
            test_fraction=0.3,
            device="cpu",
            workers=1,
        ),
        SilentProgress(),
    )
    assert [len(found.curves[0].epochs) for found in result.conditions] == [3, 3, 3]
    (dropped,) = [left for left in result.not_tested if "stronger attackers went on" in left.reason]
    tried = {"small + grayscale", "small + cutout"}
    assert {result.conditions[2].name, dropped.name} == tried
    (note,) = [note for note in result.notes if note.startswith("tried for 1 of 3 epochs, learned: ")]
    assert all(name in note for name in tried)
