"""CAGrad."""

from dataclasses import dataclass

from mtlue_cli.weightings.representation import RepresentationWeighting, from_gramian


@dataclass(frozen=True)
class CAGradSettings:
    """How it weighs.

    Attributes:
        radius: How far the update may be from the mean gradient, as a share of the latter's length; 0: the mean itself.
    """

    radius: float = 0.4


def build_cagrad(tasks: int, seed: int, settings: CAGradSettings | None = None) -> RepresentationWeighting:
    """The update near the mean gradient that serves the worst served task best.

    Source:
        Liu et al., "Conflict-Averse Gradient Descent for Multi-task Learning", NeurIPS 2021, algorithm 1 (``c`` is
        the radius, 0.4 as there on NYUv2). Solved as a cone programme by Clarabel.
    """
    from torchjd.aggregation import CAGradWeighting

    solve = CAGradWeighting(c=(settings or CAGradSettings()).radius)
    return RepresentationWeighting(tasks, seed, from_gramian(solve))
