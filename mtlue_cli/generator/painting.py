"""What labels are painted as: patterns that are drawn as they are, and an embedding for what the network adds.

How a task set is painted is chosen once, when a generator is built for it or bound to it: a :class:`Painter`.

- :func:`paint_class_patterns`: tasks that label whole images, by learned maps or by codes.
- :func:`~mtlue_cli.generator.dense_embedding.dense_embeddings_for`: a set with label maps, by what is learned of them.
- :class:`~mtlue_cli.generator.dense_embedding.UnlearnedTints`: masks under universal weights.
"""

from collections.abc import Mapping
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from mtlue_cli.generator.network import resized

COLOURS = 3
"""Channels of a pattern: red, green, blue."""

ALONE_GAIN = 2.0
"""Gain of patterns that nothing is drawn beside: training leaves it as it is."""


class Painting(NamedTuple):
    """What the labels of a batch are painted as.

    Attributes:
        embedding: ``(B, channels, g, g)``, what the network is given of the labels, any grid.
        pattern: ``(B, 3, H, W)``, drawn as it is.
        alone: ``(B, 1, 1, 1)`` bool, the images on which the network draws nothing; None: it draws on all.
    """

    embedding: Tensor
    pattern: Tensor
    alone: Tensor | None = None

    @property
    def is_all(self) -> bool:
        """Whether the network draws nothing on any of the images."""
        return self.alone is not None and bool(self.alone.all())

    def unbounded(self, drawn: Tensor, gain: Tensor | float) -> Tensor:
        """The perturbation before its bound, ``(B, 3, H, W)``.

        Args:
            drawn: As much, by the network.
            gain: Learned factor on the pattern; where it is alone, :data:`ALONE_GAIN` takes its place.
        """
        if self.alone is not None:
            return torch.where(self.alone, ALONE_GAIN * self.pattern, drawn + gain * self.pattern)
        if isinstance(gain, float):
            return torch.add(drawn, self.pattern, alpha=gain)
        return drawn + gain * self.pattern


class Painter(Protocol):
    """Paints the labels of one kind of task set."""

    def __call__(
        self, labels: Mapping[str, Tensor], classes: Tensor | None, batch: int, size: tuple[int, ...]
    ) -> Painting:
        """What labels are painted as.

        Args:
            labels: Task name to class indices, ``(B,)`` int64, or to label maps; a task that is absent is not
                protected.
            classes: Embedding of the labels of whole images, ``(1 or B, channels, g, g)``; its leading channels are
                their pattern. None: there are no such tasks.
            batch: Number of images.
            size: Their height and width in pixels, multiples of the encoder's stride.
        """


def paint_class_patterns(
    labels: Mapping[str, Tensor],  # noqa: ARG001 - the signature of every painter
    classes: Tensor | None,
    batch: int,
    size: tuple[int, ...],
) -> Painting:
    """Labels of whole images by their patterns over the whole image: a :class:`Painter`."""
    assert classes is not None  # such a set has tasks
    embedding = classes.expand(batch, -1, -1, -1)
    return Painting(embedding, resized(embedding[:, :COLOURS], size))
