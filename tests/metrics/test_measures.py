"""Figures of different units in one mean."""

import pytest

from mtlue_cli.choices import MetricName
from mtlue_cli.metrics.measures import gain, in_unit, measure_of, of_gain
from tests.dense_sample import BRIGHT, DEPTH, NORMALS, PARTS


def test_a_dense_task_is_judged_by_its_main_figure_whatever_the_metric() -> None:
    found = [measure_of(task, MetricName.AUROC) for task in (BRIGHT, PARTS, DEPTH, NORMALS)]
    assert found == ["auroc", "miou", "absolute_error", "mean_angle"]


@pytest.mark.parametrize(
    ("value", "floor", "measure", "expected"),
    [
        (0.7, 0.5, "accuracy", 0.7),
        (0.7, 0.1, "miou", 0.7),
        (30.0, 40.0, "mean_angle", 0.25),
        (50.0, 40.0, "mean_angle", -0.25),
        (0.0, 2.0, "absolute_error", 1.0),
        (0.5, 0.0, "absolute_error", -0.5),
    ],
)
def test_more_gain_is_better(value: float, floor: float, measure: str, expected: float) -> None:
    found = gain(value, floor, measure)
    assert found == pytest.approx(expected)
    assert of_gain(found, floor, measure) == pytest.approx(value)


def test_gains_have_the_learned_fraction_of_their_figures() -> None:
    protected, clean, floor = 38.0, 25.0, 40.0
    gains = [gain(value, floor, "mean_angle") for value in (protected, clean, floor)]
    assert (gains[0] - gains[2]) / (gains[1] - gains[2]) == pytest.approx((floor - protected) / (floor - clean))


def test_errors_have_their_unit() -> None:
    assert [in_unit(23.14, "mean_angle"), in_unit(0.4125, "absolute_error"), in_unit(0.712, "miou")] == [
        "23.1°",
        "error 0.412",
        "71.2",
    ]
