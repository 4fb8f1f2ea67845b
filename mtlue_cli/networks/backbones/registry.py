"""All backbones by name."""

from collections.abc import Mapping

from mtlue_cli.choices import BackboneName
from mtlue_cli.networks.backbones.base import BackboneSpec
from mtlue_cli.networks.backbones.densenet121 import build_densenet121
from mtlue_cli.networks.backbones.resnet import build_resnet18, build_resnet50
from mtlue_cli.networks.backbones.small import build_small
from mtlue_cli.networks.backbones.vgg16 import build_vgg16
from mtlue_cli.networks.backbones.vit_b_16 import build_vit_b_16

BACKBONES: Mapping[BackboneName, BackboneSpec] = {
    BackboneName.RESNET18: BackboneSpec(build_resnet18, relative_cost=1.0),
    BackboneName.RESNET50: BackboneSpec(build_resnet50, relative_cost=2.25),
    BackboneName.VGG16: BackboneSpec(build_vgg16, relative_cost=8.46, smallest_side=32),
    BackboneName.DENSENET121: BackboneSpec(build_densenet121, relative_cost=6.25),
    BackboneName.VIT_B_16: BackboneSpec(build_vit_b_16, relative_cost=38.1, learning_rate_scale=0.1),
    BackboneName.SMALL: BackboneSpec(build_small, relative_cost=0.266),
}
