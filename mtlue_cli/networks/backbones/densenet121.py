"""DenseNet-121."""

from torch import nn
from torchvision.models.densenet import densenet121

from mtlue_cli.networks.backbones.base import Backbone, maps_at


def build_densenet121() -> Backbone:
    """DenseNet-121 whose first convolution has stride 1, without the classification layer.

    With the original stride of 2, 64-pixel input would reach the third and fourth block, which hold 40 of the 58 dense
    layers, at 4x4 and 2x2 (at 32 pixels: 2x2 and 1x1, where a 3x3 convolution sees padding only). Stride 1 gives them
    8x8 and 4x4, at four times the multiply-adds. The pooling that follows stays.

    Parameters are called and shaped as in torchvision's ``densenet121``.

    Source:
        Huang et al., CVPR 2017.
    """
    network = densenet121(weights=None)
    network.features.conv0.stride = (1, 1)
    features = network.classifier.in_features
    network.classifier = nn.Identity()
    channels = {"relu0": 64, "denseblock1": 256, "denseblock2": 512, "denseblock3": 1024, "norm5": 1024}
    maps = maps_at({f"features.{name}": width for name, width in channels.items()}, vector="classifier")
    return Backbone(network, features, maps)
