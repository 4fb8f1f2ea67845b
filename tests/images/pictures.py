"""What tests of images share: encoding with Pillow alone, and what each EXIF orientation means."""

import io

import numpy as np
from PIL import Image


def encoded(image: Image.Image, name: str = "PNG", **options: object) -> bytes:
    """``image`` as a file of the format that Pillow calls ``name``."""
    stream = io.BytesIO()
    image.save(stream, format=name, **options)
    return stream.getvalue()


def seen_upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """``(H, W, C)`` as a viewer shows it that honours EXIF ``orientation``, 1 to 8."""
    return {
        1: pixels,
        2: pixels[:, ::-1],
        3: pixels[::-1, ::-1],
        4: pixels[::-1],
        5: pixels.transpose(1, 0, 2),
        6: np.rot90(pixels, -1),
        7: pixels.transpose(1, 0, 2)[::-1, ::-1],
        8: np.rot90(pixels, 1),
    }[orientation]
