"""What every backbone gives to a multi-task network."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn
from torchvision.models.feature_extraction import create_feature_extractor

VECTOR = "vector"
"""What the vector is called beside feature maps; these are called ``map0``, the finest, ``map1`` and so on."""


@dataclass(frozen=True)
class FeatureMaps:
    """The feature maps that a backbone makes on the way to its vector.

    Attributes:
        channels: Of each, the finest map first.
        extract: Turns the network into one of the same parameters, under the same names, that gives vector and maps
            by name. The network itself is of no use afterwards.
    """

    channels: tuple[int, ...]
    extract: Callable[[nn.Module], nn.Module]


@dataclass(frozen=True)
class Backbone:
    """A network without its head, and the length of the vector that it gives.

    Attributes:
        network: ``(B, 3, S, S)`` images, S from 32 to 224 pixels, to ``(B, features)``.
        features: Length of that vector.
        maps: Its feature maps, for tasks that are labelled pixel by pixel; None: it has none to give.
    """

    network: nn.Module
    features: int
    maps: FeatureMaps | None = None


def maps_at(channels: dict[str, int], vector: str) -> FeatureMaps:
    """Feature maps that a network gives at some of its modules.

    Args:
        channels: Module to channels of what it gives, the finest first.
        vector: The last module.
    """
    nodes = {name: f"map{index}" for index, name in enumerate(channels)} | {vector: VECTOR}

    def extract(network: nn.Module) -> nn.Module:
        extractor: nn.Module = create_feature_extractor(network, nodes)
        return extractor

    return FeatureMaps(tuple(channels.values()), extract)


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
