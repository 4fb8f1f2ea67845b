"""How visible a change is: SSIM between an original and its protected copy."""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torchmetrics.functional.image import structural_similarity_index_measure

SSIM_WINDOW = 11
"""Side of the Gaussian window in pixels; smaller images have no SSIM."""


def ssim(original: npt.NDArray[Any], saved: npt.NDArray[Any]) -> float | None:
    """Structural similarity, 1 for equal images; None for an image smaller than the window.

    Args:
        original: ``(H, W)`` or ``(H, W, 3)``, uint8 or uint16, or floating point in [0, 1].
        saved: The same shape and type.
    """
    if min(original.shape[:2]) < SSIM_WINDOW:
        return None
    value = structural_similarity_index_measure(
        _as_batch(saved), _as_batch(original), kernel_size=SSIM_WINDOW, data_range=1.0
    )
    assert isinstance(value, Tensor)  # a pair only where the full image is asked for
    return float(value)


def _as_batch(pixels: npt.NDArray[Any]) -> Tensor:
    """``(1, C, H, W)`` float32 in [0, 1]."""
    limit = np.iinfo(pixels.dtype).max if pixels.dtype.kind == "u" else 1
    scaled = torch.from_numpy(pixels.astype(np.float32) / np.float32(limit))
    return (scaled[..., None] if scaled.ndim == 2 else scaled).permute(2, 0, 1)[None]
