"""Plasma: smooth random fields with detail at every scale, as brightness and as contrast of images."""

import math

import torch
from torch import Tensor, nn


def plasma_fields(count: int, channels: int, size: int, roughness: Tensor, rng: torch.Generator) -> Tensor:
    """Random fields whose amplitude falls by ``roughness`` from each scale to the next finer one.

    Uniform noise on grids of 1, 2, 4, ... cells a side is scaled up bilinearly and summed. Midpoint displacement, the
    usual way, draws a field point by point from coarse to fine; here a whole batch takes one sum over the scales, and
    the scales are independent of each other.

    Args:
        count: Number of fields.
        channels: Channels of each, independent of each other.
        size: Side in pixels.
        roughness: ``(count,)`` float in [0, 1], on any device.
        rng: On the CPU.

    Returns:
        ``(count, channels, size, size)`` float where ``roughness`` is; every channel of every field spans [0, 1].

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
    """Lighten and darken by up to ``intensity`` as the fields say.

    Args:
        images: ``(B, 3, H, W)`` float in [0, 1].
        fields: The same shape, in [0, 1]; 0.5 changes nothing.
        intensity: ``(B,)`` float, the largest change.

    Returns:
        ``(B, 3, H, W)`` float in [0, 1].
    """
    return (images + (2.0 * fields - 1.0) * intensity.view(-1, 1, 1, 1)).clamp(0.0, 1.0)


def plasma_contrast(images: Tensor, fields: Tensor) -> Tensor:
    """Scale the distance from mid-grey by 0 to 4 as the fields say; 0.25 changes nothing.

    Args:
        images: ``(B, 3, H, W)`` float in [0, 1].
        fields: The same shape, in [0, 1].

    Returns:
        ``(B, 3, H, W)`` float in [0, 1].
    """
    return ((images - 0.5) * 4.0 * fields + 0.5).clamp(0.0, 1.0)
