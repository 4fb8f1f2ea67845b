"""Images drawn by formula, with the statistics of photos and nobody's rights in them: to train universal weights on.

Three kinds of matter, mixed at random in every image: *noise* whose spectrum falls as a power of the frequency, as that
of photos does; *stripes*, bent by noise; and *leaves*, shapes that cover each other with sizes as in scenes. Leaves are
filled with colour, a gradient, noise and stripes in different parts.

Source:
    Dead leaves: Lee, Mumford and Huang, IJCV 41, 2001. Training on such images: Baradad et al., "Learning to See by
    Looking at Noise", NeurIPS 2021. The mixture here is the authors' own.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

CHUNK = 64
"""Images that are drawn together; each chunk has a random stream of its own."""


@dataclass(frozen=True)
class ProceduralSettings:
    """What images are mixed from; ranges are drawn from uniformly for each image.

    Attributes:
        leaves: Shapes an image.
        smallest_leaf, largest_leaf: Radii as shares of the side, between which their density falls as ``1 / r ** 3``.
        slope: Range of the exponent by which the amplitude of noise falls with the frequency.
        colour: Standard deviation of how far the colours of an image are from grey, 1 being the whole scale.
        contrast: Range of the standard deviation of an image's values, 1 being the whole scale.
        grey_share: Share of images without colour.
    """

    leaves: int = 40
    smallest_leaf: float = 0.05
    largest_leaf: float = 0.5
    slope: tuple[float, float] = (0.6, 1.8)
    colour: float = 0.12
    contrast: tuple[float, float] = (0.08, 0.3)
    grey_share: float = 0.05


def draw_procedural(count: int, size: int, seed: int, settings: ProceduralSettings | None = None) -> Tensor:
    """Draw images; the same arguments give the same ones, and a larger ``count`` more of them.

    Args:
        count: Number of images.
        size: Side in pixels.
        seed: Any whole number from 0.
        settings: What they are mixed from.

    Returns:
        ``(count, 3, size, size)`` uint8.
    """
    settings = settings or ProceduralSettings()
    drawn = torch.empty(count, 3, size, size, dtype=torch.uint8)
    for start in range(0, count, CHUNK):
        rng = torch.Generator().manual_seed(seed * 1_000_003 + start // CHUNK)
        drawn[start : start + CHUNK] = _draw_chunk(size, rng, settings)[: count - start]
    return drawn


def _draw_chunk(size: int, rng: torch.Generator, settings: ProceduralSettings) -> Tensor:
    noise = _noise(size, rng, settings)
    stripes = _stripes(size, noise, rng)
    index = _leaf_map(size, rng, settings)
    matter = _filled(index, noise, stripes, rng, settings)
    # An image may be all leaves, all noise, or anything between.
    share = _uniform(rng, (CHUNK, 1, 1, 1), -0.3, 1.3).clamp(0, 1)
    image = share * matter + (1 - share) * (0.5 + 0.2 * noise + settings.colour * _normal(rng, (CHUNK, 3, 1, 1)))
    softness = _uniform(rng, (CHUNK, 1, 1, 1), -0.3, 1.0).clamp(0, 1)
    image = torch.lerp(
        image, nn.functional.avg_pool2d(image, 3, stride=1, padding=1, count_include_pad=False), softness
    )
    mean = image.mean(dim=(1, 2, 3), keepdim=True)
    deviation = image.std(dim=(1, 2, 3), keepdim=True).clamp_min(1e-3)
    wanted = _uniform(rng, (CHUNK, 1, 1, 1), *settings.contrast)
    image = (image - mean) * (wanted / deviation) + _uniform(rng, (CHUNK, 1, 1, 1), 0.25, 0.75)
    grey = _uniform(rng, (CHUNK, 1, 1, 1), 0.0, 1.0) < settings.grey_share
    image = torch.where(grey, image.mean(dim=1, keepdim=True), image)
    return (image * 255).round().clamp(0, 255).to(torch.uint8)


def _noise(size: int, rng: torch.Generator, settings: ProceduralSettings) -> Tensor:
    """Noise of mean zero and unit variance with falling spectra, colours mostly in step, ``(CHUNK, 3, size, size)``."""
    rows, columns = torch.fft.fftfreq(size), torch.fft.rfftfreq(size)
    frequency = (rows[:, None].square() + columns.square()).sqrt()
    frequency[0, 0] = math.inf
    slope = _uniform(rng, (CHUNK, 1, 1, 1), *settings.slope)
    spectrum = torch.fft.rfft2(_normal(rng, (CHUNK, 3, size, size))) * frequency.pow(-slope)
    field = torch.fft.irfft2(spectrum, s=(size, size))
    field = field / field.std(dim=(1, 2, 3), keepdim=True)
    together = _uniform(rng, (CHUNK, 1, 1, 1), 0.5, 1.0)
    return torch.lerp(field, field[:, :1], together)


def _stripes(size: int, noise: Tensor, rng: torch.Generator) -> Tensor:
    """Waves of random direction and period, bent by noise, in [-1, 1], ``(CHUNK, 1, size, size)``."""
    across, down = _plane(size, rng)
    period = size * torch.exp(_uniform(rng, (CHUNK, 1, 1), math.log(0.04), math.log(0.5)))
    bend = _uniform(rng, (CHUNK, 1, 1), 0.0, 1.5)
    other = torch.sin(2 * math.pi * down / period) * (_uniform(rng, (CHUNK, 1, 1), 0.0, 1.0) < 0.4)
    wave = torch.sin(2 * math.pi * across / period + bend * noise[:, 0] + other * math.pi)
    sharpness = _uniform(rng, (CHUNK, 1, 1), 1.0, 6.0)
    return torch.tanh(sharpness * wave)[:, None]


def _leaf_map(size: int, rng: torch.Generator, settings: ProceduralSettings) -> Tensor:
    """Which leaf is on top, ``(CHUNK, size, size)`` int64; 0 is the ground beneath."""
    index = torch.zeros(CHUNK, size, size, dtype=torch.uint8 if settings.leaves < 256 else torch.int32)
    low, high = settings.smallest_leaf**-2, settings.largest_leaf**-2
    for leaf in range(1, settings.leaves + 1):
        radius = size * (low + torch.rand(CHUNK, 1, 1, generator=rng) * (high - low)) ** -0.5
        stretch = torch.exp(_uniform(rng, (CHUNK, 1, 1), -0.5, 0.5))
        across, down = _plane(size, rng, 1 / (radius * stretch), stretch / radius)
        if leaf % 5 < 2:  # a box; else an ellipse
            reach = torch.maximum(across.abs_(), down.abs_(), out=across)
        else:
            reach = across.square_().add_(down.square_())
        index.masked_fill_(reach < 1, leaf)
    return index.long()


def _filled(
    index: Tensor, noise: Tensor, stripes: Tensor, rng: torch.Generator, settings: ProceduralSettings
) -> Tensor:
    """Leaves with their colour, gradient, noise and stripes, ``(CHUNK, 3, size, size)``."""
    kinds, size = settings.leaves + 1, index.shape[-1]
    light = _uniform(rng, (CHUNK, kinds, 1), 0.0, 1.0)
    colours = (light + settings.colour * _normal(rng, (CHUNK, kinds, 3))).reshape(-1, 3)
    # Most leaves are plain: few carry much of a texture.
    amounts = _uniform(rng, (CHUNK, kinds, 3), 0.0, 1.0).pow(3).reshape(-1, 3) * torch.tensor([0.6, 0.3, 0.3])
    flat = index.flatten(1) + kinds * torch.arange(CHUNK)[:, None]
    colour = colours[flat].view(CHUNK, size, size, 3).permute(0, 3, 1, 2)
    amount = amounts[flat].view(CHUNK, size, size, 3).permute(0, 3, 1, 2)
    gradient, textured, striped = amount.tensor_split(3, dim=1)
    across, _ = _plane(size, rng)
    filled: Tensor = colour + gradient * across[:, None] / size + textured * 0.5 * noise + striped * stripes
    return filled


def _plane(
    size: int, rng: torch.Generator, width: Tensor | float = 1.0, height: Tensor | float = 1.0
) -> tuple[Tensor, Tensor]:
    """Pixels from a random centre along two random axes, times their factors, ``(CHUNK, size, size)`` each."""
    angle = _uniform(rng, (CHUNK, 1, 1), 0.0, 2 * math.pi)
    centre = size * torch.rand(2, CHUNK, 1, 1, generator=rng)
    steps = torch.arange(size, dtype=torch.float32)
    x, y = steps - centre[0], steps[:, None] - centre[1]
    # A row plus a column: all else is small.
    across = x * (width * angle.cos()) + y * (width * angle.sin())
    return across, y * (height * angle.cos()) - x * (height * angle.sin())


def _uniform(rng: torch.Generator, shape: tuple[int, ...], low: float, high: float) -> Tensor:
    return low + (high - low) * torch.rand(shape, generator=rng)


def _normal(rng: torch.Generator, shape: tuple[int, ...]) -> Tensor:
    return torch.randn(shape, generator=rng)
