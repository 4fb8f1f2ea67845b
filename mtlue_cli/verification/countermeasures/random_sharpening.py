"""Random sharpening with frequency filtering (RSK+FF)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

import torch
from msgspec import Meta
from torch import Tensor, nn

from mtlue_cli.training.intervention import Mixture
from mtlue_cli.verification.countermeasures.base import Augmentation


@dataclass(frozen=True)
class RandomSharpening(Augmentation):
    """Sharpens every image by a random kernel, then keeps its lowest frequencies; fresh in every batch.

    Sharpening brings forward the structure that a perturbation blurs, the chance in the kernel hides the kernel of the
    perturbation, and the filter takes out the fine detail of both.

    Attributes:
        centre: Mean weight of the pixel itself, above 1; each of its four neighbours has ``-(centre - 1) / 4``.
        deviation: Standard deviation of each of the five weights, drawn per image.
        kept: Share of the rows and of the columns of cosine coefficients that is kept, (0, 1].

    Source:
        Kim and Sandoval-Segura, "Learning from Convolution-based Unlearnable Datasets", 2024 (arXiv 2411.01742; RSK+FF
        with a centre of 2.5, a deviation of 0.1 and 30 % of the coefficients, as in the authors' code). Deviations: the
        image keeps its size, its borders mirrored; the batch is cropped and flipped before, not after.
    """

    title = "Random sharpening (RSK+FF)"
    source = "Kim and Sandoval-Segura, Learning from Convolution-based Unlearnable Datasets, 2024"
    centre: Annotated[float, Meta(gt=1)] = 2.5
    deviation: Annotated[float, Meta(ge=0)] = 0.1
    kept: Annotated[float, Meta(gt=0, le=1)] = 0.3

    def augment(self, images: Tensor, labels: Mapping[str, Tensor], rng: torch.Generator) -> Mixture:
        """The sharpened and filtered batch under its own labels."""
        drawn = torch.randn(5, len(images), generator=rng).to(images) * self.deviation
        centre = self.centre + drawn[0]
        near = ((centre - 1) / 4 + drawn[1:]).view(4, -1, 1, 1, 1)
        wide = nn.functional.pad(images, (1, 1, 1, 1), mode="reflect")
        around = wide[..., :-2, 1:-1], wide[..., 2:, 1:-1], wide[..., 1:-1, :-2], wide[..., 1:-1, 2:]
        sharp = images * centre.view(-1, 1, 1, 1)
        for weight, neighbour in zip(near, around, strict=True):
            sharp = sharp - weight * neighbour
        down, across = (_low_frequencies(side, self.kept).to(images) for side in images.shape[-2:])
        return Mixture((down @ sharp.clamp(0, 1) @ across).clamp_(0, 1), labels)


def _low_frequencies(side: int, kept: float) -> Tensor:
    """``(side, side)``: projection onto the lowest ``kept`` of the orthonormal cosines (DCT-II), at least one."""
    count = max(int(side * kept), 1)
    frequency, place = torch.arange(count).unsqueeze(1), torch.arange(side) + 0.5
    cosines: Tensor = torch.cos(torch.pi * frequency * place / side) * (2 / side) ** 0.5
    cosines[0] /= 2**0.5
    low: Tensor = cosines.T @ cosines
    return low
