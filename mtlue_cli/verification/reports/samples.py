"""Small pictures of what protection does to an image, as data URIs for a page that loads nothing."""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from mtlue_cli.images.contact_sheet import AMPLIFICATION

MOST_SAMPLES = 6
MOST_SIDE = 192
"""Longer side of a picture in pixels; larger images are scaled down."""


@dataclass(frozen=True)
class Sample:
    """One image before and after, as PNG data URIs.

    Attributes:
        name: What it is, such as its file name; may be empty.
        original, protected: The two images.
        change: ``protected - original`` times :data:`AMPLIFICATION` on grey.
        largest_change: Largest absolute change of a colour value, in 255ths, before any scaling.
        width, height: Size of the images in pixels, before any scaling.
        maps: Names and pictures of its masks and maps.
    """

    name: str
    original: str
    protected: str
    change: str
    largest_change: int
    width: int
    height: int
    maps: tuple[tuple[str, str], ...] = ()


def draw_samples(
    originals: Sequence[npt.NDArray[np.uint8]],
    protected: Sequence[npt.NDArray[np.uint8]],
    names: Sequence[str] | None = None,
    maps: Sequence[Mapping[str, npt.NDArray[np.uint8]]] = (),
) -> tuple[Sample, ...]:
    """Draw the first :data:`MOST_SAMPLES` images.

    Args:
        originals: Images of ``(H, W, 3)`` uint8 each.
        protected: Of each the protected version, of the same shape and type.
        names: What they are; None: nothing.
        maps: Of each its masks and maps, coloured, ``(h, w, 3)`` uint8, by name; none: of no image.

    Raises:
        ValueError: The sequences differ in length, or an image has another shape or type.
    """
    titles = [""] * len(originals) if names is None else names
    beside = maps or [{}] * len(originals)
    found = list(zip(originals, protected, titles, beside, strict=True))[:MOST_SAMPLES]
    return tuple(_draw(*one) for one in found)


def _draw(
    original: npt.NDArray[np.uint8],
    protected: npt.NDArray[np.uint8],
    name: str,
    maps: Mapping[str, npt.NDArray[np.uint8]],
) -> Sample:
    for image in (original, protected):
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
            raise ValueError(f"expected (H, W, 3) uint8, found {image.shape} {image.dtype}")
    if original.shape != protected.shape:
        raise ValueError(f"original and protected differ in shape: {original.shape} and {protected.shape}")
    change = protected.astype(np.int16) - original.astype(np.int16)
    amplified = np.clip(128 + AMPLIFICATION * change, 0, 255).astype(np.uint8)
    height, width, _ = original.shape
    return Sample(
        name=name,
        original=_data_uri(original),
        protected=_data_uri(protected),
        change=_data_uri(amplified),
        largest_change=int(np.abs(change).max()),
        width=width,
        height=height,
        maps=tuple((task, _data_uri(picture, Image.Resampling.NEAREST)) for task, picture in maps.items()),
    )


def _data_uri(pixels: npt.NDArray[np.uint8], how: Image.Resampling = Image.Resampling.LANCZOS) -> str:
    picture = Image.fromarray(pixels)
    picture.thumbnail((MOST_SIDE, MOST_SIDE), how)
    written = io.BytesIO()
    picture.save(written, format="PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(written.getvalue()).decode('ascii')}"
