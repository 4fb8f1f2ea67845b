"""What every backbone gives to a multi-task network."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn


@dataclass(frozen=True)
class Backbone:
    """A network without its head, and the length of the vector that it gives.

    Attributes:
        network: ``(B, 3, S, S)`` images, S from 32 to 224 pixels, to ``(B, features)``.
        features: Length of that vector.
    """

    network: nn.Module
    features: int


@dataclass(frozen=True)
class BackboneSpec:
    """One backbone of the registry.

    Attributes:
        build: Makes it, with weights from the random state at hand.
        relative_cost: Multiply-adds of a 64-pixel image, as a multiple of ResNet-18's 148 million.
        learning_rate_scale: What a learning rate that suits ResNet-18 is multiplied by for this one.
        smallest_side: Side in pixels of the smallest images that it takes.
    """

    build: Callable[[], Backbone]
    relative_cost: float
    learning_rate_scale: float = 1.0
    smallest_side: int = 16
