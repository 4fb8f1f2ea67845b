"""Protect training images in memory, as ``protect`` would on disk, to judge a generator without a release."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mtlue_cli.budget import ReadingThreads
from mtlue_cli.errors import ImageError, InputError
from mtlue_cli.generator.arguments import labelled_images
from mtlue_cli.generator.generator import Generator
from mtlue_cli.images.decode import ARRAY, DecodedImage, decode_image
from mtlue_cli.images.square import to_square
from mtlue_cli.perturbation.effect import Shortfall

CHUNK = 64
"""Images that are decoded together."""


class _Seen(NamedTuple):
    """A photo: as the generator sees it, whether it is grey, and its opacity in the size of the victim's images."""

    square: npt.NDArray[np.uint8]
    is_grey: bool
    alpha: npt.NDArray[np.uint8] | None


def protect_in_memory(
    generator: Generator,
    folder: Path,
    file_names: Sequence[str],
    labels: Mapping[str, npt.NDArray[Any]],
    images: Tensor,
    *,
    workers: int = 2,
    on_images: Callable[[int], None] | None = None,
) -> tuple[Tensor, dict[int, Shortfall]]:
    """Add to every image the perturbation that its file would get, scaled to the image's size.

    Args:
        generator: What adds it.
        folder: Where the photos are.
        file_names: Their names below it, ``N`` of them.
        labels: Task name to ``(N,)`` class indices of the generator, or to ``N`` maps of the side that it sees.
        images: The photos as the victim's loader made them, ``(N, 3, S, S)`` uint8.
        workers: Threads that decode.
        on_images: Called with the number of images after each chunk.

    Returns:
        A new tensor of the shape of ``images``, each value within the generator's epsilon of the original's; and the
        rows of the images that ``protect`` would put into quarantine because they lack the least effect.

    Raises:
        InputError: Lists every photo that cannot be read.
    """
    protected = torch.empty_like(images)
    faults: list[str] = []
    lacking: dict[int, Shortfall] = {}

    def seen(name: str) -> _Seen | str:
        try:
            photo = decode_image(folder / name)
        except ImageError as error:
            return f"{name}: {error}"
        alpha = photo.alpha
        if alpha is not None:  # in the size of the victim's images
            alpha = to_square(DecodedImage(alpha, None, ARRAY), images.shape[-1])[0]
        return _Seen(to_square(photo, generator.card.image_size), photo.pixels.ndim == 2, alpha)

    with ReadingThreads(max_workers=max(workers, 1)) as pool:
        for start in range(0, len(file_names), CHUNK):
            rows = range(start, min(start + CHUNK, len(file_names)))
            photos: list[_Seen] = []
            for found in pool.map(seen, [file_names[row] for row in rows]):
                if isinstance(found, str):
                    faults.append(found)
                else:
                    photos.append(found)
            if not faults:
                part = {name: list(column[rows.start : rows.stop]) for name, column in labels.items()}
                deltas = generator.perturb([photo.square for photo in photos], part)
                labelled = labelled_images(part, generator.tasks)
                for row, delta, photo, known in zip(rows, deltas, photos, labelled, strict=True):
                    # A grey photo's stays grey.
                    pixels = (images[row, 0] if photo.is_grey else images[row].permute(1, 2, 0)).contiguous().numpy()
                    added, missing = generator.added(pixels, delta, alpha=photo.alpha, labelled=known)
                    protected[row] = torch.from_numpy(added if photo.is_grey else added.transpose(2, 0, 1))
                    if missing is not None:
                        lacking[row] = missing
            if on_images is not None:
                on_images(len(rows))
    if faults:
        raise InputError(
            f"{len(faults)} of {len(file_names)} images cannot be protected",
            faults,
            "repair or remove these files and their rows",
        )
    return protected, lacking
