"""Nash-MTL."""

from torch import Tensor

from mtlue_cli.weightings.representation import RepresentationWeighting, from_gramian


def build_nash_mtl(tasks: int, seed: int) -> RepresentationWeighting:
    """The update on which tasks that bargain for it agree: weights ``w`` with ``G w = 1 / w`` for the Gramian ``G``.

    Source:
        Navon et al., "Multi-Task Learning as a Bargaining Game", ICML 2022, claim 3.1. The equation is solved directly,
        as FairGrad's with alpha 1 (Ban and Ji, ICML 2024), not by the authors' sequence of convex programmes: that one
        takes seconds per step at forty tasks and starts from even weights, where it is undefined as soon as a task
        conflicts with the sum of all. It is solved for gradients of length 1, which the solution allows for exactly.
        The length of the joint gradient is not capped.
    """
    from torchjd.aggregation import FairGradWeighting

    solve = FairGradWeighting(alpha=1.0)

    def weigh(gramian: Tensor) -> Tensor:
        lengths = gramian.diagonal().sqrt()
        weights: Tensor = solve(gramian / lengths.outer(lengths)) / lengths
        return weights

    return RepresentationWeighting(tasks, seed, from_gramian(weigh))
