"""ResNet-18 and ResNet-50."""

from torch import nn
from torchvision.models.resnet import resnet18, resnet50

from mtlue_cli.networks.backbones.base import Backbone, maps_at


def build_resnet18() -> Backbone:
    """ResNet-18 as torchvision has it, without the classification layer.

    Source:
        He et al., CVPR 2016. The stem keeps its stride: 64-pixel input reaches the last stage at 2x2.
    """
    network = resnet18(weights=None)
    network.fc = nn.Identity()
    maps = maps_at({"relu": 64, "layer1": 64, "layer2": 128, "layer3": 256, "layer4": 512}, vector="fc")
    return Backbone(network, 512, maps)


def build_resnet50() -> Backbone:
    """ResNet-50 as torchvision has it, without the classification layer.

    Source:
        He et al., CVPR 2016, with the stride of a bottleneck in its 3x3 convolution, as in torchvision. The stem keeps
        its stride, as in :func:`build_resnet18`: the two are to differ in depth and width only.
    """
    network = resnet50(weights=None)
    network.fc = nn.Identity()
    maps = maps_at({"relu": 64, "layer1": 256, "layer2": 512, "layer3": 1024, "layer4": 2048}, vector="fc")
    return Backbone(network, 2048, maps)
