"""From a backbone's feature maps to predictions of every pixel."""

from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torchvision.ops import FeaturePyramidNetwork

from mtlue_cli.tasks.kinds import span_of
from mtlue_cli.tasks.spec import TaskSet

WIDTH = 64
"""Most channels of the decoder; never more than the finest map has: 64 on a backbone that begins with 32 would cost
twice as much as the backbone."""


class DenseDecoder(nn.Module):
    """The decoder of all dense tasks: a feature pyramid, its levels summed at the finest map's size.

    A 64-pixel image gives a ResNet a finest map of 32 pixels per side and a coarsest of 2.

    Args:
        channels: Of the feature maps, the finest first.

    Attributes:
        width: Channels of its output.

    Source:
        Lin et al., "Feature Pyramid Networks", CVPR 2017, as torchvision has it; levels summed as in Kirillov et al.,
        "Panoptic Feature Pyramid Networks", CVPR 2019, with one resizing per step instead of a convolution.
    """

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__()
        self.width = min(WIDTH, channels[0])
        self.pyramid = FeaturePyramidNetwork(list(channels), self.width, norm_layer=nn.BatchNorm2d)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """``(B, width, h, w)`` of the size of ``maps[0]``."""
        levels = list(self.pyramid(OrderedDict((str(index), found) for index, found in enumerate(maps))).values())
        size = levels[0].shape[-2:]
        resized = [nn.functional.interpolate(level, size, mode="bilinear", align_corners=False) for level in levels[1:]]
        return torch.stack([levels[0], *resized]).sum(dim=0) if resized else levels[0]


class DenseHeads(nn.Module):
    """For every dense task a 3x3 convolution and a 1x1 one, and a bilinear resize to the size of the image.

    A depth is predicted as an offset from the middle of its task's span, in halves of the span: the head starts in the
    middle of the data, whatever the unit.

    Args:
        tasks: Dense tasks.
        width: Channels of the features they are predicted from.
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
