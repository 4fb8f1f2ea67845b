"""Random resized crop: zoom into every image."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

import torch
from msgspec import Meta
from torch import Tensor, nn

from mtlue_cli.training.intervention import Mixture
from mtlue_cli.verification.countermeasures.base import Augmentation


@dataclass(frozen=True)
class RandomResizedCrop(Augmentation):
    """Cuts a window of random size, proportions and place out of every image and scales it to the image's size.

    Moves and stretches a perturbation, each image in its own way: patterns that are tied to a place or a scale are
    blurred over the training set.

    Attributes:
        smallest_area: Least share of the area that a window covers, (0, 1]; uniform from there to 1.
        widest: Largest ratio of its sides, either way, at least 1; log-uniform.

    Source:
        Szegedy et al., "Going Deeper with Convolutions", CVPR 2015. Deviations: a quarter of the area at least, not
        8 %, which of a 64-pixel crop would leave 18 pixels; a side that would exceed the image is cut to it rather
        than drawn again.
    """

    title = "Random resized crop"
    source = "Szegedy et al., Going Deeper with Convolutions, CVPR 2015"
    smallest_area: Annotated[float, Meta(gt=0, le=1)] = 0.25
    widest: Annotated[float, Meta(ge=1)] = 4 / 3

    def augment(self, images: Tensor, labels: Mapping[str, Tensor], rng: torch.Generator) -> Mixture:
        """The zoomed batch under its own labels; label maps are zoomed alike, by the nearest pixel."""
        height, width = images.shape[-2:]
        windows = self.draw(len(images), height, width, rng)
        maps = {name: zoom_map(column, windows) for name, column in labels.items() if column.ndim > 1}
        # The four weights of a pixel add up to 1 but for the last bit.
        return Mixture(zoom(images, windows).clamp_(0, 1), {**labels, **maps})

    def draw(self, count: int, height: int, width: int, rng: torch.Generator) -> Tensor:
        """``(count, 4)`` int64: top, left, height and width in pixels of a window in each image."""
        area, stretch, down, across = torch.rand(4, count, generator=rng)
        side = (self.smallest_area + (1 - self.smallest_area) * area).sqrt()
        ratio = torch.exp((2 * stretch - 1) * math.log(self.widest)).sqrt()
        rows = (height * side / ratio).round().clamp(1, height)
        columns = (width * side * ratio).round().clamp(1, width)
        top = (down * (height - rows + 1)).floor().clamp(max=height - rows)
        left = (across * (width - columns + 1)).floor().clamp(max=width - columns)
        return torch.stack((top, left, rows, columns), dim=1).long()


def zoom_map(labels: Tensor, windows: Tensor) -> Tensor:
    """What :func:`zoom` does to images, for label maps ``(B, H, W)`` or ``(B, C, H, W)``; no value is mixed."""
    planes = labels.float() if labels.ndim == 4 else labels[:, None].float()
    return zoom(planes, windows, "nearest").view(labels.shape).to(labels.dtype)


def zoom(images: Tensor, windows: Tensor, mode: str = "bilinear") -> Tensor:
    """Each window scaled to the whole image, as if it had been cut out first.

    Images are ``(B, C, H, W)`` float; the mode is ``bilinear`` or ``nearest``; windows are those of ``draw``.
    """
    height, width = images.shape[-2:]
    top, left, rows, columns = windows.to(images.device).float().unbind(dim=1)
    down = _sampled(top, rows, height).unsqueeze(2).expand(-1, height, width)
    across = _sampled(left, columns, width).unsqueeze(1).expand(-1, height, width)
    return nn.functional.grid_sample(
        images, torch.stack((across, down), dim=3), mode=mode, padding_mode="border", align_corners=False
    )


def _sampled(first: Tensor, length: Tensor, size: int) -> Tensor:
    """Where ``size`` pixels are read along one axis, ``(B, size)``, -1 and 1 being the image's outer edges.

    No pixel is read beyond the first and last centres of the window, so that nothing outside it shines in.
    """
    first, length = first.unsqueeze(1), length.unsqueeze(1)
    position = (torch.arange(size, device=first.device) + 0.5) * (length / size) - 0.5
    position = first + torch.minimum(position.clamp_min(0), length - 1)
    return (2 * position + 1) / size - 1
