import pytest

from mtlue_cli.metrics.repeated import Repeated


def test_mean_and_interval_by_hand() -> None:
    # Deviations -0.1, 0, 0.1: standard deviation 0.1; t(2 degrees, 0.975) = 4.303; half width 4.303 * 0.1 / sqrt(3).
    figure = Repeated.of((0.4, 0.5, 0.6))
    assert figure.mean == pytest.approx(0.5)
    assert figure.half_width == pytest.approx(4.303 * 0.1 / 3**0.5)
    document = figure.to_json()
    assert document["low"] == pytest.approx(0.5 - 0.24844, abs=1e-4)
    assert document["values"] == [0.4, 0.5, 0.6]


def test_a_single_value_has_no_interval() -> None:
    assert Repeated.of((0.3,)).half_width is None
    assert Repeated.of((0.3,)).to_json() == {"mean": 0.3, "low": None, "high": None, "values": [0.3]}


def test_many_values_take_the_normal_quantile() -> None:
    figure = Repeated.of(tuple([0.0, 1.0] * 50))
    variance = 100 * 0.25 / 99
    assert figure.half_width == pytest.approx(1.96 * (variance / 100) ** 0.5)
