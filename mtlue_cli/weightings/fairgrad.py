"""FairGrad."""

from dataclasses import dataclass

from mtlue_cli.weightings.representation import RepresentationWeighting, from_gramian


@dataclass(frozen=True)
class FairGradSettings:
    """How it weighs.

    Attributes:
        alpha: Kind of fairness between the tasks' gains: 0 linear scalarisation, 1 proportional (as Nash-MTL), growing
            towards max-min.
    """

    alpha: float = 2.0


def build_fairgrad(tasks: int, seed: int, settings: FairGradSettings | None = None) -> RepresentationWeighting:
    """The weights ``w`` that solve ``G w = w ** (-1 / alpha)`` for the Gramian ``G``: one alpha-fair share per task.

    Source:
        Ban and Ji, "Fair Resource Allocation in Multi-Task Learning", ICML 2024, equation 4. The scaled Gramian changes
        all weights by one factor.
    """
    from torchjd.aggregation import FairGradWeighting

    solve = FairGradWeighting(alpha=(settings or FairGradSettings()).alpha)
    return RepresentationWeighting(tasks, seed, from_gramian(solve))
