"""TrivialAugment: one photometric or geometric operation an image, of random strength."""

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torchvision.transforms.v2 import functional

Operation = Callable[[Tensor, Tensor], Tensor]
"""``(B, 3, H, W)`` float images in [0, 1] and ``(B,)`` strengths in [-1, 1] to images alike."""

LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in the grey of ITU-R BT.601."""


def _auto_contrast(images: Tensor, strength: Tensor) -> Tensor:  # noqa: ARG001 - an Operation
    lowest, highest = images.amin((2, 3), keepdim=True), images.amax((2, 3), keepdim=True)
    spread = highest - lowest
    return torch.where(spread > 0, (images - lowest) / spread.clamp_min(1e-6), images).clamp(0.0, 1.0)


def _equalize(images: Tensor, strength: Tensor) -> Tensor:  # noqa: ARG001 - an Operation
    levels: Tensor = functional.equalize_image((images * 255.0).round().to(torch.uint8))
    return levels.to(images.dtype) / 255.0


def _posterize(images: Tensor, strength: Tensor) -> Tensor:
    """Keep 8 to 4 bits of each colour value."""
    step = _each(2.0 ** (4.0 * strength.abs()).round())
    return ((images * 255.0).round() / step).floor() * step / 255.0


def _solarize(images: Tensor, strength: Tensor) -> Tensor:
    """Invert what is brighter than one less the strength."""
    return torch.where(images > 1.0 - _each(strength.abs()), 1.0 - images, images)


def _sharpness(images: Tensor, strength: Tensor) -> Tensor:
    padded = nn.functional.pad(images, (1, 1, 1, 1), mode="replicate")
    kernel = images.new_tensor([[1.0, 1.0, 1.0], [1.0, 5.0, 1.0], [1.0, 1.0, 1.0]]) / 13.0
    smooth = nn.functional.conv2d(padded, kernel.expand(3, 1, 3, 3), groups=3)
    return _blend(smooth, images, strength)


def _rotate(images: Tensor, strength: Tensor) -> Tensor:
    """By up to 30 degrees."""
    angle = strength * math.radians(30)
    return _warp(images, [[angle.cos(), -angle.sin(), 0.0], [angle.sin(), angle.cos(), 0.0]])


TRIVIAL_OPERATIONS: Mapping[str, Operation] = {
    "identity": lambda images, _: images,
    "auto_contrast": _auto_contrast,
    "equalize": _equalize,
    "posterize": _posterize,
    "solarize": _solarize,
    "brightness": lambda images, strength: _blend(torch.zeros_like(images), images, strength),
    "contrast": lambda images, strength: _blend(_grey(images).mean((1, 2, 3), keepdim=True), images, strength),
    "colour": lambda images, strength: _blend(_grey(images), images, strength),
    "sharpness": _sharpness,
    "rotate": _rotate,
    "shear_x": lambda images, strength: _warp(images, [[1.0, 0.3 * strength, 0.0], [0.0, 1.0, 0.0]]),
    "shear_y": lambda images, strength: _warp(images, [[1.0, 0.0, 0.0], [0.3 * strength, 1.0, 0.0]]),
    # By up to a tenth of a side.
    "translate_x": lambda images, strength: _warp(images, [[1.0, 0.0, 0.2 * strength], [0.0, 1.0, 0.0]]),
    "translate_y": lambda images, strength: _warp(images, [[1.0, 0.0, 0.0], [0.0, 1.0, 0.2 * strength]]),
}
"""What is drawn from, each equally likely."""


def augment_trivially(images: Tensor, rng: torch.Generator) -> Tensor:
    """Apply to every image of ``(B, 3, H, W)`` float in [0, 1] one operation of random strength.

    Source:
        Müller and Hutter, "TrivialAugment: Tuning-free Yet State-of-the-Art Data Augmentation", ICCV 2021; the
        narrow ranges (30 degrees, shear 0.3, a tenth of a side, 4 bits), as the UEraser authors use them. Deviation:
        strengths are continuous in place of 31 steps, and what is moved in from outside repeats the border.
    """
    choice = torch.randint(len(TRIVIAL_OPERATIONS), (len(images),), generator=rng)
    strength = (2.0 * torch.rand(len(images), generator=rng) - 1.0).to(images.device)
    augmented = images.clone()
    for number, operation in enumerate(TRIVIAL_OPERATIONS.values()):
        rows = (choice == number).nonzero().flatten().to(images.device)
        if len(rows):
            augmented[rows] = operation(images[rows], strength[rows]).to(images.dtype)
    return augmented


def _each(values: Tensor) -> Tensor:
    return values.view(-1, 1, 1, 1)


def _grey(images: Tensor) -> Tensor:
    return (images * images.new_tensor(LUMA).view(3, 1, 1)).sum(dim=1, keepdim=True)


def _blend(less: Tensor, images: Tensor, strength: Tensor) -> Tensor:
    """Between ``less`` and beyond ``images``: factor 0.1 to 1.9."""
    return (less + (images - less) * _each(1.0 + 0.9 * strength)).clamp(0.0, 1.0)


def _warp(images: Tensor, matrix: list[list[Tensor | float]]) -> Tensor:
    """Sample at the affine image of each pixel's place, in units of half a side about the centre.

    Entries of the 2x3 matrix are ``(B,)``, or the same for all images.
    """
    theta = images.new_empty(len(images), 2, 3)
    for row, entries in enumerate(matrix):
        for column, entry in enumerate(entries):
            theta[:, row, column] = entry
    grid = nn.functional.affine_grid(theta, list(images.shape), align_corners=False)
    return nn.functional.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)
