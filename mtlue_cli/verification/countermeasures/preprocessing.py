"""Rules for single images, which the images that are judged go through too."""

import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from io import BytesIO
from typing import Annotated

import numpy as np
import numpy.typing as npt
import torch
from msgspec import Meta
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2.functional import InterpolationMode, gaussian_blur, resize, rgb_to_grayscale

from mtlue_cli.verification.countermeasures.base import Preprocessing, rounded


@dataclass(frozen=True)
class JpegRoundTrip(Preprocessing):
    """Writes each image as a JPEG file in memory and reads it back, with the encoder that attackers use.

    Quantisation takes fine detail out and 4:2:0 halves the resolution of colour: perturbations of high frequency do not
    survive it. Pillow leaves the interpreter while it encodes and decodes, so images run on as many threads as there
    are processors.

    Attributes:
        quality: From 1 (smallest file) to 95, in libjpeg's scale.

    Source:
        Liu et al., "Image Shortcut Squeezing", ICML 2023 (quality 10); Das et al., "SHIELD", KDD 2018 (other
        qualities). Chroma is halved, which is what Pillow does at every quality by default.
    """

    title = "JPEG, quality {quality}"
    source = "Liu et al., Image Shortcut Squeezing, ICML 2023"
    family = "jpeg"
    quality: Annotated[int, Meta(ge=1, le=95)] = 10

    def __call__(self, images: Tensor) -> Tensor:
        """``(B, 3, H, W)`` uint8 after the round trip."""
        pixels = images.permute(0, 2, 3, 1).contiguous().cpu().numpy()
        with ThreadPoolExecutor() as pool:
            read = np.stack(list(pool.map(self._round_trip, pixels)))
        return torch.from_numpy(read).permute(0, 3, 1, 2).to(images.device)

    def _round_trip(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        stream = BytesIO()
        Image.fromarray(pixels).save(stream, format="JPEG", quality=self.quality, subsampling="4:2:0")
        with Image.open(stream) as compressed:
            return np.asarray(compressed)


@dataclass(frozen=True)
class ToGrayscale(Preprocessing):
    """Replaces all three channels by the luma (0.299 red, 0.587 green, 0.114 blue; ITU-R BT.601).

    What a perturbation says in colour alone is gone; what it says in brightness stays. Deviation from the source: luma
    is rounded, not cut, to 8 bits.
    """

    title = "Grayscale"
    source = "Liu et al., Image Shortcut Squeezing, ICML 2023"

    def __call__(self, images: Tensor) -> Tensor:
        """``(B, 3, H, W)`` uint8 with equal channels."""
        return rounded(rgb_to_grayscale(images.to(torch.float32), num_output_channels=3))


@dataclass(frozen=True)
class FewerBits(Preprocessing):
    """Rounds every value to one of ``2 ** bits`` evenly spaced levels from 0 to 255.

    With two bits the levels lie 85 apart: a perturbation of a few 255ths shows only where the image is close to the
    middle between two of them.

    Attributes:
        bits: Bits a channel, 1 to 7.

    Source:
        Xu et al., "Feature Squeezing", NDSS 2018; against unlearnable examples Liu et al., ICML 2023, who cut the low
        bits off. Deviation from the latter: levels are rounded to, which keeps the image's brightness.
    """

    title = "Bit depth, {bits} bits"
    source = "Xu et al., Feature Squeezing, NDSS 2018; Liu et al., ICML 2023"
    bits: Annotated[int, Meta(ge=1, le=7)] = 2

    def __call__(self, images: Tensor) -> Tensor:
        """``(B, 3, H, W)`` uint8 on the levels."""
        steps = 2**self.bits - 1
        return rounded((images.to(torch.float32) * (steps / 255)).round() * (255 / steps))


@dataclass(frozen=True)
class Blur(Preprocessing):
    """Replaces every pixel by a Gaussian mean of its neighbourhood; borders are mirrored.

    Attributes:
        sigma: Standard deviation in pixels; the kernel reaches three of them to each side, which the image must exceed.

    Source:
        Liu et al., "Image Shortcut Squeezing", ICML 2023, among the filters that they compare. Deviation: their
        standard deviation of 0.1 pixels leaves an image as it is; one pixel halves what lies at about 0.37 of the
        Nyquist frequency.
    """

    title = "Gaussian blur, {sigma:g} px"
    source = "Liu et al., Image Shortcut Squeezing, ICML 2023"
    sigma: Annotated[float, Meta(gt=0)] = 1.0

    @property
    def reach(self) -> int:
        """Pixels that the kernel reaches to each side."""
        return math.ceil(3 * self.sigma)

    @property
    def smallest_side(self) -> int:
        """One pixel more than is mirrored."""
        return self.reach + 1

    def __call__(self, images: Tensor) -> Tensor:
        """``(B, 3, H, W)`` uint8, blurred and rounded; floating point stays so."""
        side = 2 * self.reach + 1
        blurred: Tensor = gaussian_blur(images, [side, side], [self.sigma, self.sigma])
        return blurred


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


@dataclass(frozen=True)
class ChromaBlur(Blur):
    """Replaces the colour of every pixel by a Gaussian mean of its neighbourhood and keeps its luma (ITU-R BT.601).

    What a perturbation says in fine colour is gone; what it says in brightness or in coarse colour stays. Images lose
    little that a network learns from: JPEG and video store colour at half the resolution.

    Source:
        Between grayscale and the halved chroma of JPEG, both in Liu et al., "Image Shortcut Squeezing", ICML 2023. Four
        pixels halve what lies at about 0.09 of the Nyquist frequency. Cb and Cr are linear in the difference of a
        colour to its luma, so this is blurred in their place. Borders are mirrored.
    """

    title = "Chroma low pass, {sigma:g} px"
    source = "Milder than grayscale in Liu et al., Image Shortcut Squeezing, ICML 2023"
    sigma: Annotated[float, Meta(gt=0)] = 4.0

    def __call__(self, images: Tensor) -> Tensor:
        """``(B, 3, H, W)`` uint8, rounded."""
        pixels = images.to(torch.float32)
        luma: Tensor = rgb_to_grayscale(pixels, num_output_channels=3)
        return rounded(luma + super().__call__(pixels - luma))


@dataclass(frozen=True)
class ResizeDownUp(Preprocessing):
    """Scales each image down, with a filter against aliasing, and back up to its size; both bilinear.

    Attributes:
        scale: Side of the small image as a share of the image's, (0, 1); at least one pixel.

    Source:
        Guo et al., "Countering Adversarial Images using Input Transformations", ICLR 2018 (rescaling). Deviation: no
        random crop; that is a countermeasure of its own.
    """

    title = "Resize to {scale:g} and back"
    source = "Guo et al., Countering Adversarial Images using Input Transformations, ICLR 2018"
    scale: Annotated[float, Meta(gt=0, lt=1)] = 0.5

    def __call__(self, images: Tensor) -> Tensor:
        """``(B, 3, H, W)`` uint8, without what the small image cannot hold."""
        size = list(images.shape[-2:])
        small = [max(1, round(side * self.scale)) for side in size]
        reduced = resize(images.to(torch.float32), small, InterpolationMode.BILINEAR, antialias=True)
        return rounded(resize(reduced, size, InterpolationMode.BILINEAR, antialias=True))
