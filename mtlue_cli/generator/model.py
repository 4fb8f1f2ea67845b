"""The perturbation generator: image and labels to a bounded delta."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mtlue_cli.devices import seeded
from mtlue_cli.generator.code_embedding import CodeEmbedding
from mtlue_cli.generator.code_patterns import STRIDE, is_tinted
from mtlue_cli.generator.codebook import Codebook
from mtlue_cli.generator.label_embedding import LabelEmbedding
from mtlue_cli.generator.network import ImageEncoder, PerturbationDecoder
from mtlue_cli.generator.painting import (
    Painter,
    Painting,
    Shares,
    UnlearnedTints,
    dense_embeddings_for,
    paint_class_patterns,
)
from mtlue_cli.generator.tiles import COLOURS
from mtlue_cli.perturbation.bound import LEVELS, add_bounded, soft_bound, with_chroma
from mtlue_cli.tasks.label_tensors import MAPS
from mtlue_cli.tasks.spec import TaskSet

DENSE_SEED_OFFSET = 500
"""Added to a generator's seed for its dense embeddings: those of image-level tasks draw as without them."""


@dataclass(frozen=True)
class GeneratorConfig:
    """Everything that fixes a generator's shape.

    Attributes:
        epsilon: Bound in 255ths.
        image_size: Side in pixels of the squares that the generator sees when protecting.
        label_channels, label_grid: Channels and side in cells of an embedding.
        pattern_grid, pattern_gain: Side in cells of the closed-form patterns that embeddings start from; their initial
            gain before the bound, 0 starts without them.
        chroma: Share of the colour difference that is kept, from 0 (luminance alone, the same in all channels) to 1.
    """

    epsilon: int = 8
    image_size: int = 72
    encoder_width: int = 48
    encoder_depth: int = 1
    label_channels: int = 32
    label_grid: int = 16
    decoder_width: int = 96
    decoder_depth: int = 2
    pattern_grid: int = 9
    pattern_gain: float = 2.0
    chroma: float = 1.0


class PerturbationGenerator(nn.Module):
    """``delta(x, y)``: bounded by epsilon, conditioned on the image and on the labels of every task.

    Args:
        config: The shape.
        tasks: Those of the labels; None: a universal generator, which :meth:`bind` gives codes.
        seed: Of the initial weights.
        priors: Share of each class among the training labels, a list per task, for the initial patterns; None: all
            are as frequent.

    Source:
        Yu et al., ICML 2025, section 4 and figure 2. Deviations: light encoder and decoder, tanh instead of clamp,
        embeddings summed and resizable, a direct path for class patterns.
    """

    def __init__(
        self, config: GeneratorConfig, tasks: TaskSet | None, seed: int = 0, priors: Shares | None = None
    ) -> None:
        super().__init__()
        self.config = config
        self.tasks = tasks or TaskSet(())
        self.painter: Painter = paint_class_patterns
        rng = torch.Generator().manual_seed(seed)
        with seeded(seed):
            width, channels = config.encoder_width, config.label_channels
            self.image_encoder = ImageEncoder(width, config.encoder_depth)
            self.decoder = PerturbationDecoder(
                width, channels, config.decoder_width, config.decoder_depth, config.pattern_gain
            )
            self.label_embedding: LabelEmbedding | CodeEmbedding
            shape = (channels, config.label_grid, COLOURS, config.pattern_grid)
            if tasks is None:
                self.label_embedding = CodeEmbedding(*shape)
                for parameter in self.decoder.draw.parameters():  # patterns alone, until the network is trained
                    nn.init.zeros_(parameter)
            else:
                if priors is None:
                    counts = [MAPS[task.kind].count(task) if task.is_dense else task.num_classes for task in tasks]
                    priors = [[1 / count] * count for count in counts]
                shares = dict(zip(tasks.names, priors, strict=True))
                image_level = [shares[name] for name in tasks.image_level.names]
                self.label_embedding = LabelEmbedding(tasks.image_level, *shape, image_level, rng)
        if tasks is not None and len(tasks.dense):
            self.dense_embeddings = dense_embeddings_for(tasks, channels, shares, seed + DENSE_SEED_OFFSET)
            self.painter = self.dense_embeddings.paint

    @property
    def codes(self) -> CodeEmbedding:
        """The embedding of a universal generator; ValueError for one that was made for tasks of its own."""
        if not isinstance(self.label_embedding, CodeEmbedding):
            raise ValueError("a generator with learned embeddings takes no codes")
        return self.label_embedding

    def bind(self, codebook: Codebook, shares: Mapping[str, Sequence[float]] | None = None) -> None:
        """Give a universal generator tasks and their codes; shares as :meth:`.LoadedGenerator.bound` takes them."""
        self.codes.bind(codebook, shares)
        self.tasks = codebook.tasks
        self.painter = UnlearnedTints(self.tasks, shares or {}) if is_tinted(self.tasks) else paint_class_patterns

    def forward(self, images: Tensor, labels: Mapping[str, Tensor]) -> Tensor:
        """Perturbation of ``images``.

        Args:
            images: ``(B, 3, H, W)`` float in [0, 1], any height and width.
            labels: Task name to class indices, ``(B,)`` int64, or to label maps of the images' size; absent or
                negative: unlabelled.

        Returns:
            ``(B, 3, H, W)`` float within ``[-epsilon/255, epsilon/255]``.
        """
        height, width = images.shape[-2:]
        padded = self.padded(images)
        painting = self.painted(labels, padded)
        drawn = self.decoder(self.image_encoder(padded), painting.embedding)
        unbounded = painting.unbounded(drawn, self.decoder.gain)
        delta = soft_bound(unbounded[..., :height, :width].float(), self.config.epsilon)
        return with_chroma(delta, self.config.chroma)

    @staticmethod
    def padded(images: Tensor) -> Tensor:
        """``images`` with their last rows and columns repeated up to a multiple of the encoder's stride."""
        right, below = -images.shape[-1] % STRIDE, -images.shape[-2] % STRIDE
        return nn.functional.pad(images, (0, right, 0, below), mode="replicate") if right or below else images

    def painted(self, labels: Mapping[str, Tensor], padded: Tensor) -> Painting:
        """The painting of the labels, at the size of the padded images."""
        has_classes = len(self.tasks.image_level) or isinstance(self.label_embedding, CodeEmbedding)
        classes = self.label_embedding(labels) if has_classes else None
        return self.painter(labels, classes, len(padded), padded.shape[-2:])

    @torch.inference_mode()
    def perturb(self, images: Tensor, labels: Mapping[str, Tensor]) -> Tensor:
        """:meth:`forward` without gradients, in 255ths."""
        delta: Tensor = self(images, labels)
        return delta * LEVELS

    def perturb_on_device(self, images: Tensor, labels: Mapping[str, Tensor]) -> Tensor:
        """:meth:`perturb` of ``(B, 3, S, S)`` uint8 images on the CPU, computed where the generator is; on the CPU."""
        device = next(self.parameters()).device
        own = {name: column.to(device) for name, column in labels.items()}
        return self.perturb(images.to(device).float() / LEVELS, own).cpu()

    def protected(self, images: Tensor, labels: Mapping[str, Tensor]) -> Tensor:
        """``(B, 3, S, S)`` uint8 images with their perturbation, within the bound; on the CPU, as they are."""
        delta = self.perturb_on_device(images, labels)
        return torch.from_numpy(add_bounded(images.numpy(), delta.numpy(), self.config.epsilon))
