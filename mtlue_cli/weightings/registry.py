"""All task weightings by name."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec

from mtlue_cli.choices import WeightingName
from mtlue_cli.errors import InputError
from mtlue_cli.weightings.aligned_mtl import build_aligned_mtl
from mtlue_cli.weightings.base import Weighting
from mtlue_cli.weightings.cagrad import build_cagrad
from mtlue_cli.weightings.dynamic_average import DynamicWeightAverage
from mtlue_cli.weightings.excess_mtl import build_excess_mtl
from mtlue_cli.weightings.fairgrad import build_fairgrad
from mtlue_cli.weightings.imtl_g import build_imtl_g
from mtlue_cli.weightings.linear_scalarisation import LinearScalarisation
from mtlue_cli.weightings.mgda import build_mgda
from mtlue_cli.weightings.nash_mtl import build_nash_mtl
from mtlue_cli.weightings.pcgrad import build_pcgrad
from mtlue_cli.weightings.random_loss import RandomLossWeighting
from mtlue_cli.weightings.uncertainty import UncertaintyWeighting
from mtlue_cli.weightings.upgrad import build_upgrad

INSTALL = "pip install 'mtlue[weightings]'"


@dataclass(frozen=True)
class WeightingSpec:
    """One weighting of the registry.

    Attributes:
        build: Makes it for a number of tasks and a seed.
        needs: Modules of the extra ``weightings`` that it cannot do without.
    """

    build: Callable[[int, int], Weighting]
    needs: tuple[str, ...] = ()

    def missing(self) -> tuple[str, ...]:
        """Those of its modules that are not installed here."""
        return tuple(module for module in self.needs if find_spec(module) is None)


WEIGHTINGS: Mapping[WeightingName, WeightingSpec] = {
    WeightingName.LS: WeightingSpec(LinearScalarisation),
    WeightingName.UW: WeightingSpec(UncertaintyWeighting),
    WeightingName.RLW: WeightingSpec(RandomLossWeighting),
    WeightingName.ALIGNED_MTL: WeightingSpec(build_aligned_mtl),
    WeightingName.FAIRGRAD: WeightingSpec(build_fairgrad, needs=("scipy",)),
    WeightingName.EXCESS_MTL: WeightingSpec(build_excess_mtl),
    WeightingName.DWA: WeightingSpec(DynamicWeightAverage),
    WeightingName.PCGRAD: WeightingSpec(build_pcgrad),
    WeightingName.CAGRAD: WeightingSpec(build_cagrad, needs=("cvxpy", "clarabel")),
    WeightingName.MGDA: WeightingSpec(build_mgda),
    WeightingName.IMTL_G: WeightingSpec(build_imtl_g),
    WeightingName.NASH_MTL: WeightingSpec(build_nash_mtl, needs=("scipy",)),
    WeightingName.UPGRAD: WeightingSpec(build_upgrad, needs=("qpsolvers", "quadprog")),
}


def require_installed(name: WeightingName, spec: WeightingSpec) -> None:
    """Refuse a weighting whose modules are not all here.

    Raises:
        InputError: Names the modules and how to install them.
    """
    missing = spec.missing()
    if missing:
        raise InputError(f"the weighting {name.value} needs {', '.join(missing)}, not installed here", hint=INSTALL)


def build_weighting(name: WeightingName, tasks: int, seed: int) -> Weighting:
    """A fresh weighting of ``tasks`` losses.

    Raises:
        InputError: It needs a module that is not installed.
    """
    require_installed(name, WEIGHTINGS[name])
    return WEIGHTINGS[name].build(tasks, seed)
