"""MixUp: every image blended with another."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mtlue_cli.choices import CountermeasureName, Tier
from mtlue_cli.training.intervention import Mixture
from mtlue_cli.verification.countermeasures.augmentation import Augmentation
from mtlue_cli.verification.countermeasures.mixing import Mixing, draw_partners, draw_share
from mtlue_cli.verification.countermeasures.spec import CountermeasureSpec


@dataclass(frozen=True)
class MixUp(Mixing):
    """Blends every image with a partner of its batch; the losses under both sets of labels are blended alike.

    Source:
        Zhang et al., "mixup: Beyond Empirical Risk Minimization", ICLR 2018 (one share a batch, alpha 1 on CIFAR-10).
        Where one of the two is unlabelled, the loss of that set leaves it out.
    """

    def __call__(
        self, network: nn.Module, images: Tensor, labels: Mapping[str, Tensor], rng: torch.Generator
    ) -> Mixture:
        """The blended batch under its own and its partners' labels."""
        del network
        share = draw_share(self.alpha, rng)
        partners, other = draw_partners(images, labels, rng)
        return Mixture(torch.lerp(partners, images, share), labels, other, share)


MIXUP = CountermeasureSpec(
    name=CountermeasureName.MIXUP,
    title="MixUp",
    tier=Tier.STANDARD,
    source="Zhang et al., mixup: Beyond Empirical Risk Minimization, ICLR 2018",
    settings=MixUp(),
    make=Augmentation,
)
