"""Aligned-MTL."""

from mtlue_cli.weightings.representation import RepresentationWeighting, from_gramian


def build_aligned_mtl(tasks: int, seed: int) -> RepresentationWeighting:
    """Makes the principal components of the gradients equally large, all as the smallest, then takes the mean.

    Source:
        Senushkin et al., "Independent Component Alignment for Multi-Task Learning", CVPR 2023, algorithm 1.
    """
    from torchjd.aggregation import AlignedMTLWeighting

    return RepresentationWeighting(tasks, seed, from_gramian(AlignedMTLWeighting(scale_mode="min")))
