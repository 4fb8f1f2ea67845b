"""A small U-Net that predicts the perturbation of a protected image from the image and its published labels."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from mtlue_cli.tasks.spec import TaskSet

STRIDE = 8
"""Sides are filled up to multiples of this: one space-to-depth and two halvings."""

MAP_SIDE = 16
"""Side of the learned maps a class, which are scaled bilinearly to the image."""


class _Block(nn.Sequential):
    """3x3 convolution, group norm, ReLU. Group norm: an image's result does not depend on its batch."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__(
            nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1), nn.GroupNorm(8, outputs), nn.ReLU(inplace=True)
        )


class RemoverNetwork(nn.Module):
    """Residual U-Net on half-resolution pixels.

    Labels enter as the generators that it is to undo take them: every class of every task has a learned map, the maps
    of an image's classes are summed, scaled up and laid beside its pixels. An unlabelled task adds nothing. The maps
    also reach the output directly, so that what is fixed for a class is learned in the first steps.

    Args:
        tasks: The tasks whose labels are taken; None: pixels alone.
        bound: Largest perturbation that it can predict, as a share of the whole scale.
        width: Channels of the first stage, a multiple of 8.
        map_channels: Channels of the class maps.
    """

    def __init__(self, tasks: TaskSet | None, bound: float, width: int = 32, map_channels: int = 8) -> None:
        super().__init__()
        self.tasks = tasks
        self.bound = bound
        self.map_channels = map_channels if tasks is not None else 0
        if tasks is not None:
            rows = sum(task.num_classes for task in tasks)
            self.maps = nn.Parameter(0.1 * torch.randn(rows, map_channels, MAP_SIDE, MAP_SIDE))
            self.direct = nn.Conv2d(map_channels, 3, 1, bias=False)
        self.enter = _Block(4 * (3 + self.map_channels), width)
        self.first = _Block(width, width)
        self.down = nn.Sequential(_Block(width, 2 * width, stride=2), _Block(2 * width, 2 * width))
        self.bottom = nn.Sequential(_Block(2 * width, 4 * width, stride=2), _Block(4 * width, 4 * width))
        self.up = _Block(6 * width, 2 * width)
        self.last = _Block(3 * width, width)
        self.leave = nn.Conv2d(width, 12, 3, padding=1)
        nn.init.normal_(self.leave.weight, std=1e-2)

    def inputs(self, images: Tensor, labels: Mapping[str, Tensor] | None) -> Tensor:
        """Pixels and label maps of whole images, to be cropped and flipped together.

        Args:
            images: ``(B, 3, S, S)`` float in [0, 1].
            labels: Task name to ``(B,)`` int64, negative where unlabelled; None if it was built without tasks.

        Returns:
            ``(B, 3 + map_channels, S, S)`` float.
        """
        if self.tasks is None or labels is None:
            return images
        summed = images.new_zeros(len(images), *self.maps.shape[1:])
        start = 0
        for task in self.tasks:
            index = labels[task.name]
            known = (index >= 0).view(-1, 1, 1, 1)
            summed = summed + self.maps[start + index.clamp_min(0)] * known
            start += task.num_classes
        scaled = nn.functional.interpolate(summed, size=images.shape[-2:], mode="bilinear", align_corners=False)
        return torch.cat([images, scaled / len(self.tasks) ** 0.5], dim=1)

    def forward(self, inputs: Tensor) -> Tensor:
        """Predicted perturbation, ``(B, 3, H, W)`` within the bound, of what :meth:`inputs` gave (or crops of it)."""
        height, width = inputs.shape[-2:]
        filled = nn.functional.pad(inputs, (0, -width % STRIDE, 0, -height % STRIDE), mode="replicate")
        centred = torch.cat([(filled[:, :3] - 0.5) * 4.0, filled[:, 3:]], dim=1)
        fine = self.first(self.enter(nn.functional.pixel_unshuffle(centred, 2)))
        middle = self.down(fine)
        coarse = nn.functional.interpolate(self.bottom(middle), scale_factor=2.0, mode="nearest")
        middle = self.up(torch.cat([coarse, middle], dim=1))
        raised = nn.functional.interpolate(middle, scale_factor=2.0, mode="nearest")
        delta = nn.functional.pixel_shuffle(self.leave(self.last(torch.cat([raised, fine], dim=1))), 2)
        delta = delta[..., :height, :width]
        if self.tasks is not None:
            delta = delta + self.direct(inputs[:, 3:])
        return self.bound * torch.tanh(delta)
