"""The multi-task network of surrogate and victim: backbone, shared layer, a linear head a task."""

import torch
from torch import Tensor, nn

from mtlue_cli.choices import BackboneName
from mtlue_cli.networks.backbones.base import Backbone
from mtlue_cli.networks.backbones.registry import BACKBONES
from mtlue_cli.tasks.spec import TaskSet

SHARED_WIDTH = 256


class MultiTaskNetwork(nn.Module):
    """Backbone, a shared 256-wide layer with ReLU, and a linear head a task.

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

    def features(self, images: Tensor) -> Tensor:
        """The representation that all heads share, ``(B, 256)``, of ``(B, 3, H, W)`` images in [0, 1]."""
        return nn.functional.relu(self.shared(self.backbone((images - 0.5) * 4.0)))

    def scores(self, features: Tensor) -> dict[str, Tensor]:
        """Logits a task, ``(B, C)``, of what :meth:`features` gave."""
        scores = self.heads(features).split([task.num_classes for task in self.tasks], dim=1)
        return dict(zip(self.tasks.names, scores, strict=True))

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Logits a task, ``(B, C)``, of ``(B, 3, H, W)`` images in [0, 1]."""
        return self.scores(self.features(images))


def build_network(backbone: BackboneName, tasks: TaskSet, seed: int) -> MultiTaskNetwork:
    """A fresh network whose weights depend on ``seed`` alone; the global random state is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return MultiTaskNetwork(BACKBONES[backbone].build(), tasks)
