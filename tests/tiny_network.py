"""A multi-task network of a few hundred weights, for tests that train many of them."""

import torch
from torch import nn

from mtlue_cli.choices import BackboneName
from mtlue_cli.networks.backbones import Backbone
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
