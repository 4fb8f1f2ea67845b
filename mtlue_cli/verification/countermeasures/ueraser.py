"""UEraser: strong random augmentation, and of several tries the one that the network finds hardest."""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated

import torch
from msgspec import Meta
from torch import Tensor, nn
from torchvision.transforms.v2 import functional

from mtlue_cli.tasks.losses import sample_losses
from mtlue_cli.tasks.spec import TaskSet
from mtlue_cli.training.intervention import Intervention, Mixture
from mtlue_cli.verification.countermeasures.base import AttackerView, Countermeasure, steady

Operation = Callable[[Tensor, Tensor], Tensor]
"""``(B, 3, H, W)`` float images in [0, 1] and ``(B,)`` strengths in [-1, 1] to images alike."""

LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in the grey of ITU-R BT.601."""


@dataclass(frozen=True)
class UEraser(Countermeasure):
    """Augments every batch beyond the range of the perturbation and learns the versions of the highest loss.

    Attributes:
        candidates: Augmented versions of each image, of which the hardest is learned; 1 is the "lite" variant, which
            learns whatever was drawn.
        brightness: Chance that an image gets plasma brightness.
        contrast: Chance that it gets plasma contrast.
        shuffle: Chance that its colour channels are shuffled.
        roughness: Range of the amplitude of each scale of the plasma against the next coarser one.
        intensity: Range of the largest change of brightness, 1 being the whole scale.

    Source:
        Qin et al., "Learning the Unlearnable: Adversarial Augmentations Suppress Unlearnable Example Attacks", 2023
        (arXiv 2303.15127): plasma brightness and contrast, channel shuffle, TrivialAugment, then the maximum over K
        tries for each sample ("UEraser-max", here through the whole training; "UEraser-lite" is K = 1). Strengths are
        those of the authors' code. Deviations: a sample's loss is the mean over the tasks that it is labelled for;
        the tries are compared without gradients and only the hardest is learned from, so that batch norm sees the
        hardest versions alone, where the authors pass all K through the network; the plasma is a sum of scales, not
        midpoint displacement, and differs for each colour.
    """

    title = "UEraser"
    source = "Qin et al., Learning the Unlearnable, 2023, arXiv 2303.15127"
    moves_content = True
    candidates: Annotated[int, Meta(ge=1)] = 5
    brightness: Annotated[float, Meta(ge=0, le=1)] = 0.5
    contrast: Annotated[float, Meta(ge=0, le=1)] = 0.5
    shuffle: Annotated[float, Meta(ge=0, le=1)] = 0.5
    roughness: tuple[float, float] = (0.3, 0.7)
    intensity: tuple[float, float] = (0.5, 1.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, (low, high) in (("roughness", self.roughness), ("intensity", self.intensity)):
            if not 0 <= low <= high <= 1:
                raise ValueError(f"a {name} within [0, 1], the lower end first, is expected, not {low:g} to {high:g}")

    @property
    def cost(self) -> float:
        """As many passes forward and augmentations before each step."""
        return 1 + self.candidates / 2

    def during_training(self, view: AttackerView) -> Intervention:
        """Augmentation of each batch."""

        def erase(network: nn.Module, images: Tensor, labels: Mapping[str, Tensor], rng: torch.Generator) -> Mixture:
            versions = (self.augment(images, rng) for _ in range(self.candidates))
            if self.candidates == 1:
                return Mixture(next(versions), labels)
            return Mixture(hardest(network, versions, labels, view.tasks), labels)

        return erase

    def augment(self, images: Tensor, rng: torch.Generator) -> Tensor:
        """Plasma brightness, plasma contrast and channel shuffle by their chances, then one TrivialAugment operation.

        Images are square, ``(B, 3, H, W)`` float in [0, 1]; ``rng`` is on the CPU.
        """
        count, channels, size, _ = images.shape
        augmented = images.clone()

        def chosen(chance: float) -> Tensor:
            return (torch.rand(count, generator=rng) < chance).nonzero().flatten()

        def within(bounds: tuple[float, float], rows: Tensor) -> Tensor:
            return (bounds[0] + (bounds[1] - bounds[0]) * torch.rand(len(rows), generator=rng)).to(images)

        if len(rows := chosen(self.brightness)):
            fields = plasma_fields(len(rows), channels, size, within(self.roughness, rows), rng)
            augmented[rows] = plasma_brightness(augmented[rows], fields, within(self.intensity, rows))
        if len(rows := chosen(self.contrast)):
            fields = plasma_fields(len(rows), channels, size, within(self.roughness, rows), rng)
            augmented[rows] = plasma_contrast(augmented[rows], fields)
        rows = chosen(self.shuffle)
        order = torch.rand(len(rows), channels, generator=rng).argsort(dim=1)
        augmented[rows] = augmented[rows.unsqueeze(1), order]
        return augment_trivially(augmented, rng)


def hardest(network: nn.Module, versions: Iterator[Tensor], labels: Mapping[str, Tensor], tasks: TaskSet) -> Tensor:
    """Of versions ``(B, 3, H, W)`` of a batch, for each sample the one of the highest loss; the first of equals.

    The network is left as it was.
    """
    with torch.no_grad(), steady(network):
        images = next(versions)
        highest = sample_losses(network(images), labels, tasks)
        for other in versions:
            losses = sample_losses(network(other), labels, tasks)
            harder = losses > highest
            images = torch.where(harder.view(-1, 1, 1, 1), other, images)
            highest = torch.where(harder, losses, highest)
    return images


def plasma_fields(count: int, channels: int, size: int, roughness: Tensor, rng: torch.Generator) -> Tensor:
    """Random fields ``(count, channels, size, size)``, each of whose channels spans [0, 1].

    Uniform noise on grids of 1, 2, 4, ... cells per side is scaled up bilinearly and summed; its amplitude falls by
    ``roughness``, ``(count,)`` float in [0, 1], from each scale to the next finer one. Unlike in midpoint displacement,
    the usual way, the scales are independent of each other.

    Source:
        Fournier, Fussell and Carpenter, "Computer rendering of stochastic models", CACM 1982, for the fractal.
    """
    fields = roughness.new_zeros(count, channels, size, size)
    amplitude = roughness.new_ones(count, 1, 1, 1)
    for octave in range(math.ceil(math.log2(max(size - 1, 2))) + 1):
        noise = torch.rand(count, channels, 2**octave + 1, 2**octave + 1, generator=rng)
        smooth = nn.functional.interpolate(noise.to(fields), size=(size, size), mode="bilinear", align_corners=True)
        fields += amplitude * smooth
        amplitude = amplitude * roughness.view(-1, 1, 1, 1)
    lowest, highest = fields.amin((2, 3), keepdim=True), fields.amax((2, 3), keepdim=True)
    return (fields - lowest) / (highest - lowest).clamp_min(1e-6)


def plasma_brightness(images: Tensor, fields: Tensor, intensity: Tensor) -> Tensor:
    """Lighten and darken ``(B, 3, H, W)`` images by up to ``(B,)`` intensities; a field of 0.5 changes nothing."""
    return (images + (2.0 * fields - 1.0) * intensity.view(-1, 1, 1, 1)).clamp(0.0, 1.0)


def plasma_contrast(images: Tensor, fields: Tensor) -> Tensor:
    """Scale the distance from mid-grey by 0 to 4 as the fields in [0, 1] say; 0.25 changes nothing."""
    return ((images - 0.5) * 4.0 * fields + 0.5).clamp(0.0, 1.0)


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
