"""Photos as copies are compared with them: upright, in 8 bits, colours over white where they are transparent."""

import numpy as np
import numpy.typing as npt
from PIL import Image

from mtlue_cli.images.decode import DecodedImage
from mtlue_cli.images.square import eight_bit
from mtlue_cli.workflows.trace.alignment import Box, Grey, part
from mtlue_cli.workflows.trace.surviving import Planes

LARGEST = 512
"""Longer side in pixels to which a released photo is reduced before anything is measured."""

GRID = 128
"""Side of the grid on which perturbations are compared, for the whole photo."""

_LEAST_GRID = 24
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)


def reduced_pixels(photo: DecodedImage) -> npt.NDArray[np.uint8]:
    """``(H, W, 3)`` or ``(H, W)`` uint8, the longer side at most :data:`LARGEST`."""
    pixels, opacity = _reduced(eight_bit(photo.pixels)), reduced_opacity(photo)
    if opacity is None:
        return pixels
    opacity = opacity if pixels.ndim == 2 else opacity[..., None]
    over_white: npt.NDArray[np.uint8] = np.rint(pixels * opacity + 255 * (1 - opacity)).astype(np.uint8)
    return over_white


def reduced_opacity(photo: DecodedImage) -> npt.NDArray[np.float32] | None:
    """Opacity in [0, 1] in the size of :func:`reduced_pixels`; None where all is opaque."""
    if photo.alpha is None or photo.alpha.min() == 255:
        return None
    return (_reduced(photo.alpha) / 255).astype(np.float32)


def brightness(photo: DecodedImage) -> Grey:
    """``(H, W)`` float32 luma in 255ths, reduced as :func:`reduced_pixels`."""
    return luma(reduced_pixels(photo))


def luma(pixels: npt.NDArray[np.uint8]) -> Grey:
    """Luma in 255ths of grey or colour pixels, ``(H, W)`` float32."""
    values = pixels.astype(np.float32)
    found: Grey = values if values.ndim == 2 else values @ _LUMA
    return found


def on_grid(pixels: npt.NDArray[np.uint8], box: Box, size: tuple[int, int]) -> Planes:
    """What ``box`` shows of a photo, ``(3, *size)`` float32 in 255ths."""
    planes = [pixels] * 3 if pixels.ndim == 2 else list(np.moveaxis(pixels, 2, 0))
    return np.stack([part(plane.astype(np.float32), box, *size) for plane in planes])


def grid_size(box: Box) -> tuple[int, int]:
    """Height and width of the grid for a part of a photo."""
    height, width = max(_LEAST_GRID, round(GRID * (box[3] - box[1]))), max(_LEAST_GRID, round(GRID * (box[2] - box[0])))
    return height, width


def _reduced(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    height, width = pixels.shape[:2]
    scale = LARGEST / max(height, width)
    if scale >= 1:
        return pixels
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BILINEAR))
