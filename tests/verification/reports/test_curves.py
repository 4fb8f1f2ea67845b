import pytest
from msgspec.structs import replace

from mtlue_cli.verification.figures import Curve
from mtlue_cli.verification.reports.curves import BOTTOM, HEIGHT, LEFT, MOST_TICKS, RIGHT, TOP, WIDTH, Chart, charts
from mtlue_cli.verification.verdict import Verdict
from mtlue_cli.verification.victim_result import CurvePoint
from tests.verification.reports import documents


def _chart(epochs: list[CurvePoint], *, average: bool = True) -> Chart:
    """The chart of one condition: floor 0.5, clean 0.9, and the given epochs."""
    condition = documents.condition("none", [documents.task("age", 1.0), documents.task("race", 1.0)], epochs=0)
    condition = replace(condition, curves=(Curve(0, tuple(epochs)),))
    if not average:
        condition = replace(condition, average=None)
    (chart,) = charts(documents.document(Verdict.PROTECTED, "fine", [condition]))
    return chart


def _epoch(number: int, train: float | None, *test: float) -> CurvePoint:
    tested = dict(zip(("age", "race"), test, strict=True))
    return CurvePoint(number, 1.0, dict.fromkeys(tested, train), tested)


def test_coordinates_by_hand() -> None:
    # Accuracies 0.5 to 0.9 in steps of 0.1; epoch 1 stands left, 3 right, 2 between.
    chart = _chart([_epoch(1, 0.5, 0.4, 0.6), _epoch(2, 0.7, 0.7, 0.7), _epoch(3, 0.9, 0.8, 1.0)])
    assert [tick.text for tick in chart.y_ticks] == ["50 %", "60 %", "70 %", "80 %", "90 %"]
    bottom, middle = HEIGHT - BOTTOM, (TOP + HEIGHT - BOTTOM) / 2
    across = (LEFT + WIDTH - RIGHT) / 2
    curve = f"{LEFT},{bottom} {across:g},{middle:g} {WIDTH - RIGHT},{TOP}"
    found = {line.kind: line.points for line in chart.lines}
    assert found["test"] == found["train"] == curve
    assert found["floor"] == f"{LEFT},{bottom:.1f} {WIDTH - RIGHT},{bottom:.1f}"
    assert found["clean"] == f"{LEFT},{TOP:.1f} {WIDTH - RIGHT},{TOP:.1f}"
    assert chart.summary == "test accuracy after the last epoch 90.0 %, floor 50.0 %, clean 90.0 %"


def test_a_gap_breaks_a_curve_and_leaves_a_dot() -> None:
    epochs = [_epoch(number, train, 0.7, 0.7) for number, train in enumerate((0.6, None, 0.7, 0.8), start=1)]
    parts = [line for line in _chart(epochs).lines if line.kind == "train"]
    assert [len(part.points.split()) for part in parts] == [1, 2]
    assert [len(part.dots) for part in parts] == [1, 0]


def test_a_single_epoch_is_a_dot_in_the_middle() -> None:
    (line,) = (line for line in _chart([_epoch(1, None, 0.7, 0.7)]).lines if line.kind == "test")
    assert line.dots[0][0] == pytest.approx((LEFT + WIDTH - RIGHT) / 2)


def test_tasks_that_are_not_in_the_average_do_not_count() -> None:
    condition = documents.condition("none", [documents.task("age", 1.0), documents.task("race", None)], epochs=0)
    condition = replace(condition, curves=(Curve(0, (_epoch(1, 0.8, 0.9, 0.1),)),))
    (chart,) = charts(documents.document(Verdict.PROTECTED, "fine", [condition]))
    assert chart.summary.startswith("test accuracy after the last epoch 90.0 %")


def test_without_an_average_the_judged_tasks_are_shown() -> None:
    chart = _chart([_epoch(1, None, 0.5, 0.7)], average=False)
    assert chart.summary == "test accuracy after the last epoch 60.0 %, floor 50.0 %"


def test_a_curve_a_seed_and_one_scale_for_all() -> None:
    made = charts(documents.not_protected(seeds=3))
    assert len(made) == 5
    assert {sum(line.kind == "test" for line in chart.lines) for chart in made} == {3}
    assert len({chart.y_ticks for chart in made}) == 1


def test_many_epochs_are_thinned_to_a_few_ticks() -> None:
    ticks = _chart([_epoch(number, 0.8, 0.7, 0.7) for number in range(1, 61)]).x_ticks
    assert len(ticks) == MOST_TICKS
    assert (ticks[0].text, ticks[-1].text) == ("1", "60")


def test_no_epochs_make_no_chart() -> None:
    assert charts(documents.failed_audit()) == ()
    assert charts(documents.large(2, 2, epochs=0)) == ()


def test_levels_of_another_metric_are_not_drawn_among_accuracies() -> None:
    under_accuracy, under_another = charts(documents.protected())[0], charts(documents.other_metric())[0]
    assert [line for line in under_accuracy.lines if line.kind in ("floor", "clean")]
    assert not [line for line in under_another.lines if line.kind in ("floor", "clean")]
