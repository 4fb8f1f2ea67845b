"""What MixUp and CutMix draw: a partner for every image, and the share of each."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Mixing:
    """How much of a partner is mixed in.

    Attributes:
        alpha: Of the Beta distribution that the share of the image itself is drawn from, once a batch.

    Raises:
        ValueError: ``alpha`` is not positive.
    """

    alpha: float = 1.0

    def __post_init__(self) -> None:
        if self.alpha <= 0:
            raise ValueError(f"a positive alpha is expected, not {self.alpha:g}")


def draw_share(alpha: float, rng: torch.Generator) -> float:
    """A number in [0, 1] from the symmetric Beta distribution: towards the ends for a small ``alpha``, uniform at 1."""
    # PyTorch draws from a Beta distribution by its global generator only.
    seed = int(torch.randint(2**62, (), generator=rng))
    return float(np.random.default_rng(seed).beta(alpha, alpha))


def draw_partners(
    images: Tensor, labels: Mapping[str, Tensor], rng: torch.Generator
) -> tuple[Tensor, dict[str, Tensor]]:
    """The batch in a random order: ``(B, 3, H, W)`` images and their labels, so that each row has a partner.

    A row may be its own partner. What is unlabelled moves along and stays so.
    """
    order = torch.randperm(len(images), generator=rng).to(images.device)
    return images[order], {name: column[order] for name, column in labels.items()}
