"""Intervals of learned fractions: they cover what they say, and narrow with the number of test images."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from mtlue_cli.choices import MetricName, TaskKind
from mtlue_cli.metrics.repeated import Repeated
from mtlue_cli.tasks.spec import UNLABELLED, Task, TaskSet
from mtlue_cli.verification.bootstrap import Bootstrap, Interval, packed
from mtlue_cli.verification.victim_result import VictimResult

TASKS = TaskSet((Task("a", TaskKind.BINARY, ("0", "1")), Task("b", TaskKind.CATEGORICAL, ("0", "1", "2"))))
ONE = TaskSet((TASKS["a"],))


def victim(correct: dict[str, Tensor], best: dict[str, Tensor] | None = None) -> VictimResult:
    kept = {name: packed(hits) for name, hits in correct.items()}
    at_best = None if best is None else {name: packed(hits) for name, hits in best.items()}
    scores = {metric: dict.fromkeys(correct, 0.5) for metric in MetricName}
    return VictimResult("x", 0, scores, {}, None, None, (), 1.0, "d", False, kept, at_best)


def balanced_labels(count: int) -> dict[str, Tensor]:
    return {"a": torch.arange(count) % 2, "b": torch.arange(count) % 3}


def bootstrap(count: int, tasks: TaskSet = ONE, confidence: float = 0.95) -> Bootstrap:
    half = torch.arange(count) < count // 2
    return Bootstrap(tasks, balanced_labels(count), half, MetricName.ACCURACY, confidence, seed=0)


def right(count: int, share: float, seed: int = 1) -> Tensor:
    """``(M,)`` bool, an exact share of it True."""
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    return order < round(share * count)


def interval(count: int, reached: float, clean: float = 0.9, confidence: float = 0.95) -> Interval:
    learned = Repeated.of([(reached - 0.5) / (clean - 0.5)])
    found = bootstrap(count, confidence=confidence).interval(
        [victim({"a": right(count, reached)})], [victim({"a": right(count, clean, seed=2)})], ["a"], learned
    )
    assert found is not None
    assert found.low < learned.mean < found.high
    return found


def test_it_narrows_with_the_root_of_the_number_of_test_images_and_widens_with_confidence() -> None:
    few, many = interval(100, 0.6), interval(1600, 0.6)
    assert (few.high - few.low) / (many.high - many.low) == pytest.approx(4, rel=0.25)
    surer = interval(100, 0.6, confidence=0.99)
    assert surer.high - surer.low > few.high - few.low
    assert surer.confidence == 0.99


def test_it_is_as_wide_as_the_error_of_a_share_by_hand() -> None:
    # Clean victims that are always right, and a floor of a half that moves with the victim's hits as chance has it.
    count = 1000
    found = bootstrap(count).interval(
        [victim({"a": torch.ones(count, dtype=torch.bool)})],
        [victim({"a": torch.ones(count, dtype=torch.bool)})],
        ["a"],
        Repeated.of([1.0]),
    )
    assert found is not None  # as good as the clean victim, whatever is drawn: 3 / 1000 of 0.5 is all that may be off
    assert found.low == pytest.approx(0.994, abs=1e-3)
    assert found.high == pytest.approx(1.006, abs=1e-3)
    # (p - f) / (1 - f) with hits that are half on either class: f and p vary independently but for their common images.
    hits = torch.arange(count) % 10 < 6
    labels = torch.arange(count) % 2
    assert int(hits[labels == 0].sum()) == int(hits[labels == 1].sum())
    some = bootstrap(count).interval(
        [victim({"a": hits})], [victim({"a": torch.ones(count, dtype=torch.bool)})], ["a"], Repeated.of([0.2])
    )
    assert some is not None
    # Delta method: d = dp / (1 - f) - (1 - p) / (1 - f)^2 df; variances 0.24 / n and 0.25 / n, no covariance.
    deviation = ((2 * 0.24**0.5) ** 2 + (1.6 * 0.5) ** 2) ** 0.5 / count**0.5
    assert some.high - some.low == pytest.approx(2 * 1.96 * deviation, rel=0.1)


def test_it_covers_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    covered = 0
    count = 150
    for _ in range(40):
        clean, hits = (torch.from_numpy(rng.random(count) < share) for share in (0.9, 0.6))
        drawn = replace(bootstrap(count), labels={"a": torch.from_numpy(rng.integers(2, size=count))})
        floor = float(torch.bincount(drawn.labels["a"]).max()) / count
        learned = (float(hits.float().mean()) - floor) / (float(clean.float().mean()) - floor)
        found = drawn.interval([victim({"a": hits})], [victim({"a": clean})], ["a"], Repeated.of([learned]))
        assert found is not None
        covered += found.low <= 0.25 <= found.high
    assert covered >= 34  # of 40; 38 expected


def test_a_clean_victim_near_the_floor_leaves_no_bounds() -> None:
    count = 60
    given = [victim({"a": right(count, 0.55)})], [victim({"a": right(count, 0.57, seed=2)})], ["a"], Repeated.of([0.7])
    assert bootstrap(count).interval(*given) is None


@pytest.mark.parametrize("seeds", [2, 5])
def test_several_seeds_that_differ_widen_it(seeds: int) -> None:
    count = 400
    clean = [victim({"a": right(count, 0.9, seed=2)})] * seeds
    victims = [victim({"a": right(count, 0.6)})] * seeds
    alike = bootstrap(count).interval(victims, clean, ["a"], Repeated.of([0.25] * seeds))
    spread = [0.25 + 0.1 * (-1) ** seed for seed in range(seeds)]
    apart = bootstrap(count).interval(victims, clean, ["a"], Repeated.of(spread))
    assert alike is not None
    assert apart is not None
    assert apart.high - apart.low > 1.2 * (alike.high - alike.low)


def test_best_epochs_are_measured_by_half_and_unlabelled_images_do_not_count() -> None:
    count = 400
    labels = balanced_labels(count)
    labels["a"][::4] = UNLABELLED
    drawn = replace(bootstrap(count), labels=labels)
    known = labels["a"] >= 0
    hits = torch.arange(count) < count // 2  # the first half alone
    clean = [victim({"a": torch.ones(count, dtype=torch.bool)})]
    fraction = Repeated.of([0.0])

    def found(of: Tensor) -> Interval | None:
        return drawn.interval([victim({"a": of}, {"a": of})], clean, ["a"], fraction, at_best_epoch=True)

    # The mean of 1 and 0, whatever the drawing does to the sizes of the halves: below the floor of 2/3.
    assert found(hits) == found(hits | ~known)
    either = found(hits)
    assert either is not None
    assert either.low < -0.5 < either.high


@pytest.mark.parametrize("metric", [MetricName.ACCURACY, MetricName.BALANCED])
def test_balanced_accuracy_counts_classes_alike(metric: MetricName) -> None:
    count = 300
    labels = {"a": (torch.arange(count) < 30).long()}
    # Right on nine tenths of the many, on none of the few.
    hits = torch.arange(count) >= 57
    drawn = replace(bootstrap(count), labels=labels, metric=metric)
    clean = [victim({"a": torch.ones(count, dtype=torch.bool)})]
    score = 0.81 if metric is MetricName.ACCURACY else 0.45
    floor = 0.9 if metric is MetricName.ACCURACY else 0.5
    learned = (score - floor) / (1 - floor)
    found = drawn.interval([victim({"a": hits})], clean, ["a"], Repeated.of([learned]))
    assert found is not None
    middle = (found.low + found.high) / 2
    assert middle == pytest.approx(learned, abs=0.2)


def test_what_is_not_known_has_no_interval() -> None:
    count = 40
    full, empty = victim({"a": right(count, 0.9)}), victim({})
    given = ["a"], Repeated.of([1.0])
    assert bootstrap(count).interval([full], [empty], *given) is None
    assert bootstrap(count).interval([full], [full], *given, at_best_epoch=True) is None
    assert replace(bootstrap(count), metric=MetricName.AUROC).interval([full], [full], *given) is None
    assert bootstrap(count).interval([full], [full], ["a", "depth"], Repeated.of([1.0])) is None


def test_several_tasks_are_averaged_before_the_ratio() -> None:
    count = 300
    perfect = torch.ones(count, dtype=torch.bool)
    hits: Sequence[Tensor] = (right(count, 0.5), perfect)
    found = bootstrap(count, TASKS).interval(
        [victim({"a": hits[0], "b": hits[1]})],
        [victim({"a": perfect, "b": perfect})],
        ["a", "b"],
        # Floors 1/2 and 1/3: (3/4 - 5/12) / (1 - 5/12).
        Repeated.of([4 / 7]),
    )
    assert found is not None
    assert found.low < 4 / 7 < found.high
    assert found.high - found.low < 0.25


def test_a_victim_that_is_right_everywhere_is_not_certain() -> None:
    always = victim({"a": torch.ones(8, dtype=torch.bool)})
    found = bootstrap(8).interval([always], [always], ["a"], Repeated.of([1.0]))
    assert found is not None
    assert found.low < 0.5
    many = victim({"a": torch.ones(4000, dtype=torch.bool)})
    found = bootstrap(4000).interval([many], [many], ["a"], Repeated.of([1.0]))
    assert found is not None
    assert 0.99 < found.low < 1 < found.high


def test_rare_classes_decide_the_reach_of_balanced_accuracy() -> None:
    count = 500
    labels = {"a": torch.zeros(count, dtype=torch.int64)}
    labels["a"][:10] = 1
    always = victim({"a": torch.ones(count, dtype=torch.bool)})
    reach = []
    for metric in (MetricName.ACCURACY, MetricName.BALANCED):
        drawn = replace(bootstrap(count), labels=labels, metric=metric)
        found = drawn.interval([always], [always], ["a"], Repeated.of([1.0]))
        assert found is not None
        reach.append((found.high - 1) * (0.02 if metric is MetricName.ACCURACY else 0.5))
    # Over 500 images, and over two classes of which the smaller has 10.
    assert reach == pytest.approx([3 / 500, 3 / 20], rel=0.02)


def test_clean_victims_that_differ_widen_it() -> None:
    count = 400
    victims = [victim({"a": right(count, 0.7)})] * 2

    def width(*shares: float) -> float:
        clean = [victim({"a": right(count, share, seed=2)}) for share in shares]
        found = bootstrap(count).interval(victims, clean, ["a"], Repeated.of([0.5, 0.5]))
        assert found is not None
        return found.high - found.low

    assert width(0.8, 1.0) > 2 * width(0.9, 0.9)
