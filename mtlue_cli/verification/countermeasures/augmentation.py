"""Random changes of each batch of training."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
from msgspec import Meta
from torch import Tensor, nn
from torchvision.transforms.v2.functional import gaussian_blur, rgb_to_grayscale

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


@dataclass(frozen=True)
class Cutout(Augmentation):
    """Paints a square of every image in one grey; its centre is uniform over the image, so it may hang over the border.

    Attributes:
        side: Of the square, as a share of the image's side, (0, 1].
        grey: Its value in [0, 1].

    Source:
        DeVries and Taylor, arXiv 1708.04552: half of the side on CIFAR-10. They fill with zero after the mean was
        subtracted; mid-grey is what our networks map to zero.
    """

    title = "Cutout"
    source = "DeVries and Taylor, Improved Regularization with Cutout, 2017"
    side: Annotated[float, Meta(gt=0, le=1)] = 0.5
    grey: Annotated[float, Meta(ge=0, le=1)] = 0.5

    def augment(self, images: Tensor, labels: Mapping[str, Tensor], rng: torch.Generator) -> Mixture:
        """The batch with its holes under its own labels."""
        middles = [torch.randint(size, (len(images),), generator=rng) for size in images.shape[-2:]]
        return Mixture(self.cut(images, *middles), labels)

    def cut(self, images: Tensor, middle_row: Tensor, middle_column: Tensor) -> Tensor:
        """The images ``(B, 3, H, W)`` with holes around the given pixels, ``(B,)`` int64 each."""
        rows, columns = (
            _span(middle, size, round(size * self.side))
            for middle, size in zip((middle_row, middle_column), images.shape[-2:], strict=True)
        )
        hole = (rows.unsqueeze(2) & columns.unsqueeze(1)).unsqueeze(1)
        return images.masked_fill(hole.to(images.device), self.grey)


def _span(middle: Tensor, size: int, length: int) -> Tensor:
    """``(B, size)`` bool: the ``length`` positions around each middle, as far as they exist."""
    first = (middle - length // 2).unsqueeze(1)
    position = torch.arange(size)
    return (position >= first) & (position < first + length)


@dataclass(frozen=True)
class Mixing(Augmentation):
    """How much of a partner is mixed in.

    Attributes:
        alpha: Of the Beta distribution that the share of the image itself is drawn from, once a batch.
    """

    blends_labels = True
    alpha: Annotated[float, Meta(gt=0)] = 1.0

    def draw_share(self, rng: torch.Generator) -> float:
        """A number in [0, 1] from the symmetric Beta distribution: towards the ends for a small alpha, uniform at 1."""
        # PyTorch draws from a Beta distribution by its global generator only.
        seed = int(torch.randint(2**62, (), generator=rng))
        return float(np.random.default_rng(seed).beta(self.alpha, self.alpha))


def draw_partners(
    images: Tensor, labels: Mapping[str, Tensor], rng: torch.Generator
) -> tuple[Tensor, dict[str, Tensor]]:
    """The batch in a random order, with its labels: each row's partner, which may be itself."""
    order = torch.randperm(len(images), generator=rng).to(images.device)
    return images[order], {name: column[order] for name, column in labels.items()}


@dataclass(frozen=True)
class MixUp(Mixing):
    """Blends every image with a partner of its batch; the losses under both sets of labels are blended alike.

    Source:
        Zhang et al., "mixup: Beyond Empirical Risk Minimization", ICLR 2018 (one share per batch, alpha 1 on CIFAR-10).
        Where one of the two is unlabelled, the loss of that set leaves it out.
    """

    title = "MixUp"
    source = "Zhang et al., mixup: Beyond Empirical Risk Minimization, ICLR 2018"

    def augment(self, images: Tensor, labels: Mapping[str, Tensor], rng: torch.Generator) -> Mixture:
        """The blended batch under its own and its partners' labels."""
        share = self.draw_share(rng)
        partners, other = draw_partners(images, labels, rng)
        return Mixture(torch.lerp(partners, images, share), labels, other, share)


@dataclass(frozen=True)
class CutMix(Mixing):
    """Pastes the same window of a partner over every image; the losses under both sets of labels count by area.

    Source:
        Yun et al., "CutMix", ICCV 2019, algorithm 1: a window with the image's proportions around a uniform centre,
        cut off at the border, and the share taken from the area that is left. Every batch is mixed, as on ImageNet.
        Where one of the two is unlabelled, the loss of that set leaves it out. Label maps are pasted like images, as
        French et al., "Semi-supervised semantic segmentation needs strong, varied perturbations", BMVC 2020.
    """

    title = "CutMix"
    source = "Yun et al., CutMix, ICCV 2019"

    def augment(self, images: Tensor, labels: Mapping[str, Tensor], rng: torch.Generator) -> Mixture:
        """The pasted batch under its own and its partners' labels."""
        height, width = images.shape[-2:]
        side = (1 - self.draw_share(rng)) ** 0.5
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


@dataclass(frozen=True)
class RandomInterpolation(Augmentation):
    """Reads every pixel at a random distance from where it is, between its neighbours; fresh in every batch.

    Breaks patterns that a network reads from the differences of neighbouring pixels, such as those of a convolution.
    All channels of a pixel move together.

    Attributes:
        reach: Largest distance in pixels along each axis; uniform from ``-reach`` to ``reach``.

    Source:
        Li et al., "Detecting and Corrupting Convolution-based Unlearnable Examples", AAAI 2025 (COIN, arXiv
        2311.18403): 2 pixels, bilinear. Deviation: what lies beyond the border is mirrored, not taken from the
        opposite side.
    """

    title = "Random interpolation (COIN), {reach:g} px"
    source = "Li et al., Detecting and Corrupting Convolution-based Unlearnable Examples, AAAI 2025"
    reach: Annotated[float, Meta(gt=0)] = 2.0

    def augment(self, images: Tensor, labels: Mapping[str, Tensor], rng: torch.Generator) -> Mixture:
        """The interpolated batch under its own labels; label maps stay."""
        count, _, height, width = images.shape
        local = torch.Generator(images.device).manual_seed(int(torch.randint(2**62, (), generator=rng)))
        offsets = 2 * torch.rand((count, height, width, 2), generator=local, device=images.device) - 1
        # grid_sample counts from -1 to 1 across the image: a pixel is 2 / side wide.
        across, down = ((2 * torch.arange(side, device=images.device) + 1) / side - 1 for side in (width, height))
        grid = torch.stack(torch.meshgrid(across, down, indexing="xy"), dim=-1)
        grid = grid + offsets * (2 * self.reach / torch.tensor([width, height], device=images.device))
        read = nn.functional.grid_sample(images, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
        return Mixture(read.clamp_(0, 1), labels)


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
