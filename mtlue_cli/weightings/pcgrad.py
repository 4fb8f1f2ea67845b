"""PCGrad."""

from torch import Tensor

from mtlue_cli.weightings.random_stream import RandomStream
from mtlue_cli.weightings.representation import RepresentationWeighting, TaskGradients


def build_pcgrad(tasks: int, seed: int) -> RepresentationWeighting:
    """Every gradient loses its component against each other one that it conflicts with, in random order; then the sum.

    Source:
        Yu et al., "Gradient Surgery for Multi-Task Learning", NeurIPS 2020, algorithm 1.
    """
    from torchjd.aggregation import PCGradWeighting

    solve, stream = PCGradWeighting(), RandomStream(seed)

    def weigh(gradients: TaskGradients) -> Tensor:
        with stream.drawing():
            weights: Tensor = solve(gradients.gramian)
        return weights

    return RepresentationWeighting(tasks, seed, weigh)
