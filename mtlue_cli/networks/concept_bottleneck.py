"""A residual concept bottleneck: one task's classes predicted from the outputs of the others and from free vectors."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from mtlue_cli.networks.multitask import ImageLevelNetwork, MultiTaskNetwork
from mtlue_cli.tasks.spec import TaskSet


class ConceptBottleneck(nn.Module):
    """In place of a network's heads: the classes of all other columns are concepts, from which the target is predicted.

    The concepts are learned from their own labels. The target is predicted from their logits by a linear layer, and a
    second one adds what ``residuals`` vectors find in the features: their cosines with these, scaled to unit variance.
    The target's loss trains both layers and the vectors, never the concepts or what lies below them.

    In training every other image is predicted from the concepts alone; of the rest only the residual part is trained.

    Source:
        Shang et al., "Incremental Residual Concept Bottleneck Models", CVPR 2024 (arXiv 2404.08978): base concepts,
        residual vectors in the feature space, and training in which neither part learns for the other. Deviations: the
        concepts are labelled columns, so their logits take the place of similarities of CLIP's image and text features,
        and the features are learned with them; no bank of candidate concepts is there to name the vectors with, so
        the incremental discovery is left out, and so is the penalty on the weights; features are standardised, since
        those behind a ReLU have nearly the same cosine with every vector.
    """

    def __init__(self, width: int, tasks: TaskSet, target: str, residuals: int) -> None:
        super().__init__()
        self.tasks, self.target = tasks, target
        self.others = TaskSet(tuple(task for task in tasks if task.name != target))
        concepts, classes = sum(task.num_classes for task in self.others), tasks[target].num_classes
        self.concepts = nn.Linear(width, concepts)
        self.base = nn.Linear(concepts, classes)
        self.residual = nn.Linear(residuals, classes)
        self.centre = nn.BatchNorm1d(width, affine=False)
        self.vectors = nn.Parameter(torch.randn(residuals, width))
        self._completes = True

    def forward(self, features: Tensor) -> Tensor:
        """Logits of all tasks in their order, ``(B, classes of all)``, from the shared features ``(B, D)``."""
        known = self.concepts(features)
        fixed = features.detach()
        # Nothing, with a gradient of zero: weightings take the gradient of every task at the features.
        base = self.base(known.detach()) + 0.0 * features.sum(dim=1, keepdim=True)
        logits = base
        if self._completes:
            cosines = (
                nn.functional.normalize(self.centre(fixed), dim=1) @ nn.functional.normalize(self.vectors, dim=1).T
            )
            completed = base.detach() + self.residual(cosines * fixed.shape[1] ** 0.5)
            alone = torch.arange(len(features), device=features.device) % 2 == 0
            logits = torch.where(alone.unsqueeze(1), base, completed) if self.training else completed
        parts = dict(
            zip(self.others.names, torch.split(known, [task.num_classes for task in self.others], dim=1), strict=True)
        )
        return torch.cat([parts.get(name, logits) for name in self.tasks.names], dim=1)

    @contextmanager
    def without_residuals(self) -> Iterator[None]:
        """Within, the target is predicted from the concepts alone."""
        self._completes = False
        try:
            yield
        finally:
            self._completes = True


def bottleneck_of(network: MultiTaskNetwork) -> ConceptBottleneck | None:
    """The concept bottleneck of a network; None: it has none."""
    heads = network.get_submodule("heads") if isinstance(network, ImageLevelNetwork) else None
    return heads if isinstance(heads, ConceptBottleneck) else None
