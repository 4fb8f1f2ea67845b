"""A picture to judge a generator by: original, protected, perturbation times ten."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torchvision.transforms.functional import to_pil_image
from torchvision.utils import make_grid

AMPLIFICATION = 10
GAP = 4


def draw_contact_sheet(
    originals: npt.NDArray[np.uint8],
    protected: npt.NDArray[np.uint8],
    path: Path,
    scale: int = 2,
    maps: Sequence[npt.NDArray[np.uint8]] = (),
) -> None:
    """Write a PNG with a column per image: the original, the protected image, the change times ten on grey, its maps.

    Args:
        originals: ``(N, H, W, 3)`` uint8.
        protected: The same shape and type.
        path: Where to; folders are made.
        scale: Screen pixels per image pixel.
        maps: Coloured masks or maps of the shape and type of ``originals``, one per dense task.
    """
    change = protected.astype(np.int16) - originals.astype(np.int16)
    amplified = np.clip(128 + AMPLIFICATION * change, 0, 255).astype(np.uint8)
    tiles = torch.from_numpy(np.concatenate([originals, protected, amplified, *maps])).permute(0, 3, 1, 2)
    picture = to_pil_image(make_grid(tiles, nrow=len(originals), padding=GAP, pad_value=255))
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.resize((picture.width * scale, picture.height * scale), Image.Resampling.NEAREST).save(path)
