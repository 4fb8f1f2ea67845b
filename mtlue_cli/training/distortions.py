"""Differentiable distortions that an attacker may apply to a release: compression, lost colour, blur, jitter.

Forward values are exactly or nearly those of the real operation. Rounding passes on an approximate gradient
(:func:`rounded_through`). Every function takes ``(B, 3, H, W)`` float in [0, 1] and gives the same shape and range.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Annotated

import torch
from msgspec import Meta
from torch import Tensor, nn

from mtlue_cli.training.augment import View, apply_view, draw_zoom
from mtlue_cli.training.named_settings import Choice, check_ranges, choose

_BLOCK = 8
_LUMINANCE = (
    *(16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55, 14, 13, 16, 24, 40, 57, 69, 56),
    *(14, 17, 22, 29, 51, 87, 80, 62, 18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92),
    *(49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99),
)
_CHROMINANCE = (
    *(17, 18, 24, 47, 99, 99, 99, 99, 18, 21, 26, 66, 99, 99, 99, 99, 24, 26, 56, 99, 99, 99, 99, 99),
    *(47, 66, 99, 99, 99, 99, 99, 99, *(99,) * 32),
)
_TO_YCBCR = ((0.299, 0.587, 0.114), (-0.168736, -0.331264, 0.5), (0.5, -0.418688, -0.081312))


Chance = Annotated[float, Meta(ge=0, le=1)]
Side = Annotated[float, Meta(gt=0, le=1)]


@dataclass(frozen=True)
class DistortionSettings:
    """How often a batch is distorted, and how strongly; each kind is drawn on its own.

    Attributes:
        smallest_view: Least side of the random window, as a share of the image's; it is resized to the view.
        zoom, smallest_zoom: Chance that the least side is ``smallest_zoom`` in place of ``smallest_view``.
        jpeg, quality: Chance of JPEG compression, and the range of its quality.
        grey, shrink: Chances that colour is lost, and that an image is resized to half its side and back.
        blur, sigma: Chance of a Gaussian blur, and the range of its standard deviation in pixels.
        jitter, jitter_strength: Chance of other brightness, contrast, saturation; largest distance of factors from 1.
        bits, depth: Chance that values keep fewer bits, and the range of how many.

    Raises:
        ValueError: A setting is out of range.
    """

    smallest_view: Side = 0.8
    zoom: Chance = 0.0
    smallest_zoom: Side = 0.5
    jpeg: Chance = 0.0
    quality: tuple[int, int] = (10, 90)
    grey: Chance = 0.0
    blur: Chance = 0.0
    sigma: tuple[float, float] = (0.4, 1.2)
    jitter: Chance = 0.0
    jitter_strength: Chance = 0.4
    shrink: Chance = 0.0
    bits: Chance = 0.0
    depth: tuple[int, int] = (4, 4)

    def __post_init__(self) -> None:
        check_ranges(self)
        for name, least, most in (("quality", 1, 95), ("sigma", 0.01, 10), ("depth", 1, 8)):
            low, high = getattr(self, name)
            if not least <= low <= high <= most:
                raise ValueError(f"{name} is {low}..{high}, expected a range within {least}..{most}")

    @property
    def photometric(self) -> bool:
        """Whether anything but crops can happen."""
        return any((self.jpeg, self.grey, self.blur, self.jitter, self.shrink, self.bits))


PLAIN = DistortionSettings()
"""Crops and flips only."""

ATTACKS = DistortionSettings(
    smallest_view=0.5, zoom=0.1, jpeg=0.25, grey=0.2, blur=0.08, jitter=0.08, shrink=0.08, bits=0.08, depth=(2, 4)
)
"""The distortions of attackers: the probabilities that were measured to protect best with larger windows
(docs/research/luminance.md), and the windows that were best with them (docs/research/stronger-training.md)."""

WIDE_ATTACKS = replace(ATTACKS, smallest_view=PLAIN.smallest_view)
"""The same with larger windows, for recipes for which smaller ones were not measured."""

_NAMED = (Choice(name="attacks", settings=ATTACKS), Choice(name="plain", settings=PLAIN))


def distortions_named(text: str) -> DistortionSettings:
    """Read ``attacks`` or ``plain``, with settings if any: ``attacks:grey=0.3,quality=5..50``.

    Raises:
        InputError: No such name or setting, or a value out of range.
    """
    return choose("--distortions", text, _NAMED).settings


def draw_window(image_size: int, batch: int, settings: DistortionSettings, rng: torch.Generator) -> View:
    """A random window of a batch, smaller with the chance of a zoom; half of the images are flipped."""
    zooms = settings.zoom and float(torch.rand((), generator=rng)) < settings.zoom
    return draw_zoom(image_size, settings.smallest_zoom if zooms else settings.smallest_view, batch, rng)


@dataclass(frozen=True)
class Distortion:
    """What was drawn for one batch.

    Attributes:
        happens: Whether images are shrunk, compressed, turned grey, blurred, jittered, quantised.
        strength, sigma, depth: Where each lies in its range, from 0 to 1.
        factors: ``(3, B, 1, 1, 1)``, of the jitter.
    """

    happens: Sequence[bool]
    strength: float
    sigma: float
    depth: float
    factors: Tensor

    def of(self, part: slice) -> "Distortion":
        """The same for a part of the batch."""
        return replace(self, factors=self.factors[:, part])


def draw_distortion(batch: int, settings: DistortionSettings, rng: torch.Generator) -> Distortion:
    """Draw what happens to ``batch`` images; ``rng``, on the CPU, draws as many numbers whatever happens."""
    chances = (settings.shrink, settings.jpeg, settings.grey, settings.blur, settings.jitter, settings.bits)
    happens = (torch.rand(len(chances), generator=rng) < torch.tensor(chances)).tolist()
    strength, sigma, depth = torch.rand(3, generator=rng).tolist()
    factors = 1 + settings.jitter_strength * (2 * torch.rand(3, batch, 1, 1, 1, generator=rng) - 1)
    return Distortion(happens, strength, sigma, depth, factors)


def distort(
    images: Tensor, view: View | None, out_size: int, settings: DistortionSettings, drawn: Distortion
) -> Tensor:
    """A window of each image under the distortions that were drawn.

    Args:
        images: ``(B, 3, S, S)``.
        view: The window (:func:`draw_window`); None: the images are windows already.
        out_size: Side of the result in pixels.
        settings: Ranges of strengths.
        drawn: What happens (:func:`draw_distortion`).
    """
    shrinks, compresses, greys, blurs, jitters, quantises = drawn.happens
    # Storage first, then what the victim does.
    if shrinks:
        images = shrunk(images)
    if compresses:
        low, high = settings.quality
        images = jpeg_like(images, low + (high - low) * drawn.strength)
    if view is not None:
        images = apply_view(images, view, out_size)
    if greys:
        images = grey(images)
    if blurs:
        low_sigma, high_sigma = settings.sigma
        images = blurred(images, low_sigma + (high_sigma - low_sigma) * drawn.sigma)
    if jitters:
        images = jittered(images, *drawn.factors.to(images))
    if quantises:
        fewest, most = settings.depth
        images = bit_depth(images, fewest + min(int(drawn.depth * (most - fewest + 1)), most - fewest))
    return images


def rounded_through(values: Tensor) -> Tensor:
    """Rounded to the nearest whole number, with a gradient: small near whole numbers, up to 3/4 between them.

    Source:
        The cubic of Shin and Song, "JPEG-resistant Adversarial Images", 2017, whose slope this passes on; the forward
        value is exact. A slope of 1 would hide that small values round to zero.
    """
    whole = values.detach().round()
    soft = whole + (values - whole) ** 3
    return soft + (whole - soft).detach()


def jpeg_like(images: Tensor, quality: float) -> Tensor:
    """JPEG with halved chroma at a quality from 1 to 95: transform, quantise, transform back; no entropy coding.

    Source:
        ITU-T T.81, annex K, for tables and scaling as libjpeg applies them.
    """
    height, width = images.shape[-2:]
    right, below = -width % (2 * _BLOCK), -height % (2 * _BLOCK)
    padded = nn.functional.pad(images.float() * 255, (0, right, 0, below), mode="replicate")
    matrix = torch.tensor(_TO_YCBCR, device=images.device)
    colours = torch.einsum("ij,bjhw->bihw", matrix, padded)
    scale = 5000 / quality if quality < 50 else 200 - 2 * quality
    luminance = _quantised(colours[:, :1] - 128, _table(_LUMINANCE, scale)) + 128
    chroma = _quantised(nn.functional.avg_pool2d(colours[:, 1:], 2), _table(_CHROMINANCE, scale))
    chroma = nn.functional.interpolate(chroma, scale_factor=2.0, mode="bilinear", align_corners=False)
    back = torch.linalg.inv(matrix)
    decoded = torch.einsum("ij,bjhw->bihw", back, torch.cat([luminance, chroma], dim=1))
    return _clamped(decoded[..., :height, :width] / 255).to(images.dtype)


def grey(images: Tensor) -> Tensor:
    """Luminance in all three channels."""
    weights = images.new_tensor(_TO_YCBCR[0]).view(1, 3, 1, 1)
    return (images * weights).sum(dim=1, keepdim=True).expand(-1, 3, -1, -1)


def blurred(images: Tensor, sigma: float) -> Tensor:
    """Gaussian blur of standard deviation ``sigma`` in pixels."""
    reach = max(1, math.ceil(3 * sigma))
    steps = torch.arange(-reach, reach + 1, device=images.device, dtype=images.dtype)
    kernel = torch.exp(-0.5 * (steps / sigma).square())
    kernel = (kernel / kernel.sum()).expand(3, 1, 1, -1)
    padded = nn.functional.pad(images, (reach, reach, reach, reach), mode="replicate")
    across = nn.functional.conv2d(padded, kernel, groups=3)
    return nn.functional.conv2d(across, kernel.transpose(2, 3), groups=3)


def jittered(images: Tensor, brightness: Tensor, contrast: Tensor, saturation: Tensor) -> Tensor:
    """Other brightness, contrast and saturation, by factors ``(B, 1, 1, 1)`` each."""
    images = images * brightness
    mean = grey(images).mean(dim=(1, 2, 3), keepdim=True)
    images = mean + (images - mean) * contrast
    without = grey(images)
    return _clamped(without + (images - without) * saturation)


def shrunk(images: Tensor) -> Tensor:
    """Resized to half the side and back, as a thumbnail would be."""
    height, width = images.shape[-2:]
    small = nn.functional.interpolate(
        images, size=(height // 2, width // 2), mode="bilinear", align_corners=False, antialias=True
    )
    return nn.functional.interpolate(small, size=(height, width), mode="bilinear", align_corners=False)


def bit_depth(images: Tensor, bits: int) -> Tensor:
    """Values rounded to so many bits; the gradient passes as if they were not."""
    levels: int = 2**bits - 1
    rounded = (images.detach() * levels).round() / levels
    return images + (rounded - images.detach())


def _clamped(images: Tensor) -> Tensor:
    return images + (images.detach().clamp(0, 1) - images.detach())


def _quantised(planes: Tensor, table: Tensor) -> Tensor:
    """Cosine transform of 8x8 blocks, rounded to multiples of ``table``, and back."""
    batch, channels, height, width = planes.shape
    basis = _cosines().to(planes.device)
    blocks = planes.view(batch, channels, height // _BLOCK, _BLOCK, width // _BLOCK, _BLOCK).transpose(3, 4)
    table = table.to(planes.device)
    coefficients = rounded_through(basis @ blocks @ basis.T / table) * table
    return (basis.T @ coefficients @ basis).transpose(3, 4).reshape(batch, channels, height, width)


def _table(base: tuple[int, ...], scale: float) -> Tensor:
    return ((torch.tensor(base) * scale + 50) / 100).floor().clamp(1, 255).view(_BLOCK, _BLOCK)


@cache
def _cosines() -> Tensor:
    """Rows are the eight cosines of the orthonormal transform."""
    positions = torch.arange(_BLOCK, dtype=torch.float64)
    basis = torch.cos(math.pi * (2 * positions + 1) * positions[:, None] / (2 * _BLOCK)) * math.sqrt(2 / _BLOCK)
    basis[0] /= math.sqrt(2)
    return basis.float()
