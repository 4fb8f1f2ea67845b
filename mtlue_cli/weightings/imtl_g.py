"""IMTL-G."""

from mtlue_cli.weightings.representation import RepresentationWeighting, from_gramian


def build_imtl_g(tasks: int, seed: int) -> RepresentationWeighting:
    """The combination, of weights that sum to 1, that leans equally far towards the direction of every gradient.

    Weights may be negative.

    Source:
        Liu et al., "Towards Impartial Multi-task Learning", ICLR 2021, the gradient balance (not the loss balance), in
        TorchJD's form for dependent gradients.
    """
    from torchjd.aggregation import IMTLGWeighting

    return RepresentationWeighting(tasks, seed, from_gramian(IMTLGWeighting()))
