"""The small backbone."""

from torch import nn
from torchvision.models.resnet import BasicBlock, conv1x1

from mtlue_cli.networks.backbones.base import Backbone, maps_at


def build_small() -> Backbone:
    """ResNet-18 at half the width (32, 64, 128, 256 channels): a quarter of its multiply-adds.

    For surrogates on a CPU and for quick runs in CI.
    """
    stages: list[nn.Module] = [
        nn.Conv2d(3, 32, 7, stride=2, padding=3, bias=False),
        nn.BatchNorm2d(32),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(3, stride=2, padding=1),
    ]
    width = 32
    for planes, stride in ((32, 1), (64, 2), (128, 2), (256, 2)):
        shortcut = None
        if stride != 1 or width != planes:
            shortcut = nn.Sequential(conv1x1(width, planes, stride), nn.BatchNorm2d(planes))
        stages += [BasicBlock(width, planes, stride, shortcut), BasicBlock(planes, planes)]
        width = planes
    network = nn.Sequential(*stages, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    maps = maps_at({"2": 32, "5": 32, "7": 64, "9": 128, "11": 256}, vector="13")
    return Backbone(network, width, maps)
