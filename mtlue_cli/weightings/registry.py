"""All task weightings by name."""

from collections.abc import Callable, Mapping

from mtlue_cli.choices import WeightingName
from mtlue_cli.weightings.base import Weighting
from mtlue_cli.weightings.linear_scalarisation import LinearScalarisation

WEIGHTINGS: Mapping[WeightingName, Callable[[int, int], Weighting]] = {
    WeightingName.LS: LinearScalarisation,
}


def build_weighting(name: WeightingName, tasks: int, seed: int) -> Weighting:
    """A fresh weighting of ``tasks`` losses."""
    return WEIGHTINGS[name](tasks, seed)
