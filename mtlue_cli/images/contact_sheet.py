"""A picture to judge a generator by: original, protected, perturbation times ten."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

AMPLIFICATION = 10
GAP = 4


def draw_contact_sheet(
    originals: npt.NDArray[np.uint8],
    protected: npt.NDArray[np.uint8],
    path: Path,
    scale: int = 2,
    maps: Sequence[npt.NDArray[np.uint8]] = (),
) -> None:
    """Write a PNG with a column an image: original above, protected below it, then the change times ten on grey.

    Its masks and maps come last.

    Args:
        originals: ``(N, H, W, 3)`` uint8.
        protected: The same shape and type.
        path: Where to; folders are made.
        scale: Screen pixels per image pixel.
        maps: Coloured masks or maps of the shape and type of ``originals``, one a dense task.
    """
    change = protected.astype(np.int16) - originals.astype(np.int16)
    amplified = np.clip(128 + AMPLIFICATION * change, 0, 255).astype(np.uint8)
    count, height, width, _ = originals.shape
    rows = (originals, protected, amplified, *maps)
    sheet = np.full((len(rows) * (height + GAP) + GAP, count * (width + GAP) + GAP, 3), 255, dtype=np.uint8)
    for row, images in enumerate(rows):
        for column, image in enumerate(images):
            top, left = GAP + row * (height + GAP), GAP + column * (width + GAP)
            sheet[top : top + height, left : left + width] = image
    picture = Image.fromarray(sheet)
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.resize((picture.width * scale, picture.height * scale), Image.Resampling.NEAREST).save(path)
