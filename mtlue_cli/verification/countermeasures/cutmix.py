"""CutMix: a window of another image in every image."""

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
class CutMix(Mixing):
    """Pastes the same window of a partner over every image; the losses under both sets of labels count by area.

    Source:
        Yun et al., "CutMix", ICCV 2019, algorithm 1: a window with the image's proportions around a uniform centre,
        cut off at the border, and the share taken from the area that is left. Every batch is mixed, as on ImageNet.
        Where one of the two is unlabelled, the loss of that set leaves it out. Label maps are pasted like images, as
        French et al., "Semi-supervised semantic segmentation needs strong, varied perturbations", BMVC 2020.
    """

    def __call__(
        self, network: nn.Module, images: Tensor, labels: Mapping[str, Tensor], rng: torch.Generator
    ) -> Mixture:
        """The pasted batch under its own and its partners' labels."""
        del network
        height, width = images.shape[-2:]
        side = (1 - draw_share(self.alpha, rng)) ** 0.5
        rows, columns = _window(height, side, rng), _window(width, side, rng)
        partners, other = draw_partners(images, labels, rng)
        mixed = images.clone()
        mixed[..., rows, columns] = partners[..., rows, columns]
        pasted = (rows.stop - rows.start) * (columns.stop - columns.start)
        own = dict(labels)
        for name, column in labels.items():
            if column.ndim > 1:  # a label map is pasted as its image is: every pixel has one label, whatever the share
                own[name] = column.clone()
                own[name][..., rows, columns] = other[name][..., rows, columns]
                other[name] = own[name]
        return Mixture(mixed, own, other, 1 - pasted / (height * width))


def _window(size: int, share: float, rng: torch.Generator) -> slice:
    """Positions within ``share`` of a side of ``size`` pixels around a uniform centre, as far as they exist."""
    length = int(size * share)
    first = int(torch.randint(size, (), generator=rng)) - length // 2
    return slice(max(first, 0), min(first + length, size))


CUTMIX = CountermeasureSpec(
    name=CountermeasureName.CUTMIX,
    title="CutMix",
    tier=Tier.SMOKE,
    source="Yun et al., CutMix, ICCV 2019",
    settings=CutMix(),
    make=Augmentation,
)
