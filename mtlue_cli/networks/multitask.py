"""The multi-task network of surrogate and victim: one backbone and the heads of the tasks."""

from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torchvision.ops import FeaturePyramidNetwork

from mtlue_cli.choices import BackboneName
from mtlue_cli.devices import seeded
from mtlue_cli.errors import InputError
from mtlue_cli.networks.backbones import BACKBONES, VECTOR, Backbone
from mtlue_cli.tasks.kinds import span_of
from mtlue_cli.tasks.spec import TaskSet

SHARED_WIDTH = 256

DECODER_WIDTH = 64
"""Most channels of the decoder; never more than the finest map has: 64 on a backbone that begins with 32 would cost
twice as much as the backbone."""


class MultiTaskNetwork(nn.Module, ABC):
    """Images to one output per task, in the order of ``tasks``; ``shared`` lies between backbone and heads."""

    tasks: TaskSet
    backbone: nn.Module
    shared: nn.Module

    @abstractmethod
    def represent(self, images: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The shared features of all tasks, and the outputs, for ``(B, 3, S, S)`` float images in [0, 1].

        Returns:
            The representation ``(B, D)``, through which every output depends on the backbone, and task name to output:
            logits ``(B, C)``, or ``(B, channels, S, S)`` for a dense task.
        """

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """The outputs alone."""
        return self.represent(images)[1]


class ImageLevelNetwork(MultiTaskNetwork):
    """Backbone, a shared 256-wide layer with ReLU, and one linear head per task.

    The heads are one matrix, split by task: forty tasks cost one product.

    Source:
        Yu et al., ICML 2025, appendix: ResNet-18 with a shared 256-wide layer and linear heads.
    """

    def __init__(self, backbone: Backbone, tasks: TaskSet) -> None:
        super().__init__()
        self.tasks = tasks
        self.backbone = backbone.network
        self.shared = nn.Linear(backbone.features, SHARED_WIDTH)
        self.heads = nn.Linear(SHARED_WIDTH, sum(task.num_classes for task in tasks))

    def encode(self, images: Tensor) -> Tensor:
        """The backbone's features, ``(B, features)``."""
        features: Tensor = self.backbone(_centred(images))
        return features

    def classify(self, encoded: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The shared layer's output, ``(B, 256)``, and logits per task, from the backbone's features."""
        features = nn.functional.relu(self.shared(encoded))
        return features, _split(self.heads(features), self.tasks)

    def represent(self, images: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The shared layer's output, ``(B, 256)``, and logits per task."""
        return self.classify(self.encode(images))


class _Shared(nn.Module):
    """The decoder of all dense tasks, and the layer of all image-level tasks if there are any."""

    def __init__(self, channels: Sequence[int], features: int | None) -> None:
        super().__init__()
        self.decoder = DenseDecoder(channels)
        self.layer = None if features is None else nn.Linear(features, SHARED_WIDTH)


class MixedNetwork(MultiTaskNetwork):
    """For dense tasks: a decoder on the backbone's feature maps, beside the heads of image-level tasks if any.

    Image-level tasks have the shared layer and the heads of :class:`ImageLevelNetwork`, on the same encoder. The
    representation is the encoder's output: its vector, if a task needs it, and its feature maps.

    Raises:
        InputError: The backbone gives no feature maps.
    """

    def __init__(self, backbone: Backbone, tasks: TaskSet) -> None:
        super().__init__()
        if backbone.maps is None:
            raise InputError(
                "this backbone has no feature maps, so it cannot predict single pixels",
                [f"task {task.name} is labelled pixel by pixel ({task.kind.value})" for task in tasks.dense],
                "leave these tasks out, or use another --backbone",
            )
        self.tasks = tasks
        self.backbone = backbone.maps.extract(backbone.network)
        self.image_level = tasks.image_level
        self.shared: _Shared = _Shared(backbone.maps.channels, backbone.features if len(self.image_level) else None)
        self.dense_heads = DenseHeads(tasks.dense, self.shared.decoder.width)
        if len(self.image_level):
            self.heads = nn.Linear(SHARED_WIDTH, sum(task.num_classes for task in self.image_level))

    def represent(self, images: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Vector and feature maps of the encoder, and outputs per task."""
        found = self.backbone(_centred(images))
        vector = found.pop(VECTOR)
        handed = [found[f"map{index}"] for index in range(len(found))] + ([vector] if len(self.image_level) else [])
        joint = torch.cat([part.flatten(1) for part in handed], dim=1)
        parts = [
            flat.view(part.shape)
            for flat, part in zip(torch.split(joint, [part[0].numel() for part in handed], dim=1), handed, strict=True)
        ]
        outputs: dict[str, Tensor] = {}
        if self.shared.layer is not None:
            features = nn.functional.relu(self.shared.layer(parts.pop()))
            outputs |= _split(self.heads(features), self.image_level)
        outputs |= self.dense_heads(self.shared.decoder(parts), images.shape[-2:])
        return joint, {name: outputs[name] for name in self.tasks.names}


class DenseDecoder(nn.Module):
    """The decoder of all dense tasks: a feature pyramid, its levels summed at the finest map's size.

    ``channels`` are those of the feature maps, the finest first; the output has ``width``.

    Source:
        Lin et al., "Feature Pyramid Networks", CVPR 2017, as torchvision has it; levels summed as in Kirillov et al.,
        "Panoptic Feature Pyramid Networks", CVPR 2019, with one resizing per step instead of a convolution.
    """

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__()
        self.width = min(DECODER_WIDTH, channels[0])
        self.pyramid = FeaturePyramidNetwork(list(channels), self.width, norm_layer=nn.BatchNorm2d)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """``(B, width, h, w)`` of the size of ``maps[0]``."""
        levels = list(self.pyramid(OrderedDict((str(index), found) for index, found in enumerate(maps))).values())
        size = levels[0].shape[-2:]
        resized = [nn.functional.interpolate(level, size, mode="bilinear", align_corners=False) for level in levels[1:]]
        return torch.stack([levels[0], *resized]).sum(dim=0) if resized else levels[0]


class DenseHeads(nn.Module):
    """For every dense task a 3x3 and a 1x1 convolution of ``width`` channels, and a resize to the size of the image.

    A depth is predicted as an offset from the middle of its task's span, in halves of the span: the head starts in the
    middle of the data, whatever the unit.
    """

    def __init__(self, tasks: TaskSet, width: int) -> None:
        super().__init__()
        self.tasks = tasks
        self.heads = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(width, width, 3, padding=1, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(inplace=True),
                nn.Conv2d(width, task.channels, 1),
            )
            for task in tasks
        )

    def forward(self, features: Tensor, size: Sequence[int]) -> dict[str, Tensor]:
        """Task name to ``(B, channels, H, W)``, ``H`` and ``W`` as in ``size``."""
        outputs: dict[str, Tensor] = {}
        for task, head in zip(self.tasks, self.heads, strict=True):
            raw = nn.functional.interpolate(head(features), tuple(size), mode="bilinear", align_corners=False)
            if task.span is not None:
                low, high = span_of(task)
                # In float32: half precision has too few digits for a small difference of large depths.
                raw = (high + low) / 2 + (high - low) / 2 * raw.float()
            outputs[task.name] = raw
        return outputs


def build_network(backbone: BackboneName, tasks: TaskSet, seed: int) -> MultiTaskNetwork:
    """A fresh network whose weights depend on ``seed`` alone; the global random state is left as it was."""
    with seeded(seed):
        kind = MixedNetwork if len(tasks.dense) else ImageLevelNetwork
        return kind(BACKBONES[backbone].build(), tasks)


def _centred(images: Tensor) -> Tensor:
    return (images - 0.5) * 4.0


def _split(scores: Tensor, tasks: TaskSet) -> dict[str, Tensor]:
    return dict(zip(tasks.names, torch.split(scores, [task.num_classes for task in tasks], dim=1), strict=True))
