"""Nonlinear transformations: dilation, blur and threshold."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

import torch
from msgspec import Meta
from torch import Tensor, nn
from torchvision.transforms.v2.functional import gaussian_blur

from mtlue_cli.training.intervention import Mixture
from mtlue_cli.verification.countermeasures.base import Augmentation


@dataclass(frozen=True)
class NonlinearTransformations(Augmentation):
    """Leaves an image as it is, dilates it, blurs it or makes each channel black and white, with the same chance.

    What is linear in the labels does not survive a maximum or a threshold, which keep shapes.

    Attributes:
        side: Of the square, in pixels, whose maximum dilation takes, an odd number; the blur's kernel has it too.
        threshold: Value in (0, 1) above which a channel becomes 1, else 0.

    Source:
        Hapuarachchi et al., "Nonlinear Transformations Against Unlearnable Datasets", 2024 (arXiv 2406.02883), which
        adds transformed copies of the images (dilation, Gaussian blur, binary threshold and others of OpenCV) as long
        as they raise the accuracy on validation images. Deviations: the set is fixed and every batch is drawn anew;
        for a pretrained network, as in the source, combine it with ``--start``.
    """

    title = "Nonlinear transformations"
    source = "Hapuarachchi et al., Nonlinear Transformations Against Unlearnable Datasets, 2024"
    side: Annotated[int, Meta(ge=3)] = 3
    threshold: Annotated[float, Meta(gt=0, lt=1)] = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.side % 2 == 0:
            raise ValueError(f"side is {self.side}, expected an odd number")

    @property
    def smallest_side(self) -> int:
        """The blur mirrors half of its kernel at the border."""
        return self.side // 2 + 1

    def augment(self, images: Tensor, labels: Mapping[str, Tensor], rng: torch.Generator) -> Mixture:
        """The transformed batch under its own labels."""
        drawn = torch.randint(4, (len(images),), generator=rng).to(images.device)
        changed = images.clone()
        changed[drawn == 1] = nn.functional.max_pool2d(images[drawn == 1], self.side, stride=1, padding=self.side // 2)
        changed[drawn == 2] = gaussian_blur(images[drawn == 2], [self.side, self.side])
        changed[drawn == 3] = (images[drawn == 3] > self.threshold).to(images.dtype)
        return Mixture(changed, labels)
