"""MGDA."""

from dataclasses import dataclass

from mtlue_cli.weightings.representation import RepresentationWeighting, from_gramian


@dataclass(frozen=True)
class MGDASettings:
    """When the solver stops.

    Attributes:
        max_iterations: Most steps of its Frank-Wolfe search.
        tolerance: Step size, in [0, 1], below which it stops earlier.
    """

    max_iterations: int = 100
    tolerance: float = 1e-3


def build_mgda(tasks: int, seed: int, settings: MGDASettings | None = None) -> RepresentationWeighting:
    """The shortest convex combination of the gradients.

    Source:
        Désidéri, Comptes Rendus Mathématique 350, 2012; Sener and Koltun, NeurIPS 2018, algorithm 2. Gradients are not
        normalised one by one.
    """
    from torchjd.aggregation import MGDAWeighting

    chosen = settings or MGDASettings()
    solve = MGDAWeighting(epsilon=chosen.tolerance, max_iters=chosen.max_iterations)
    return RepresentationWeighting(tasks, seed, from_gramian(solve))
