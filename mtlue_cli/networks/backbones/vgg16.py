"""VGG-16."""

from collections import OrderedDict

from torch import nn
from torchvision.models.vgg import cfgs, make_layers

from mtlue_cli.networks.backbones.base import Backbone, maps_at


def build_vgg16() -> Backbone:
    """The convolutions of VGG-16 with batch normalisation, averaged over the image.

    Two adaptations. Batch normalisation after each convolution, because thirteen plain ones do not train from scratch
    under the learning rate of the other backbones (the authors of VGG started theirs from a shallower network). The
    global average in place of the 7x7 grid and two 4096-wide layers: 64-pixel input leaves 2x2 positions, which that
    grid would repeat, and the two layers hold 120 of the network's 138 million parameters.

    Parameters are called as in torchvision's ``vgg16_bn``.

    Source:
        Simonyan and Zisserman, ICLR 2015, configuration D; Ioffe and Szegedy, ICML 2015; global average as in Lin et
        al., "Network in Network", ICLR 2014.
    """
    convolutions = make_layers(cfgs["D"], batch_norm=True)
    for module in convolutions.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    layers = OrderedDict(features=convolutions, pool=nn.AdaptiveAvgPool2d(1), flatten=nn.Flatten())
    # The last activations before each pooling.
    maps = maps_at(
        {"features.5": 64, "features.12": 128, "features.22": 256, "features.32": 512, "features.42": 512},
        vector="flatten",
    )
    return Backbone(nn.Sequential(layers), 512, maps)
