"""The exact test, against scipy and by hand."""

import itertools

import numpy as np
import pytest
from scipy import stats

from mtlue_cli.workflows.trace.ranks import holm, interval, power, rank_sum_p, ranks, smallest_p


@pytest.mark.parametrize("found", [[1, 1, 2, 1], [2, 2, 2, 2], [1] * 12])
def test_with_two_arms_it_is_the_sign_test(found: list[int]) -> None:
    won = found.count(1)
    expected = stats.binomtest(won, len(found), alternative="greater").pvalue
    assert rank_sum_p(found, 2) == pytest.approx(expected)


@pytest.mark.parametrize(("found", "arms"), [([1, 3, 2], 4), ([5, 1], 5), ([2], 3), ([1, 1, 1], 6)])
def test_the_p_value_counts_all_ways(found: list[int], arms: int) -> None:
    ways = [sum(each) for each in itertools.product(range(1, arms + 1), repeat=len(found))]
    assert rank_sum_p(found, arms) == pytest.approx(np.mean([way <= sum(found) for way in ways]))


def test_the_smallest_p_value_is_that_of_all_first_ranks() -> None:
    assert rank_sum_p([1] * 10, 10) == pytest.approx(1e-10) == smallest_p(10, 10)
    assert rank_sum_p([], 10) == 1.0
    assert rank_sum_p([200] * 20, 200) == pytest.approx(1.0)


def test_a_higher_score_ranks_first_and_ties_are_broken_by_lot() -> None:
    scores = np.array([[3.0, 1.0, 2.0], [1.0, 3.0, 2.0], [2.0, 2.0, 2.0], [2.0, 2.0, 3.0]])
    ties = np.array([[0.9, 0.1, 0.1], [0.1, 0.9, 0.9], [0.5, 0.4, 0.6], [0.1, 0.2, 0.0]])
    assert ranks(scores, ties) == [1, 3, 2, 2]


def test_p_values_are_uniform_when_all_arms_are_alike() -> None:
    rng = np.random.default_rng(0)
    # Scores with many ties.
    drawn = [ranks(rng.integers(0, 3, (8, 6)).astype(float), rng.random((8, 6))) for _ in range(2000)]
    # Sums of ranks are whole numbers: their p-values have gaps, which a random number fills.
    below = {7: 0.0} | {total: rank_sum_p(ranks_of_sum(total), 6) for total in range(8, 49)}
    found = [below[sum(one) - 1] + rng.random() * (below[sum(one)] - below[sum(one) - 1]) for one in drawn]
    assert stats.kstest(found, "uniform").pvalue > 0.01
    assert 0.03 < np.mean(np.array(found) <= 0.05) < 0.07


def ranks_of_sum(total: int) -> list[int]:
    """Ranks of eight stages with this sum."""
    each, more = divmod(total, 8)
    return [each + (stage < more) for stage in range(8)]


def test_holm_by_hand() -> None:
    assert holm({"a": 0.01, "b": 0.04, "c": 0.03}) == pytest.approx({"a": 0.03, "b": 0.06, "c": 0.06})
    assert holm({"a": 0.9, "b": 0.8}) == {"a": 1.0, "b": 1.0}


def test_the_interval_holds_the_mean_and_needs_two_stages() -> None:
    rng = np.random.default_rng(0)
    assert interval([0.5], rng) is None
    low, high = interval([0.2, 0.4, 0.6, 0.8], rng) or (1.0, 0.0)
    assert 0.2 <= low < 0.5 < high <= 0.8
    assert interval([0.3, 0.3, 0.3], rng) == pytest.approx((0.3, 0.3))


def test_power_grows_with_stages_and_with_what_is_followed() -> None:
    def found(stages: int, true: float, level: float = 0.001) -> float:
        return power([{"age": 1}] * stages, 10, {"age": 0.2}, true, level)

    assert found(2, 0.9) == 0.0  # one in a hundred is the least that two stages give
    assert found(5, 0.9) < found(10, 0.9) < found(15, 0.9)
    assert found(10, 0.3) < found(10, 0.9)
    assert power([{"age": 1}] * 10, 10, {"age": 0.2}, 0.2, 0.05) < 0.12  # what is followed no more than decoys
