"""A release of which only a share is protected, and what its clean rest teaches alone."""

from collections.abc import Mapping

import torch
from torch import Tensor

from mtlue_cli.verification.by_content import draw_share


def mix(protected: Tensor, clean: Tensor, fraction: float, seed: int) -> tuple[Tensor, Tensor]:
    """Put protected images in the place of a share of the clean ones.

    Which images are protected depends on their content and the seed alone; a larger share holds every smaller one.

    Args:
        protected: ``(N, 3, S, S)`` uint8, the release.
        clean: The originals, in the same order.
        fraction: Share that is protected, in [0, 1].
        seed: Another seed protects other images.

    Returns:
        The mixed images, and ``(N,)`` bool, True where an image is protected.

    Raises:
        ValueError: The shapes differ, or ``fraction`` lies outside [0, 1].
    """
    if protected.shape != clean.shape:
        raise ValueError(f"protected images {tuple(protected.shape)} and clean ones {tuple(clean.shape)} do not match")
    mask = draw_share(clean, fraction, seed, "protected share")
    return torch.where(mask.view(-1, 1, 1, 1), protected, clean), mask


def clean_part(images: Tensor, labels: Mapping[str, Tensor], mask: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """The unprotected rest of a release, to compare with: what an attacker has who throws the protected share away.

    Args:
        images: ``(N, 3, S, S)`` uint8.
        labels: Task name to ``(N,)`` int64.
        mask: ``(N,)`` bool, True where an image is protected.

    Returns:
        Images and labels of the rest, in their order; empty if everything is protected.
    """
    return images[~mask], {name: column[~mask] for name, column in labels.items()}
