"""All task weightings by name."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec

from mtlue_cli.choices import WeightingName
from mtlue_cli.errors import InputError
from mtlue_cli.weightings.base import Weighting
from mtlue_cli.weightings.gradients import excess_mtl, nash_mtl, pcgrad, torchjd
from mtlue_cli.weightings.losses import (
    DynamicWeightAverage,
    LinearScalarisation,
    RandomLossWeighting,
    UncertaintyWeighting,
)

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
    # All principal components of the gradients as large as the smallest, then the mean. Senushkin et al., "Independent
    # Component Alignment for Multi-Task Learning", CVPR 2023, algorithm 1.
    WeightingName.ALIGNED_MTL: WeightingSpec(torchjd("AlignedMTLWeighting", scale_mode="min")),
    # Weights w with G w = w ** (-1 / alpha) for the Gramian G: one alpha-fair share per task; 0 is linear
    # scalarisation, 1 proportional (as Nash-MTL), growing towards max-min. Ban and Ji, "Fair Resource Allocation in
    # Multi-Task Learning", ICML 2024, equation 4. The scaled Gramian changes all weights by one factor.
    WeightingName.FAIRGRAD: WeightingSpec(torchjd("FairGradWeighting", alpha=2.0), needs=("scipy",)),
    WeightingName.EXCESS_MTL: WeightingSpec(excess_mtl),
    WeightingName.DWA: WeightingSpec(DynamicWeightAverage),
    WeightingName.PCGRAD: WeightingSpec(pcgrad),
    # Of the updates within a share c of its length from the mean gradient, the one that serves the worst served task
    # best. Liu et al., "Conflict-Averse Gradient Descent for Multi-task Learning", NeurIPS 2021, algorithm 1, with c
    # as there on NYUv2.
    WeightingName.CAGRAD: WeightingSpec(torchjd("CAGradWeighting", c=0.4), needs=("cvxpy", "clarabel")),
    # The shortest convex combination of the gradients, which are not normalised one by one. Désidéri, Comptes Rendus
    # Mathématique 350, 2012; Sener and Koltun, NeurIPS 2018, algorithm 2. The Frank-Wolfe search ends after max_iters
    # steps, or with a step of less than epsilon.
    WeightingName.MGDA: WeightingSpec(torchjd("MGDAWeighting", epsilon=1e-3, max_iters=100)),
    # The combination, of weights that sum to 1 and may be negative, that leans equally far towards every gradient's
    # direction. Liu et al., "Towards Impartial Multi-task Learning", ICLR 2021, the gradient balance (not the loss
    # balance), in TorchJD's form for dependent gradients.
    WeightingName.IMTL_G: WeightingSpec(torchjd("IMTLGWeighting")),
    WeightingName.NASH_MTL: WeightingSpec(nash_mtl, needs=("scipy",)),
    # Every gradient projected to where it conflicts with none, then the mean. Quinton and Rey, "Jacobian Descent for
    # Multi-Objective Optimization", arXiv 2406.16232.
    WeightingName.UPGRAD: WeightingSpec(torchjd("UPGradWeighting"), needs=("qpsolvers", "quadprog")),
}


def require_installed(name: WeightingName, spec: WeightingSpec) -> None:
    """Refuse a weighting whose modules are not all here.

    Raises:
        InputError: Names the modules and how to install them.
    """
    if missing := spec.missing():
        raise InputError(f"the weighting {name.value} needs {', '.join(missing)}, not installed here", hint=INSTALL)


def build_weighting(name: WeightingName, tasks: int, seed: int) -> Weighting:
    """A fresh weighting of ``tasks`` losses.

    Raises:
        InputError: It needs a module that is not installed.
    """
    require_installed(name, WEIGHTINGS[name])
    return WEIGHTINGS[name].build(tasks, seed)
