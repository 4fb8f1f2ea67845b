"""Low pass: coarse structure only, cut in the Fourier domain."""

from dataclasses import dataclass
from typing import Annotated

import torch
from msgspec import Meta
from torch import Tensor

from mtlue_cli.verification.countermeasures.base import Preprocessing, rounded


@dataclass(frozen=True)
class LowPass(Preprocessing):
    """Damps every spatial frequency by its distance from zero, alike in all directions; the mean colour is kept.

    Attributes:
        cutoff: Share of the Nyquist frequency, (0, 1]. At 0.25 a 64-pixel image keeps eight periods per side.
        order: Of the Butterworth gain ``1 / (1 + (f / cutoff) ** (2 * order))``: the higher, the steeper.
            None: ideal, nothing above ``cutoff`` and all up to it, at the price of ringing at edges.

    Source:
        Gains as in Gonzalez and Woods, "Digital Image Processing", chapter 4; against unlearnable examples Kim and
        Sandoval-Segura, arXiv 2411.01742 (frequency filtering). Deviation from the latter: a fixed radial gain of
        Fourier, not of cosine coefficients. The transform sees the image as periodic, so opposite borders blend a
        little.
    """

    title = "Low pass, {cutoff:g} of the band"
    source = "Kim and Sandoval-Segura, Learning from Convolution-based Unlearnable Datasets, 2024"
    cutoff: Annotated[float, Meta(gt=0, le=1)] = 0.25
    order: Annotated[int, Meta(ge=1)] | None = 2

    def __call__(self, images: Tensor) -> Tensor:
        """``(B, 3, H, W)`` uint8, filtered and rounded."""
        height, width = images.shape[-2:]
        down = torch.fft.fftfreq(height, device=images.device).unsqueeze(1)
        across = torch.fft.rfftfreq(width, device=images.device)
        share = torch.hypot(down, across) / (0.5 * self.cutoff)
        gain = (share <= 1).to(torch.float32) if self.order is None else 1 / (1 + share ** (2 * self.order))
        return rounded(torch.fft.irfft2(torch.fft.rfft2(images.to(torch.float32)) * gain, s=(height, width)))
