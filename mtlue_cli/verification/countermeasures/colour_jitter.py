"""Colour jitter: brightness, contrast, saturation and hue of every image at random."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

import torch
from msgspec import Meta
from torch import Tensor
from torchvision.transforms.v2.functional import rgb_to_grayscale

from mtlue_cli.training.intervention import Mixture
from mtlue_cli.verification.countermeasures.base import Augmentation


@dataclass(frozen=True)
class ColourJitter(Augmentation):
    """Changes brightness, contrast, saturation and hue in this order, by factors drawn for each image.

    Makes a perturbation's colour and amplitude unreliable; its pattern in space stays.

    Attributes:
        brightness, contrast, saturation: A factor is uniform from 1 minus this to 1 plus this; [0, 1].
        hue: Turn around the colour circle, uniform from minus this to plus this; in turns, [0, 0.5].

    Source:
        Factors and their meaning as in torchvision's ``ColorJitter``, with the strengths of Chen et al., "A Simple
        Framework for Contrastive Learning of Visual Representations", ICML 2020, halved as for small images.
        Deviations: torchvision's functions take one factor a call and its class the global generator, so the blends
        are written for a factor an image; the order is fixed; hue turns about the grey axis, which needs no other
        colour space and agrees at thirds of a turn.
    """

    title = "Colour jitter"
    source = "Chen et al., A Simple Framework for Contrastive Learning (SimCLR), ICML 2020"
    brightness: Annotated[float, Meta(ge=0, le=1)] = 0.4
    contrast: Annotated[float, Meta(ge=0, le=1)] = 0.4
    saturation: Annotated[float, Meta(ge=0, le=1)] = 0.4
    hue: Annotated[float, Meta(ge=0, le=0.5)] = 0.1

    def augment(self, images: Tensor, labels: Mapping[str, Tensor], rng: torch.Generator) -> Mixture:
        """The recoloured batch under its own labels."""
        drawn = (2 * torch.rand(4, len(images), generator=rng) - 1).to(images.device)
        changed = brighten(images, 1 + self.brightness * drawn[0])
        changed = change_contrast(changed, 1 + self.contrast * drawn[1])
        changed = saturate(changed, 1 + self.saturation * drawn[2])
        return Mixture(turn_hue(changed, self.hue * drawn[3]), labels)


def brighten(images: Tensor, factor: Tensor) -> Tensor:
    """Images ``(B, 3, H, W)`` in [0, 1], each times its factor ``(B,)``, clipped."""
    return (images * factor.view(-1, 1, 1, 1)).clamp_(0, 1)


def change_contrast(images: Tensor, factor: Tensor) -> Tensor:
    """Each image blended with (or away from) its mean luma: 0 is flat, 1 the image; clipped."""
    mean = rgb_to_grayscale(images, num_output_channels=1).mean(dim=(1, 2, 3), keepdim=True)
    return torch.lerp(mean, images, factor.view(-1, 1, 1, 1)).clamp_(0, 1)


def saturate(images: Tensor, factor: Tensor) -> Tensor:
    """Each image blended with (or away from) its luma: 0 is grey, 1 the image; clipped."""
    luma = rgb_to_grayscale(images, num_output_channels=1)
    return torch.lerp(luma, images, factor.view(-1, 1, 1, 1)).clamp_(0, 1)


def turn_hue(images: Tensor, turns: Tensor) -> Tensor:
    """Colours of each image turned about the grey axis of the RGB cube; a third of a turn makes red green; clipped."""
    angle = 2 * math.pi * turns.view(-1, 1, 1, 1)
    own = (1 + 2 * angle.cos()) / 3
    back = (1 - angle.cos()) / 3 + angle.sin() / math.sqrt(3)
    ahead = (1 - angle.cos()) / 3 - angle.sin() / math.sqrt(3)
    # Rodrigues' rotation about (1, 1, 1): each channel from itself, the one before it and the one after it.
    return (own * images + back * images.roll(1, dims=1) + ahead * images.roll(-1, dims=1)).clamp_(0, 1)
