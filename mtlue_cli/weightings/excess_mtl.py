"""ExcessMTL."""

from dataclasses import dataclass

import torch
from torch import Tensor

from mtlue_cli.weightings.representation import RepresentationWeighting, TaskGradients


@dataclass(frozen=True)
class ExcessMTLSettings:
    """How it weighs.

    Attributes:
        step_size: Of the multiplicative update of the weights.
    """

    step_size: float = 0.01


def build_excess_mtl(tasks: int, seed: int, settings: ExcessMTLSettings | None = None) -> RepresentationWeighting:
    """Tasks with the largest estimated excess risk, relative to that of the first step, gain weight step by step.

    Source:
        He et al., "Robust Multi-Task Learning with Excess Risks", ICML 2024, equations 6 to 9. The diagonal second
        moment is that of the representation's gradient summed over the batch, ``(K, D)``, not of all parameters. A task
        that is not labelled in a batch counts with the gradient that it had last (the mean of the others before its
        first): zeros would ruin the baseline that later estimates are divided by.
    """
    return RepresentationWeighting(tasks, seed, _ExcessRisk(tasks, settings or ExcessMTLSettings()))


class _ExcessRisk:
    """Weights that go on from step to step."""

    def __init__(self, tasks: int, settings: ExcessMTLSettings) -> None:
        from torchjd.aggregation import ExcessMTLWeighting

        self._update = ExcessMTLWeighting(robust_step_size=settings.step_size)
        self._latest: dict[int, Tensor] = {}
        self._tasks = tasks

    def __call__(self, gradients: TaskGradients) -> Tensor:
        self._latest.update(zip(gradients.tasks, gradients.pooled, strict=True))
        typical = gradients.pooled.mean(dim=0)
        rows = [self._latest.get(task, typical) for task in range(self._tasks)]
        weights: Tensor = self._update(torch.stack(rows))
        return weights[list(gradients.tasks)]
