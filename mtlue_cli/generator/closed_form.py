"""Universal weights whose network draws nothing: what they add follows from the labels alone. Numpy only, no torch."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load

from mtlue_cli.choices import CPU_CALL_SIZE
from mtlue_cli.generator.checkpoint import LARGEST, CheckpointCard, read_checkpoint, weights_digest
from mtlue_cli.generator.code_patterns import (
    GREEN,
    STRIDE,
    cells_for,
    cells_of,
    linear_weights,
    mirrored,
    painted_codes,
    pattern_dimension,
    unit_scale,
)
from mtlue_cli.generator.codebook import Codebook
from mtlue_cli.keys import Key
from mtlue_cli.perturbation.resize import as_shared, quantised
from mtlue_cli.tasks.spec import UNLABELLED, TaskSet

Labels = Mapping[str, Sequence[int] | Sequence[npt.NDArray[Any]]]
"""Task name to a label per image: a class index, or the map of a dense task."""

KEPT = 256
"""Perturbations that are kept for images with the same labels, 62 KB each at 72 pixels."""


class ClosedForm:
    """The perturbations of :class:`~.model.PerturbationGenerator` where its network draws nothing, to the rounding.

    They are computed in double precision, so that machines and devices agree. Images with the same labels get the same
    array, which is not to be written to.

    Args:
        card: Of the weights, with the tasks that they are bound to.
        gain: Of the patterns before the bound.
        key: Draws the codes.
        shares, cells: As :meth:`.LoadedGenerator.bound` takes them.
    """

    call_size = CPU_CALL_SIZE

    def __init__(
        self,
        card: CheckpointCard,
        gain: float,
        key: Key,
        shares: Mapping[str, Sequence[float]] | None = None,
        cells: int = 0,
    ) -> None:
        self.card = card
        shape, grid = card.generator, card.generator["label_grid"]
        cells = cells or cells_for(card.tasks, shape["pattern_grid"])
        codes = painted_codes(Codebook(key, card.tasks, pattern_dimension(1, cells)), shares)
        scale = unit_scale(codes, grid, shape["pattern_grid"], shares)
        self._patterns = {name: scale * mirrored(own, cells_of(own.shape[1])) for name, own in codes.items()}
        side = card.image_size
        self._drawing = linear_weights(grid, side + -side % STRIDE)[:side] @ linear_weights(cells, grid)
        self._gain = gain / math.sqrt(max(1, len(codes)))
        self._of = lru_cache(maxsize=KEPT)(self._shared)

    def __getstate__(self) -> dict[str, Any]:
        """All but what is kept, which the process that it travels to computes anew."""
        return {name: value for name, value in self.__dict__.items() if name != "_of"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._of = lru_cache(maxsize=KEPT)(self._shared)

    def __call__(
        self, images: Sequence[npt.NDArray[np.uint8]], labels: Labels, scale: float = 1.0
    ) -> list[npt.NDArray[np.float32]]:
        """Perturbations of as many images as there are, times ``scale``; only the labels matter.

        Returns:
            ``(3, S, S)`` float32 in 255ths each, rounded (see :mod:`mtlue_cli.perturbation.resize`).
        """
        names = [name for name in self._patterns if name in labels]
        return [self._of(tuple((name, int(labels[name][at])) for name in names), scale) for at in range(len(images))]

    def _shared(self, classes: tuple[tuple[str, int], ...], scale: float) -> npt.NDArray[np.float32]:
        cells = self._drawing.shape[1]
        pattern = np.zeros((cells, cells))
        for name, index in classes:
            if index != UNLABELLED:
                pattern += self._patterns[name][index]
        unbounded = self._gain * (self._drawing @ pattern @ self._drawing.T)
        delta = np.tanh(unbounded * np.array(GREEN)[:, None, None]) * (self.card.epsilon * scale)
        chroma = self.card.generator["chroma"]
        if chroma != 1.0:
            mean = delta.mean(axis=0)
            delta = mean + chroma * (delta - mean)
        return as_shared(quantised(delta.astype(np.float32)))


@dataclass(frozen=True)
class KeyedComponent:
    """Codes of a key that are added to what trained weights add; the sum is cut off at the bound.

    The two hardly meet: weights that are trained for few columns write in brightness, codes in one colour. Both parts
    give way where their sum is beyond the bound, which costs less than a share of the bound for each. The bound of the
    codes themselves is ``levels``, in 255ths.
    """

    form: ClosedForm
    levels: int


def closed_form(
    path: Path,
    key: Key | None,
    tasks: TaskSet,
    shares: Mapping[str, Sequence[float]] | None = None,
    cells: int = 0,
    side: int = 0,
) -> ClosedForm | None:
    """The closed form of a checkpoint for ``tasks``; None where a network is needed, or the file is not sound.

    :func:`~.checkpoint.load_checkpoint` says then what is wrong with it. ``side`` is that of the perturbations in
    pixels (0: that of the card); other arguments as :meth:`.LoadedGenerator.bound`.

    Raises:
        CheckpointError: As :func:`~.checkpoint.read_card`.
    """
    if len(tasks.dense) or key is None:
        return None
    content, card = read_checkpoint(path)
    shape = card.generator
    if not card.universal or any(
        type(shape.get(name)) is not int or not 1 <= shape[name] <= most for name, most in LARGEST.items()
    ):
        return None
    try:
        tensors = load(content)
        gain, chroma = float(tensors["decoder.gain"]), float(shape["chroma"])
        draws = any(bool(tensors[f"decoder.draw.{name}"].any()) for name in ("weight", "bias"))
    except (SafetensorError, KeyError, TypeError, ValueError):
        return None
    sound = weights_digest(tensors) == card.digest and all(np.isfinite(one).all() for one in tensors.values())
    alike = (shape["epsilon"], shape["image_size"]) == (card.epsilon, card.image_size)
    if draws or not sound or not alike or not 0 <= chroma <= 1:
        return None
    return ClosedForm(replace(card, tasks=tasks, image_size=side or card.image_size), gain, key, shares, cells)
