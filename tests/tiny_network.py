"""Networks of a few thousand weights, for tests that train many of them."""

from dataclasses import replace
from typing import cast

import pytest
import torch
from torch import nn
from torchvision.models.resnet import BasicBlock, conv1x1

from mtlue_cli.choices import BackboneName
from mtlue_cli.networks import backbones
from mtlue_cli.networks.backbones import BACKBONES, Backbone, BackboneSpec, VisionTransformerOfAnySize, _maps_at
from mtlue_cli.networks.multitask import ImageLevelNetwork, MultiTaskNetwork
from mtlue_cli.tasks.spec import TaskSet


def build_tiny(backbone: BackboneName, tasks: TaskSet, seed: int) -> MultiTaskNetwork:
    """In place of ``build_network``: two convolutions, one with a bias, and batch normalisation, whatever is asked."""
    del backbone
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layers = nn.Sequential(
            nn.Conv2d(3, 6, 3, stride=2, bias=False),
            nn.BatchNorm2d(6),
            nn.LeakyReLU(),
            nn.Conv2d(6, 8, 3, stride=2),
            nn.LeakyReLU(),
            nn.AdaptiveAvgPool2d(2),
            nn.Flatten(),
        )
        return ImageLevelNetwork(Backbone(layers, 32), tasks)


def build_tiny_backbone() -> Backbone:
    """The stem and one residual block of ``small``, a quarter as wide: it learns as quickly, at a tenth of the time."""
    block = BasicBlock(8, 16, 2, nn.Sequential(conv1x1(8, 16, 2), nn.BatchNorm2d(16)))
    stem = (nn.Conv2d(3, 8, 7, stride=2, padding=3, bias=False), nn.BatchNorm2d(8), nn.ReLU(inplace=True))
    maps = _maps_at({"2": 8, "3": 16}, vector="5")
    return Backbone(nn.Sequential(*stem, block, nn.AdaptiveAvgPool2d(1), nn.Flatten()), 16, maps)


def make_small_tiny(patch: pytest.MonkeyPatch) -> None:
    """Let the backbone ``small`` be the tiny one: for tests of what is done with a network, not of the network."""
    spec = replace(BACKBONES[BackboneName.SMALL], build=build_tiny_backbone)
    patch.setitem(cast("dict[BackboneName, BackboneSpec]", BACKBONES), BackboneName.SMALL, spec)


class ShallowTransformer(VisionTransformerOfAnySize):
    """Two layers of the twelve, which are alike."""

    def __init__(self, **shape: int) -> None:
        super().__init__(**shape | {"num_layers": 2})


def make_transformer_shallow(patch: pytest.MonkeyPatch) -> None:
    """Let ``vit-b-16`` have two layers, where it is not the number of its layers that is tested."""
    patch.setattr(backbones, "VisionTransformerOfAnySize", ShallowTransformer)
