"""A release whose protection is known: random content and a fixed pattern a class of each task."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from mtlue_cli.tasks.spec import UNLABELLED
from mtlue_cli.verification.countermeasures.base import AttackerView
from tests.multitask_sample import TASKS

SIDE = 16
STRENGTH = 8


@dataclass(frozen=True)
class ToyRelease:
    """Originals without any content that depends on a label, and their protected versions.

    Attributes:
        originals, release: ``(N, 3, 16, 16)`` uint8.
        view: What an attacker has, without pairs.
    """

    originals: Tensor
    release: Tensor
    view: AttackerView

    @property
    def labels(self) -> dict[str, Tensor]:
        return dict(self.view.labels)


def make_release(count: int, seed: int = 0, *, unlabelled: float = 0.0, block: int = 1) -> ToyRelease:
    """Draw ``count`` images of grey noise; every class adds +-4 a colour value, so two tasks add up to 8 at most.

    Args:
        count: Images.
        seed: Of content and labels; the patterns are the same for all seeds.
        unlabelled: Share of cells that carry a pattern of no class and say nothing.
        block: Side of the patterns' squares in pixels.
    """
    rng = torch.Generator().manual_seed(seed)
    originals = (128 + 12 * torch.randn(count, 3, SIDE, SIDE, generator=rng)).round().clamp(60, 190)
    patterns = torch.Generator().manual_seed(1234)
    labels: dict[str, Tensor] = {}
    release = originals.clone()
    for task in TASKS:
        coarse = torch.randint(2, (task.num_classes, 3, SIDE // block, SIDE // block), generator=patterns) * 2.0 - 1.0
        signs = coarse.repeat_interleave(block, 2).repeat_interleave(block, 3)
        index = torch.randint(task.num_classes, (count,), generator=rng)
        index[torch.rand(count, generator=rng) < unlabelled] = UNLABELLED
        labels[task.name] = index
        release += signs[index.clamp_min(0)] * (STRENGTH / 2) * (index >= 0).view(-1, 1, 1, 1)
    view = AttackerView(labels, TASKS, None, SIDE, seed=0, device=torch.device("cpu"))
    return ToyRelease(originals.to(torch.uint8), release.to(torch.uint8), view)


def with_seed(view: AttackerView, seed: int) -> AttackerView:
    """The same attacker with other luck."""
    return replace(view, seed=seed)


def class_signal(images: Tensor, labels: dict[str, Tensor]) -> float:
    """Root mean square over pixels of the classes' mean images about their mean, in 255ths; the largest task's."""
    strengths = []
    for task in TASKS:
        means = torch.stack([images[labels[task.name] == index].double().mean(0) for index in range(task.num_classes)])
        strengths.append(float((means - means.mean(0)).square().mean().sqrt()))
    return max(strengths)
