"""The perturbation generator: image and labels to a bounded delta."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mtlue_cli.generator.code_embedding import CodeEmbedding, PreparedCodes
from mtlue_cli.generator.decoder import PerturbationDecoder
from mtlue_cli.generator.dense_embedding import DenseEmbeddings, Told
from mtlue_cli.generator.image_encoder import STRIDE, ImageEncoder
from mtlue_cli.generator.label_embedding import LabelEmbedding
from mtlue_cli.perturbation.bound import soft_bound, with_chroma
from mtlue_cli.tasks.spec import TaskSet

DENSE_SEED_OFFSET = 500
"""Added to a generator's seed for its dense embeddings: those of image-level tasks draw as without them."""


@dataclass(frozen=True)
class GeneratorConfig:
    """Everything that fixes a generator's shape.

    Attributes:
        epsilon: Bound in 255ths.
        image_size: Side in pixels of the square images that the generator sees when protecting.
        encoder_width, encoder_depth: Channels and blocks of the image encoder.
        label_channels, label_grid: Channels and side in cells of an embedding.
        decoder_width, decoder_depth: Channels and blocks of the decoder.
        pattern_grid: Side in cells of the closed-form patterns that embeddings start from.
        pattern_gain: Initial gain of those patterns before the bound; 0 starts without them.
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
        tasks: What the labels stand for; None: a universal generator, which :meth:`bind` gives codes.
        seed: Seed of the initial weights.
        priors: Share of each class among the labels that it will be trained on, a task each, for the initial patterns.

    Source:
        Yu et al., ICML 2025, section 4 and figure 2. Deviations: light encoder and decoder, tanh instead of clamp,
        embeddings summed and resizable, a direct path for class patterns.
    """

    PATTERN_CHANNELS = 3

    def __init__(
        self,
        config: GeneratorConfig,
        tasks: TaskSet | None,
        seed: int = 0,
        priors: Sequence[Sequence[float]] | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        self.tasks = tasks or TaskSet(())
        rng = torch.Generator().manual_seed(seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.image_encoder = ImageEncoder(config.encoder_width, config.encoder_depth)
            self.decoder = PerturbationDecoder(
                config.encoder_width,
                config.label_channels,
                config.decoder_width,
                config.decoder_depth,
                self.PATTERN_CHANNELS,
                config.pattern_gain,
            )
            self.label_embedding: LabelEmbedding | CodeEmbedding
            shape = (config.label_channels, config.label_grid, self.PATTERN_CHANNELS, config.pattern_grid)
            if tasks is None:
                self.label_embedding = CodeEmbedding(*shape)
                self.decoder.draw_nothing()
            else:
                image_level, dense = divided_priors(tasks, priors)
                self.label_embedding = LabelEmbedding(tasks.image_level, *shape, image_level, rng)
        if tasks is not None and len(tasks.dense):
            self.dense_embeddings = DenseEmbeddings(
                tasks, config.label_channels, self.PATTERN_CHANNELS, dense, seed + DENSE_SEED_OFFSET, image_level
            )

    @property
    def codes(self) -> CodeEmbedding:
        """The embedding of a universal generator.

        Raises:
            ValueError: The generator was made for tasks of its own.
        """
        if not isinstance(self.label_embedding, CodeEmbedding):
            raise ValueError("a generator with learned embeddings takes no codes")
        return self.label_embedding

    def bind(self, codes: PreparedCodes) -> None:
        """Give a universal generator tasks and their codes in place of those it had."""
        self.codes.bind(codes)
        self.tasks = codes.tasks

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
        unbounded = self.decoder(self.image_encoder(padded), *self.embedded(labels, padded))
        delta = soft_bound(unbounded[..., :height, :width].float(), self.config.epsilon)
        return with_chroma(delta, self.config.chroma)

    @staticmethod
    def padded(images: Tensor) -> Tensor:
        """``images`` with their last rows and columns repeated up to a multiple of :data:`.image_encoder.STRIDE`."""
        right, below = -images.shape[-1] % STRIDE, -images.shape[-2] % STRIDE
        return nn.functional.pad(images, (0, right, 0, below), mode="replicate") if right or below else images

    def embedded(self, labels: Mapping[str, Tensor], images: Tensor) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Embedding, and with dense tasks the pattern that is drawn at the size of the images and what may be added."""
        if isinstance(self.label_embedding, CodeEmbedding):
            return self.label_embedding.told(labels, len(images), images.shape[-2:])
        image_level: Tensor | None = self.label_embedding(labels) if len(self.tasks.image_level) else None
        if len(self.tasks.dense):
            told: Told = self.dense_embeddings(labels, len(images), images.shape[-2:], image_level)
            return told
        assert image_level is not None  # a generator has a task
        return image_level.expand(len(images), -1, -1, -1), None, None

    @torch.inference_mode()
    def perturb(self, images: Tensor, labels: Mapping[str, Tensor]) -> Tensor:
        """:meth:`forward` without gradients, in units of 1/255: what ``protect`` scales up to the photo."""
        delta: Tensor = self(images, labels)
        return delta * 255.0


def divided_priors(
    tasks: TaskSet, priors: Sequence[Sequence[float]] | None
) -> tuple[list[Sequence[float]] | None, list[Sequence[float]] | None]:
    """Those of the image-level tasks and those of the dense ones."""
    if priors is None:
        return None, None
    each = list(zip(tasks, priors, strict=True))
    return [own for task, own in each if not task.is_dense], [own for task, own in each if task.is_dense]
