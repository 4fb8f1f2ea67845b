"""UPGrad."""

from mtlue_cli.weightings.representation import RepresentationWeighting, from_gramian


def build_upgrad(tasks: int, seed: int) -> RepresentationWeighting:
    """Projects every gradient to where it conflicts with none, then takes the mean.

    Source:
        Quinton and Rey, "Jacobian Descent for Multi-Objective Optimization", arXiv 2406.16232.
    """
    from torchjd.aggregation import UPGradWeighting

    return RepresentationWeighting(tasks, seed, from_gramian(UPGradWeighting()))
