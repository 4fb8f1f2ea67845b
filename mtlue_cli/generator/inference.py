"""A generator at inference: prepared for a CPU, and in batches that fit the memory and do not change the result."""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from mtlue_cli.choices import CPU_CALL_SIZE, GPU_CALL_SIZE
from mtlue_cli.errors import MtlueError
from mtlue_cli.generator.closed_form import Labels
from mtlue_cli.generator.code_patterns import STRIDE
from mtlue_cli.generator.model import PerturbationGenerator
from mtlue_cli.generator.network import InvertedBlock, resized
from mtlue_cli.perturbation.bound import LEVELS, soft_bound, with_chroma
from mtlue_cli.perturbation.resize import quantised
from mtlue_cli.tasks.label_tensors import as_labels

_OUT_OF_MEMORY = re.compile("out of memory|not enough memory|can't allocate memory", re.IGNORECASE)


class Perturbs(Protocol):
    """A network that computes perturbations."""

    def perturb(self, images: Tensor, labels: Mapping[str, Tensor]) -> Tensor:
        """``(B, 3, S, S)`` images in [0, 1] and their labels to a perturbation in 255ths."""


def for_inference(generator: PerturbationGenerator, device: torch.device) -> Perturbs:
    """The fastest form on ``device`` of a generator that is bound and no longer trained."""
    return PreparedGenerator(generator) if device.type == "cpu" else generator


class PreparedGenerator:
    """A generator with the weights that it has now, computed cell by cell, not plane by plane.

    Features lie as ``(B, cells, channels)``: every 1x1 convolution is one matrix product, photo by photo, and finds the
    wide features of a block still in the cache. Linear steps that follow each other are multiplied out beforehand.
    Where the network draws nothing, be it untrained or kept off the images by tints, it is not run.

    The result is that of :meth:`~.model.PerturbationGenerator.perturb` but for rounding: below a thousandth of a 255th,
    where :func:`~mtlue_cli.perturbation.resize.quantised` rounds to a sixteenth.

    Args:
        generator: On the CPU; its weights are not to change afterwards.
    """

    @torch.inference_mode()
    def __init__(self, generator: PerturbationGenerator) -> None:
        self._generator = generator
        encoder, decoder = generator.image_encoder, generator.decoder
        # The stem sees (pixel - 0.5) * 4.
        self._stem = _matrix(encoder.stem.weight * 4.0)
        self._stem_bias = _bias(encoder.stem) - 2.0 * encoder.stem.weight.sum((1, 2, 3))
        self._encoder, self._decoder = _prepared(encoder.blocks), _prepared(decoder.blocks)
        width = encoder.stem.out_channels
        mix, draw, last = _matrix(decoder.mix.weight), _matrix(decoder.draw.weight), self._decoder[-1]
        self._mix_latent, self._mix_label, self._mix_bias = mix[:width], mix[width:], _bias(decoder.mix)
        self._draw, self._draw_hidden = draw, last.project @ draw
        self._draw_bias = _bias(decoder.draw) + last.project_bias @ draw
        self._gain = float(decoder.gain)
        self._draws = decoder.draws

    @torch.inference_mode()
    def perturb(self, images: Tensor, labels: Mapping[str, Tensor]) -> Tensor:
        """:meth:`~.model.PerturbationGenerator.perturb`: ``(B, 3, S, S)`` in [0, 1] to ``(B, 3, S, S)`` in 255ths."""
        padded = self._generator.padded(images)
        painting = self._generator.painted(labels, padded)
        runs = self._draws and not painting.is_all
        drawn = self._drawn(padded, painting.embedding) if runs else torch.zeros_like(padded)
        unbounded = painting.unbounded(drawn, self._gain)
        height, width = images.shape[-2:]
        config = self._generator.config
        delta = soft_bound(unbounded[..., :height, :width], config.epsilon).mul_(LEVELS)
        return with_chroma(delta, config.chroma)

    def _drawn(self, padded: Tensor, embedding: Tensor) -> Tensor:
        """The network's drawing, ``(B, 3, H, W)`` as the images."""
        count, (rows, columns) = len(padded), (side // STRIDE for side in padded.shape[-2:])
        cells = padded.reshape(count, 3, rows, STRIDE, columns, STRIDE).permute(0, 2, 4, 1, 3, 5).flatten(3)
        features = torch.addmm(self._stem_bias, cells.flatten(0, 2), self._stem).view(count, rows, columns, -1)
        for block in self._encoder:
            block.add_to(features)
        at_cells = resized(embedding, (rows, columns)).flatten(2)
        mixed = features.new_empty(count, rows, columns, self._draw.shape[0])
        for photo in range(count):
            flat = mixed[photo].flatten(0, 1)
            torch.addmm(self._mix_bias, features[photo].flatten(0, 1), self._mix_latent, out=flat)
            flat.addmm_(at_cells[photo].T, self._mix_label)
        for block in self._decoder[:-1]:
            block.add_to(mixed)
        drawn = mixed.new_empty(count, rows * columns, self._draw.shape[1])
        for photo, hidden in enumerate(self._decoder[-1].hidden(mixed)):
            torch.addmm(self._draw_bias, mixed[photo].flatten(0, 1), self._draw, out=drawn[photo])
            drawn[photo].addmm_(hidden, self._draw_hidden)
        # What a pixel shuffle does.
        return drawn.view(count, rows, columns, 3, STRIDE, STRIDE).permute(0, 3, 1, 4, 2, 5).reshape(padded.shape)


class _PreparedBlock:
    """An :class:`~.blocks.InvertedBlock` whose norm is part of the layer behind it."""

    def __init__(self, block: InvertedBlock) -> None:
        self._spatial = block.spatial
        self._epsilon = block.norm.eps
        expand = _matrix(block.expand.weight)
        self._expand = block.norm.weight[:, None] * expand
        self._expand_bias = _bias(block.expand) + block.norm.bias @ expand
        self.project, self.project_bias = _matrix(block.project.weight), _bias(block.project)

    def hidden(self, features: Tensor) -> Iterator[Tensor]:
        """Input of ``project``, ``(cells, 2 C)``, photo after photo, in the same memory.

        Args:
            features: ``(B, rows, columns, C)``; the caller may change those of a photo once it has its ``hidden``.
        """
        # Planes only by their strides, which convolutions understand.
        spatial = self._spatial(features.permute(0, 3, 1, 2)).permute(0, 2, 3, 1).flatten(1, 2)
        hidden = spatial.new_empty(spatial.shape[1], self._expand.shape[1])
        for photo in spatial:
            photo -= photo.mean()
            flat = photo.flatten()
            scale = 1.0 / math.sqrt(float(flat @ flat) / len(flat) + self._epsilon)
            torch.addmm(self._expand_bias, photo, self._expand, alpha=scale, out=hidden)
            yield hidden.relu_()

    def add_to(self, features: Tensor) -> None:
        """The block, in the memory of the features: ``(B, rows, columns, C)``."""
        for photo, hidden in zip(features, self.hidden(features), strict=True):
            photo.flatten(0, 1).add_(self.project_bias).addmm_(hidden, self.project)


def _prepared(blocks: nn.Sequential) -> list[_PreparedBlock]:
    return [_PreparedBlock(block) for block in blocks if isinstance(block, InvertedBlock)]


def _matrix(weight: Tensor) -> Tensor:
    """``(out, in, ...)`` to ``(in, out)``, for features on the left."""
    return weight.flatten(1).T.contiguous()


def _bias(layer: nn.Conv2d) -> Tensor:
    assert layer.bias is not None  # all layers of a generator have one
    return layer.bias


class BatchedPerturbation:
    """Runs a network, which is on ``device`` already, over any number of images.

    Convolutions sum in an order that depends on the batch size, so the last bits of a result would too. Here every call
    sees ``call_size`` images (a CPU has its own number), the last one filled up by repetition: a perturbation depends
    neither on an image's neighbours nor on how many there are. The size is halved for good when memory runs out.
    """

    def __init__(self, network: Perturbs, device: torch.device, call_size: int = GPU_CALL_SIZE) -> None:
        self._network = network
        self.device = device
        self.call_size = CPU_CALL_SIZE if device.type == "cpu" else call_size

    def __call__(
        self, images: Sequence[npt.NDArray[np.uint8]], labels: Labels, scale: float = 1.0
    ) -> list[npt.NDArray[np.float32]]:
        """Perturbations of ``(3, S, S)`` images, times ``scale``.

        Returns:
            ``(3, S, S)`` float32 in 255ths each, rounded (see :mod:`mtlue_cli.perturbation.resize`).

        Raises:
            MtlueError: Not even one image fits into memory.
        """
        done: list[npt.NDArray[np.float32]] = []
        while len(done) < len(images):
            part = slice(len(done), len(done) + self.call_size)
            try:
                done.extend(self._call(images[part], {name: values[part] for name, values in labels.items()}, scale))
            except (MemoryError, RuntimeError) as error:  # torch.OutOfMemoryError is a RuntimeError
                known = isinstance(error, torch.OutOfMemoryError | MemoryError)
                if not known and not _OUT_OF_MEMORY.search(str(error)):
                    raise
                if self.call_size == 1:
                    raise MtlueError(f"{self.device} has too little memory for a single image") from error
                self.call_size //= 2
                if self.device.type == "cuda":
                    torch.cuda.empty_cache()
        return done

    @torch.inference_mode()
    def _call(
        self, images: Sequence[npt.NDArray[np.uint8]], labels: Labels, scale: float
    ) -> list[npt.NDArray[np.float32]]:
        fill = np.arange(self.call_size) % len(images)
        pixels = torch.from_numpy(np.stack([images[index] for index in fill.tolist()])).to(self.device)
        batch = pixels.float().div_(LEVELS)
        if self.device.type != "cpu":
            batch = batch.contiguous(memory_format=torch.channels_last)
        columns = {
            name: as_labels(torch.from_numpy(np.stack([np.asarray(value) for value in values])[fill])).to(self.device)
            for name, values in labels.items()
        }
        delta = self._network.perturb(batch, columns)[: len(images)] * scale
        return list(quantised(delta.float().cpu().numpy()))
