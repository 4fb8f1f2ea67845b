"""A small network that takes a perturbation out of images, and how it is trained."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from mtlue_cli.tasks.spec import TaskSet
from mtlue_cli.training.augment import apply_view, draw_crop
from mtlue_cli.verification.countermeasures.base import AttackerView

STRIDE = 8
"""Sides are filled up to multiples of this: one space-to-depth and two halvings."""

MAP_SIDE = 16
"""Side of the learned maps per class, which are scaled bilinearly to the image."""

Examples = Callable[[torch.Generator], tuple[Tensor, Tensor, Mapping[str, Tensor]]]
"""Draws a batch: perturbed images and their originals, ``(B, 3, S, S)`` float in [0, 1], and the labels that the
network sees, ``(B,)`` each, all on the network's device."""


def fit_remover(
    network: "RemoverNetwork",
    examples: Examples,
    view: AttackerView,
    *,
    steps: int,
    learning_rate: float,
    crop_share: float,
) -> "RemoverNetwork":
    """Train ``network`` to predict what was added to examples; left in evaluation mode, deterministic on a CPU.

    Adam, whose learning rate rises over the first twentieth of the steps and falls to zero, and the mean squared error
    of crops, whose side is ``crop_share`` of the image's, half of them flipped.
    """
    rng = torch.Generator().manual_seed(view.seed)
    optimizer = torch.optim.Adam(network.parameters(), learning_rate)
    warm = max(1, steps // 20)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / warm, max(0.0, (steps - step) / (steps - warm + 1)))
    )
    for step in range(steps):
        seen, target, known = examples(rng)
        size = seen.shape[-1]
        crop = min(size, max(STRIDE, round(size * crop_share / STRIDE) * STRIDE))
        crops = draw_crop(size, crop, len(seen), rng)
        predicted = network(apply_view(network.inputs(seen, known), crops, crop))
        # In units of the bound, so that the size of the gradient does not depend on epsilon.
        loss = ((predicted - apply_view(seen - target, crops, crop)) / network.bound).square().mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        schedule.step()
        view.report((step + 1) / steps)
    return network.eval()


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
    also reach the output directly, so that what is fixed for a class is learned in the first steps. Without tasks it
    sees pixels alone. The bound is the largest perturbation that it can predict, as a share of the whole scale.
    """

    def __init__(self, tasks: TaskSet | None, bound: float, width: int = 32, map_channels: int = 8) -> None:
        super().__init__()
        self.tasks = tasks
        self.bound = bound
        seen = 3 if tasks is None else 3 + map_channels
        if tasks is not None:
            rows = sum(task.num_classes for task in tasks)
            self.maps = nn.Parameter(0.1 * torch.randn(rows, map_channels, MAP_SIDE, MAP_SIDE))
            self.direct = nn.Conv2d(map_channels, 3, 1, bias=False)
        self.enter = _Block(4 * seen, width)
        self.first = _Block(width, width)
        self.down = nn.Sequential(_Block(width, 2 * width, stride=2), _Block(2 * width, 2 * width))
        self.bottom = nn.Sequential(_Block(2 * width, 4 * width, stride=2), _Block(4 * width, 4 * width))
        self.up = _Block(6 * width, 2 * width)
        self.last = _Block(3 * width, width)
        self.leave = nn.Conv2d(width, 12, 3, padding=1)
        nn.init.normal_(self.leave.weight, std=1e-2)

    def inputs(self, images: Tensor, labels: Mapping[str, Tensor]) -> Tensor:
        """Pixels and label maps ``(B, 3 + map_channels, S, S)`` of whole images, to be cropped and flipped together.

        Images are ``(B, 3, S, S)`` float in [0, 1]; labels are not read if it was built without tasks.
        """
        if self.tasks is None:
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
