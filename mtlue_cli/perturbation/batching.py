"""Perturbations in batches whose size neither shows in the result nor exhausts the device."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mtlue_cli.choices import CPU_CALL_SIZE
from mtlue_cli.errors import MtlueError
from mtlue_cli.perturbation.bound import LEVELS
from mtlue_cli.perturbation.resize import quantised
from mtlue_cli.tasks.dense import as_labels

Labels = Mapping[str, Sequence[int] | Sequence[npt.NDArray[Any]]]
"""Task name to a label an image: a class index, or the map of a dense task."""


class Perturbs(Protocol):
    """What a generator offers here."""

    def perturb(self, images: Tensor, labels: Mapping[str, Tensor]) -> Tensor:
        """``(B, 3, S, S)`` images in [0, 1] and their labels to a perturbation in 255ths."""


class BatchedPerturbation:
    """Runs a generator over any number of images.

    Convolutions sum in an order that depends on the batch size, so the last bits of a result would too. Here every call
    sees the same number of images, the last one filled up by repetition: a file's perturbation depends neither on its
    neighbours nor on how many there are. When the device runs out of memory the call size is halved for good.

    Args:
        generator: The network, on ``device`` already.
        device: Where it runs.
        scale: Factor on its perturbation.
        call_size: Images a call to start with; a CPU takes :data:`~mtlue_cli.choices.CPU_CALL_SIZE`
            whatever is asked for.

    Attributes:
        device: Where it runs.
        call_size: Images a call now.
    """

    def __init__(self, generator: Perturbs, device: torch.device, scale: float = 1.0, call_size: int = 64) -> None:
        self._generator = generator
        self.device = device
        self._scale = scale
        self.call_size = CPU_CALL_SIZE if device.type == "cpu" else call_size

    def __call__(self, images: Sequence[npt.NDArray[np.uint8]], labels: Labels) -> list[npt.NDArray[np.float32]]:
        """Perturbations of ``images``.

        Args:
            images: ``(3, S, S)`` uint8 each.
            labels: Task name to class indices, or maps in the layout of a loop, one an image.

        Returns:
            ``(3, S, S)`` float32 in 255ths each, rounded (see :mod:`mtlue_cli.perturbation.resize`).

        Raises:
            MtlueError: Not even one image fits into memory.
        """
        done: list[npt.NDArray[np.float32]] = []
        while len(done) < len(images):
            part = slice(len(done), len(done) + self.call_size)
            try:
                done.extend(self._call(images[part], {name: values[part] for name, values in labels.items()}))
            except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
                if not _is_out_of_memory(error):
                    raise
                if self.call_size == 1:
                    raise MtlueError(f"{self.device} has too little memory for a single image") from error
                self.call_size //= 2
                if self.device.type == "cuda":
                    torch.cuda.empty_cache()
        return done

    @torch.inference_mode()
    def _call(self, images: Sequence[npt.NDArray[np.uint8]], labels: Labels) -> list[npt.NDArray[np.float32]]:
        fill = np.arange(self.call_size) % len(images)
        pixels = torch.from_numpy(np.stack([images[index] for index in fill.tolist()])).to(self.device)
        batch = pixels.float().div_(LEVELS)
        if self.device.type != "cpu":
            batch = batch.contiguous(memory_format=torch.channels_last)
        columns = {
            name: as_labels(torch.from_numpy(np.stack([np.asarray(value) for value in values])[fill])).to(self.device)
            for name, values in labels.items()
        }
        delta = self._generator.perturb(batch, columns)[: len(images)] * self._scale
        return list(quantised(delta.float().cpu().numpy()))


def _is_out_of_memory(error: BaseException) -> bool:
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return any(sign in str(error).lower() for sign in ("out of memory", "not enough memory", "can't allocate memory"))
