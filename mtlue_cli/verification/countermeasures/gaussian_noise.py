"""Gaussian noise, fresh in every batch."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

import torch
from msgspec import Meta
from torch import Tensor

from mtlue_cli.training.intervention import Mixture
from mtlue_cli.verification.countermeasures.base import Augmentation


@dataclass(frozen=True)
class GaussianNoise(Augmentation):
    """Adds independent normal noise to every value and clips to [0, 1].

    Drowns perturbations that a network reads pixel by pixel; those that it can average over an area survive.

    Attributes:
        deviation: Standard deviation in 255ths, the same for all images, unlike in the source. 16 is twice the usual
            bound.
    """

    title = "Gaussian noise, {deviation:g}/255"
    source = "Zantedeschi et al., Efficient Defenses Against Adversarial Attacks, AISec 2017"
    deviation: Annotated[float, Meta(ge=0)] = 16.0

    def augment(self, images: Tensor, labels: Mapping[str, Tensor], rng: torch.Generator) -> Mixture:
        """The noisy batch under its own labels."""
        # Millions of values per batch: drawn where the images are, from a seed that the given generator draws.
        local = torch.Generator(images.device).manual_seed(int(torch.randint(2**62, (), generator=rng)))
        noise = torch.randn(images.shape, generator=local, device=images.device)
        return Mixture(torch.add(images, noise, alpha=self.deviation / 255).clamp_(0, 1), labels)
