"""What the documents say of names and costs is what the program has."""

import re
from pathlib import Path

import pytest

from mtlue_cli.choices import (
    BackboneName,
    CountermeasureName,
    LearnerName,
    MetricName,
    ProbeName,
    Tier,
    TrainingMethodName,
    WeightingName,
)
from mtlue_cli.networks.backbones.registry import BACKBONES
from mtlue_cli.training.methods.registry import METHODS
from mtlue_cli.training.named_settings import written
from mtlue_cli.verification.countermeasures.registry import COUNTERMEASURES

VERIFY = (Path(__file__).parents[1] / "docs" / "verify.md").read_text(encoding="utf-8")


def rows(header: str) -> dict[str, list[str]]:
    """First cell, without its backquotes, to the other cells of the table whose first header is ``header``."""
    table = VERIFY.split(f"| {header} |", 1)[1].split("\n\n", 1)[0]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]
    return {line[0].strip("`"): line[1:] for line in cells}


@pytest.mark.parametrize(
    "names",
    [BackboneName, LearnerName, WeightingName, TrainingMethodName, CountermeasureName, MetricName, ProbeName, Tier],
)
def test_every_choice_is_described(names: type[BackboneName]) -> None:
    words = set(re.findall(r"[\w-]+", VERIFY))
    assert {name.value for name in names} <= words


def test_the_table_of_countermeasures_is_the_registry() -> None:
    table = rows("`--countermeasure`")
    assert table == {
        choice.name: [
            choice.title,
            ", ".join(f"`{line}`" for line in written(choice.settings)),
            f"{choice.cost:g}",
            choice.tier.value,
            choice.source,
        ]
        for choice in COUNTERMEASURES.values()
    }


def test_the_table_of_methods_gives_their_settings() -> None:
    table = rows("`--method`")
    assert {name: line[1] for name, line in table.items()} == {
        name: ", ".join(f"`{line}`" for line in written(method.settings)) for name, method in METHODS.items()
    }


def test_the_table_of_backbones_gives_their_costs() -> None:
    table = rows("`--backbone`")
    assert set(table) == {name.value for name in BackboneName}
    for name, spec in BACKBONES.items():
        assert float(table[name.value][0]) == pytest.approx(spec.relative_cost, rel=0.03)
