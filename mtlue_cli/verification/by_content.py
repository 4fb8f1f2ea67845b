"""Drawing by content: what a thing holds decides, so that file order and the size of the set draw nothing."""

import hashlib

import torch
from torch import Tensor


def draw(purpose: str, seed: int, content: bytes) -> bytes:
    """What is drawn for ``content``: 32 bytes that look random.

    Args:
        purpose: Draws for different purposes are independent of each other.
        seed: Another seed draws anew.
        content: Of a file or an image, or a name.
    """
    return hashlib.sha256(f"mtlue {purpose} {seed} ".encode() + content).digest()


def draw_share(images: Tensor, fraction: float, seed: int, purpose: str) -> Tensor:
    """Draw an exact share of the images; a larger share holds every smaller one.

    Args:
        images: ``(N, ...)`` uint8 on the CPU.
        fraction: The share, in [0, 1].
        seed: Another seed draws other images.
        purpose: As for :func:`draw`.

    Returns:
        ``(N,)`` bool, True for ``round(fraction * N)`` images.

    Raises:
        ValueError: ``fraction`` lies outside [0, 1].
    """
    if not 0 <= fraction <= 1:
        raise ValueError(f"the fraction is {fraction:g}, expected a share in [0, 1]")
    drawn = [draw(purpose, seed, image.numpy().tobytes()) for image in images]
    order = sorted(range(len(images)), key=lambda row: drawn[row])
    share = torch.zeros(len(images), dtype=torch.bool)
    share[order[: round(fraction * len(images))]] = True
    return share
