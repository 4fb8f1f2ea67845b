"""What a share is worth: bounds by measurements, nothing interpolated, nothing claimed below them."""

from mtlue_cli.choices import LEAST_COPY_SHARE
from mtlue_cli.workflows.trace.worth import Measured, WorthTable, worth_of, worth_table


def row(name: str, share: float, best: float, steps: int = 3000, covered: float = 1.0) -> Measured:
    return Measured(name, share, 0.0, covered, best - 0.1, best, 0.02, steps, 8000)


TABLE = WorthTable(
    1,
    "faces",
    "faces, one seed",
    (
        row("as released", 1.0, -0.2),
        row("cropped", 1.0, 0.25, covered=0.6),
        row("few bits", 0.94, 0.1),
        row("JPEG", 0.9, 0.0),
        row("as released", 1.0, 0.3, steps=500),
        row("half", 0.5, 0.9, steps=500),
    ),
)


def test_the_bound_is_the_worst_of_all_conditions_with_at_least_so_much() -> None:
    assert worth_of(1.0, table=TABLE).learned_high == -0.2
    assert worth_of(0.95, table=TABLE).learned_high == 0.1
    found = worth_of(0.92, table=TABLE)
    assert found.learned_high == 0.1  # of the few bits, not of the JPEG that is nearest
    assert [one.condition for one in found.nearest] == ["JPEG", "few bits"]
    assert "90% or more (JPEG); faces" in found.meaning
    assert found.about == "faces, one seed"


def test_crops_count_for_cropped_copies_alone() -> None:
    assert worth_of(0.95, covered=0.97, table=TABLE).learned_high == 0.1
    assert worth_of(0.95, covered=0.8, table=TABLE).learned_high == 0.25


def test_below_the_measurements_nothing_is_promised() -> None:
    found = worth_of(0.7, table=TABLE)
    assert found.learned_high is None
    assert [one.condition for one in found.nearest] == ["half", "JPEG"]
    assert "not measured with victims trained to the end" in found.meaning
    assert "0.80 of what clean images teach with 50% left (half)" in found.meaning
    found = worth_of(-0.02, table=TABLE)
    assert found.learned_high is None
    assert "expect copies to teach what clean images teach" in found.meaning


def test_the_shipped_table_bears_the_default_out() -> None:
    rows = worth_table().rows
    protected = [one.share for one in rows if one.converged and one.learned_best_epoch <= 0.25]
    learned = [one.share for one in rows if one.learned > 0.25]
    assert max(learned) < LEAST_COPY_SHARE < min(protected)
    assert all(0 <= one.share <= 1.1 and one.deviation >= 0 and one.learned_error > 0 for one in rows)
    assert {one.converged for one in rows} == {True, False}
