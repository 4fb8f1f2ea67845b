import pytest
from msgspec.structs import replace

from mtlue_cli.verification.reports.heat_map import colour, heat_map
from tests.verification.reports import documents


@pytest.mark.parametrize(
    ("learned", "expected"),
    [
        (-3.0, "below-4"),
        (-0.5, "below-4"),
        (-0.49, "below-3"),
        (0.0, "below-2"),
        (0.01, "below-1"),
        (0.25, "below-1"),
        (0.2501, "above-1"),
        (0.5, "above-2"),
        (0.99, "above-3"),
        (1.0, "above-4"),
        (7.0, "above-4"),
    ],
)
def test_colours_part_at_the_gate(learned: float, expected: str) -> None:
    assert colour(learned, 0.25) == expected


def test_the_gate_moves_the_colours_and_the_legend() -> None:
    assert colour(0.3, 0.5) == "below-1"
    document = documents.protected()
    assert heat_map(document).legend[3:5] == (("below-1", "0.00 to 0.25"), ("above-1", "0.25 to 0.50"))
    document = replace(document, max_learned=0.5)
    assert heat_map(document).legend[0] == ("below-4", "up to -0.25")
    assert heat_map(document).legend[-1] == ("above-4", "over 1.25")


def test_clean_victims_have_no_column() -> None:
    document = documents.protected()
    assert [column.condition.role for column in heat_map(document).columns] == ["judged", "judged", "control"]
    assert heat_map(replace(document, conditions=document.conditions[:1])).columns == ()


def test_the_best_epoch_ranks_colours_and_is_marked_where_it_decides() -> None:
    columns = heat_map(documents.stopped_early()).columns
    assert [(column.condition.name, column.is_worst) for column in columns] == [
        ("small", True),
        ("resnet18 + none", False),
        ("resnet18 + noise", False),
    ]
    seen = [[(cell.text, cell.colour, cell.remark.strip()) for cell in (one.average, *one.cells)] for one in columns]
    assert seen[0] == [
        ("0.75", "above-3", "(best epoch)"),
        ("1.03", "above-4", "(best epoch)"),
        ("0.47", "above-1", "(best epoch)"),
        ("(0.30)", "open", "(best epoch)"),
    ]
    assert seen[1] == [("0.20", "below-1", "")] * 3 + [("", "none", "")]
    # The control's best epoch is higher too, and is not looked at.
    assert seen[2][:2] == [("0.90", "above-3", "")] * 2
    several = heat_map(documents.stopped_early(seeds=2)).columns[0]
    assert several.average.note == "0.75 (0.69 to 0.81)"


def test_an_inconclusive_condition_stands_last_among_the_judged() -> None:
    document = documents.protected()
    inconclusive = documents.condition("resnet18 + blur", [documents.task("age", None)])
    columns = heat_map(replace(document, conditions=(inconclusive, *document.conditions))).columns
    assert [column.condition.name for column in columns][:3] == [
        "resnet18 + jpeg-10",
        "resnet18 + none",
        "resnet18 + blur",
    ]
    assert columns[2].average.colour == "none"
    assert [column.is_worst for column in columns] == [True, False, False, False]
