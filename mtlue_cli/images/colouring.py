"""Masks and maps as pictures for people."""

import colorsys

import numpy as np
import numpy.typing as npt

from mtlue_cli.choices import TaskKind
from mtlue_cli.images.arrays import Array
from mtlue_cli.tasks.spec import Task

UNKNOWN = (38, 38, 38)
"""Colour of what is unlabelled or was not measured: none that a class or a depth has."""

_GOLDEN = 0.618034
_SHADES = ((0.62, 0.92), (0.85, 0.70), (0.38, 1.00))
"""Saturation and value of a class, in turn."""
_NEAR_TO_FAR = np.frombuffer(
    bytes.fromhex("fde725 b5de2b 6ece58 35b779 1f9e89 26828e 31688e 3e4a89 482878 440154"), dtype=np.uint8
).reshape(-1, 3)
"""Viridis in ten steps, reversed: nearer is brighter, evenly. Source: Smith and van der Walt, 2015, CC0."""
_OUTLIERS = (0.02, 0.98)
"""Quantiles of the measured depths between which the colours run."""


def palette(count: int) -> npt.NDArray[np.uint8]:
    """Colours of ``count`` classes, ``(count, 3)``: a class has the same in every picture, neighbours differ much."""
    colours = [colorsys.hsv_to_rgb(0.58 + index * _GOLDEN, *_SHADES[index % len(_SHADES)]) for index in range(count)]
    levels: npt.NDArray[np.uint8] = np.rint(np.array(colours).reshape(-1, 3) * 255).astype(np.uint8)
    return levels


def coloured(target: Array, task: Task) -> npt.NDArray[np.uint8]:
    """One mask or map as a picture.

    Segmentation: one fixed colour per class. Depth: from near, yellow, to far, violet, by the map's own range. Normals:
    ``(n + 1) / 2`` as red, green and blue. What is unlabelled or was not measured is :data:`UNKNOWN`.

    Args:
        target: As :func:`~mtlue_cli.images.targets.read_target` returns it, or in the layout of a loop.
        task: Its task.

    Returns:
        ``(h, w, 3)`` uint8 RGB.
    """
    if task.kind is TaskKind.SEGMENTATION:
        colours = np.concatenate([palette(task.num_classes), np.array([UNKNOWN], dtype=np.uint8)])
        return colours[target.astype(np.int64)]
    if task.kind is TaskKind.DEPTH:
        return _depth(np.asarray(target, dtype=np.float64).reshape(target.shape[-2:]))
    vectors = np.asarray(target, dtype=np.float64)
    vectors = np.moveaxis(vectors, 0, 2) if vectors.shape[2] != 3 else vectors
    picture = np.rint((vectors + 1) * 127.5).clip(0, 255).astype(np.uint8)
    picture[(vectors == 0).all(axis=2)] = UNKNOWN
    return picture


def _depth(depth: npt.NDArray[np.float64]) -> npt.NDArray[np.uint8]:
    known = depth > 0
    picture = np.full((*depth.shape, 3), UNKNOWN, dtype=np.uint8)
    if known.any():
        near, far = np.quantile(depth[known], _OUTLIERS)
        share = ((depth[known] - near) / max(far - near, 1e-12)).clip(0, 1) * (len(_NEAR_TO_FAR) - 1)
        steps = np.arange(len(_NEAR_TO_FAR))
        channels = [np.interp(share, steps, _NEAR_TO_FAR[:, channel]) for channel in range(3)]
        picture[known] = np.rint(np.stack(channels, axis=1)).astype(np.uint8)
    return picture
