"""JPEG: compress and decompress."""

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

from mtlue_cli.verification.countermeasures.base import Preprocessing


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
