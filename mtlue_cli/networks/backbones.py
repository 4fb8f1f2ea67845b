"""Backbones: images to a feature vector. One function per network, and a registry."""

import math
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torchvision.models.densenet import densenet121
from torchvision.models.feature_extraction import create_feature_extractor
from torchvision.models.resnet import BasicBlock, conv1x1, resnet18, resnet50
from torchvision.models.vgg import cfgs, make_layers
from torchvision.models.vision_transformer import VisionTransformer

from mtlue_cli.choices import BackboneName

VECTOR = "vector"
"""Name of the vector beside feature maps; these are called ``map0``, the finest, ``map1`` and so on."""

PATCH = 16
"""Side of a patch of ViT-B/16 in pixels."""

NATIVE_GRID = 14
"""Patches per side in its table of position embeddings: those of 224 pixels."""


class FeatureMaps(NamedTuple):
    """The feature maps that a backbone makes before its vector: the channels of each, the finest first.

    ``extract`` turns the network into one of the same parameters, under the same names, that gives vector and maps by
    name. The network itself is of no use afterwards.
    """

    channels: tuple[int, ...]
    extract: Callable[[nn.Module], nn.Module]


class Backbone(NamedTuple):
    """A network without its head: ``(B, 3, S, S)`` images, S from 32 to 224 pixels, to ``(B, features)``.

    Dense tasks need its feature maps; None: it has none.
    """

    network: nn.Module
    features: int
    maps: FeatureMaps | None = None


@dataclass(frozen=True)
class BackboneSpec:
    """How a backbone is made, with weights from the global random state.

    ``relative_cost`` is that of a 64-pixel image, as a multiple of ResNet-18's 148 million multiply-adds,
    ``learning_rate_scale`` a factor on a learning rate that suits ResNet-18, ``smallest_side`` that of images in
    pixels.
    """

    build: Callable[[], Backbone]
    relative_cost: float
    learning_rate_scale: float = 1.0
    smallest_side: int = 16


def build_resnet(network: nn.Module, first: int) -> Backbone:
    """A ResNet of torchvision without the classification layer; ``first`` is the width of its first stage.

    Source:
        He et al., CVPR 2016, with the stride of a bottleneck in its 3x3 convolution, as in torchvision. The stem keeps
        its stride: 64-pixel input reaches the last stage at 2x2.
    """
    network.fc = nn.Identity()
    widths = {f"layer{stage}": first * 2 ** (stage - 1) for stage in (1, 2, 3, 4)}
    return Backbone(network, widths["layer4"], _maps_at({"relu": 64, **widths}, vector="fc"))


def build_resnet18_small_stem() -> Backbone:
    """ResNet-18 for small images: a first convolution of 3x3 with stride 1 and no pooling behind it.

    It sees each pixel, where the usual stem of stride 4 sees averages: published figures for unlearnable images differ
    by tens of per cent between the two. Fifteen times the multiply-adds at the same size.

    Source:
        He et al., CVPR 2016, section 4.2, with the four stages of ResNet-18.
    """
    network = resnet18(weights=None)
    network.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
    nn.init.kaiming_normal_(network.conv1.weight, mode="fan_out", nonlinearity="relu")
    network.maxpool = nn.Identity()
    return build_resnet(network, 64)


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
    _start_convolutions(network)
    maps = _maps_at({"2": 32, "5": 32, "7": 64, "9": 128, "11": 256}, vector="13")
    return Backbone(network, width, maps)


def build_vgg16() -> Backbone:
    """The convolutions of VGG-16 with batch normalisation, averaged over the image.

    Two adaptations: batch normalisation, because thirteen plain convolutions do not train from scratch under the
    learning rate of the other backbones; and the global average in place of the 7x7 grid and two 4096-wide layers, as
    64-pixel input leaves 2x2 positions. Parameters are called as in torchvision's ``vgg16_bn``.

    Source:
        Simonyan and Zisserman, ICLR 2015, configuration D; Ioffe and Szegedy, ICML 2015; global average as in Lin et
        al., "Network in Network", ICLR 2014.
    """
    convolutions = make_layers(cfgs["D"], batch_norm=True)
    _start_convolutions(convolutions)
    layers = OrderedDict(features=convolutions, pool=nn.AdaptiveAvgPool2d(1), flatten=nn.Flatten())
    channels = {5: 64, 12: 128, 22: 256, 32: 512, 42: 512}  # the last activations before each pooling
    maps = _maps_at({f"features.{layer}": width for layer, width in channels.items()}, vector="flatten")
    return Backbone(nn.Sequential(layers), 512, maps)


def build_densenet121() -> Backbone:
    """DenseNet-121 whose first convolution has stride 1, without the classification layer.

    With the original stride of 2, 64-pixel input would reach the third and fourth block, which hold 40 of the 58 dense
    layers, at 4x4 and 2x2; stride 1 gives them 8x8 and 4x4, at four times the multiply-adds. Parameters are called and
    shaped as in torchvision's ``densenet121``.

    Source:
        Huang et al., CVPR 2017.
    """
    network = densenet121(weights=None)
    network.features.conv0.stride = (1, 1)
    features = network.classifier.in_features
    network.classifier = nn.Identity()
    channels = {"relu0": 64, "denseblock1": 256, "denseblock2": 512, "denseblock3": 1024, "norm5": 1024}
    maps = _maps_at({f"features.{name}": width for name, width in channels.items()}, vector="classifier")
    return Backbone(network, features, maps)


def build_vit_b_16() -> Backbone:
    """ViT-B/16 without the classification layer, adapted to images of 32 to 224 pixels.

    Images of up to 112 pixels are enlarged twofold (:func:`patches_a_side`). Parameters are called and shaped as in
    torchvision's ``vit_b_16``. It is given a tenth of the other backbones' learning rate: the loop has no warm-up, and
    at 1e-3 the loss on a toy set rose to 2.5 before it fell; at 1e-4 it fell from the start.

    Source:
        Dosovitskiy et al., ICLR 2021; position embeddings interpolated as in its section 3.2.
    """
    network = VisionTransformerOfAnySize(
        image_size=NATIVE_GRID * PATCH, patch_size=PATCH, num_layers=12, num_heads=12, hidden_dim=768, mlp_dim=3072
    )
    network.heads = nn.Identity()
    return Backbone(network, 768, FeatureMaps((768,), _giving_maps))


def patches_a_side(side: int) -> int:
    """Patches along one side of an image of ``side`` pixels: up to 112 pixels one for every 8, above one for every 16.

    So 32 pixels give 4, 64 give 8, 112 and 224 both give 14. A side that no patch divides is rounded to the next one.
    """
    pixels_a_patch = PATCH if side > NATIVE_GRID * PATCH // 2 else PATCH // 2
    return max(1, round(side / pixels_a_patch))


class Halving(nn.Module):
    """Halves values: the networks here scale pixels to [-2, 2], this one was trained on [-1, 1]."""

    def forward(self, images: Tensor) -> Tensor:
        """The same shape."""
        return images / 2


class InvertedResidual(nn.Module):
    """Expansion by 1x1, a convolution per channel, projection by 1x1; added to the input where shapes allow.

    Source:
        Sandler et al., "MobileNetV2", CVPR 2018; no squeeze and excitation, ReLU6, as in EfficientNet-Lite.
    """

    def __init__(self, width: int, output: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = width * expansion
        layers = _convolution(width, inner, 1, activation=True) if expansion > 1 else []
        layers += _convolution(inner, inner, kernel, stride, groups=inner, activation=True)
        self.layers = nn.Sequential(*layers, *_convolution(inner, output, 1))
        self.is_residual = stride == 1 and width == output

    def forward(self, features: Tensor) -> Tensor:
        """``(B, width, H, W)`` to ``(B, output, H / stride, W / stride)``."""
        changed: Tensor = self.layers(features)
        return features + changed if self.is_residual else changed


def _convolution(
    width: int, output: int, kernel: int, stride: int = 1, *, groups: int = 1, activation: bool = False
) -> list[nn.Module]:
    """A convolution with batch normalisation, padded as in TensorFlow: an even side of stride 2 has more at its end."""
    reach = kernel // 2
    padding: list[nn.Module] = [] if stride == 1 else [nn.ZeroPad2d((reach - 1, reach, reach - 1, reach))]
    convolution = nn.Conv2d(width, output, kernel, stride, 0 if padding else reach, groups=groups, bias=False)
    normalised = [*padding, convolution, nn.BatchNorm2d(output, eps=1e-3, momentum=0.01)]
    return [*normalised, nn.ReLU6()] if activation else normalised


EFFICIENTNET_LITE0_STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
"""Of each stage: blocks, kernel, stride of its first block, expansion, channels."""


def build_efficientnet_lite(width: float = 1.0, depth: float = 1.0) -> Backbone:
    """EfficientNet-Lite without dropout and classification layer; with both factors 1 it is Lite0.

    The stem keeps its stride, as that of a ResNet: 64-pixel input reaches the last stage at 2x2. Parameters come
    in the order of the published weights, see :func:`~mtlue_cli.training.pretrained.load_packaged`.

    Args:
        width: Factor on the channels of all stages, which are rounded to multiples of 8.
        depth: Factor on the blocks of all stages but the first and the last; rounded up.

    Source:
        Tan and Le, "EfficientNet", ICML 2019; Lite variants of Google, 2020: no squeeze and excitation, ReLU6.
    """
    stages: list[nn.Module] = [nn.Sequential(*_convolution(3, 32, 3, 2, activation=True))]
    channels = [32]
    last = len(EFFICIENTNET_LITE0_STAGES) - 1
    for number, (blocks, kernel, stride, expansion, output) in enumerate(EFFICIENTNET_LITE0_STAGES):
        scaled = 8 * int(width * output / 8 + 0.5)
        repeated = (blocks if number in (0, last) else math.ceil(depth * blocks)) - 1
        first = InvertedResidual(channels[-1], scaled, kernel, stride, expansion)
        others = (InvertedResidual(scaled, scaled, kernel, 1, expansion) for _ in range(repeated))
        stages.append(nn.Sequential(first, *others))
        channels.append(scaled)
    head = nn.Sequential(*_convolution(channels[-1], 1280, 1, activation=True))
    network = nn.Sequential(Halving(), *stages, head, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    _start_convolutions(network)
    maps = _maps_at({str(1 + stage): channels[stage] for stage in (1, 2, 3, 5, 7)}, vector="11")
    return Backbone(network, 1280, maps)


class VisionTransformerOfAnySize(VisionTransformer):  # type: ignore[misc]  # torchvision has no types
    """torchvision's vision transformer, for square images of any size.

    An image is scaled bilinearly to a whole number of patches, the position embeddings to its grid of patches. If it
    ``gives_maps``, it gives the tokens of the patches too, as one feature map beside its vector.
    """

    gives_maps = False

    def forward(self, images: Tensor) -> Tensor | dict[str, Tensor]:
        """Class token after the last layer, ``(B, 768)``, of ``(B, 3, S, S)`` images; maps as :attr:`gives_maps`."""
        grid = patches_a_side(images.shape[-1])
        side = grid * PATCH
        if images.shape[-1] != side:
            images = nn.functional.interpolate(images, size=(side, side), mode="bilinear", align_corners=False)
        patches = self.conv_proj(images).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.class_token.expand(len(images), -1, -1), patches], dim=1)
        encoder = self.encoder
        tokens = encoder.dropout(tokens + _positions_of(encoder.pos_embedding, grid))
        encoded: Tensor = encoder.ln(encoder.layers(tokens))
        if not self.gives_maps:
            return encoded[:, 0]
        return {VECTOR: encoded[:, 0], "map0": encoded[:, 1:].transpose(1, 2).reshape(len(images), -1, grid, grid)}


def _giving_maps(network: nn.Module) -> nn.Module:
    assert isinstance(network, VisionTransformerOfAnySize)
    network.gives_maps = True
    return network


def _positions_of(table: Tensor, grid: int) -> Tensor:
    """Position embeddings ``(1, 1 + grid**2, D)`` from a table of the native grid; the class token keeps its own."""
    if grid == NATIVE_GRID:
        return table
    token, plane = table[:, :1], table[:, 1:]
    plane = plane.transpose(1, 2).reshape(1, -1, NATIVE_GRID, NATIVE_GRID)
    plane = nn.functional.interpolate(plane, size=(grid, grid), mode="bilinear", align_corners=False)
    return torch.cat([token, plane.flatten(2).transpose(1, 2)], dim=1)


def _maps_at(channels: Mapping[str, int], vector: str) -> FeatureMaps:
    """Feature maps at some modules of a network: module to channels, the finest first, and the last module."""
    nodes = {name: f"map{index}" for index, name in enumerate(channels)} | {vector: VECTOR}

    def extract(network: nn.Module) -> nn.Module:
        extractor: nn.Module = create_feature_extractor(network, nodes)
        return extractor

    return FeatureMaps(tuple(channels.values()), extract)


def _start_convolutions(network: nn.Module) -> None:
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)


BACKBONES: Mapping[BackboneName, BackboneSpec] = {
    BackboneName.RESNET18: BackboneSpec(lambda: build_resnet(resnet18(weights=None), 64), relative_cost=1.0),
    BackboneName.RESNET18_SMALL_STEM: BackboneSpec(build_resnet18_small_stem, relative_cost=15.0),
    BackboneName.RESNET50: BackboneSpec(lambda: build_resnet(resnet50(weights=None), 256), relative_cost=2.25),
    BackboneName.VGG16: BackboneSpec(build_vgg16, relative_cost=8.46, smallest_side=32),
    BackboneName.DENSENET121: BackboneSpec(build_densenet121, relative_cost=6.25),
    BackboneName.VIT_B_16: BackboneSpec(build_vit_b_16, relative_cost=38.1, learning_rate_scale=0.1),
    BackboneName.SMALL: BackboneSpec(build_small, relative_cost=0.266),
    BackboneName.EFFICIENTNET_LITE0: BackboneSpec(build_efficientnet_lite, relative_cost=0.212, smallest_side=32),
    BackboneName.EFFICIENTNET_LITE2: BackboneSpec(
        lambda: build_efficientnet_lite(1.1, 1.2), relative_cost=0.317, smallest_side=32
    ),
}
