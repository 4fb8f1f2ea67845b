"""Dynamic weight average."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from mtlue_cli.weightings.base import Weighting


@dataclass(frozen=True)
class DynamicWeightAverageSettings:
    """How it weighs.

    Attributes:
        temperature: Of the softmax over the rates of descent; the larger, the more even the weights.
    """

    temperature: float = 2.0


class DynamicWeightAverage(Weighting):
    """Tasks whose loss fell least over the last two epochs weigh most; the first two epochs weigh all alike.

    Source:
        "DWA": Liu, Johns and Davison, "End-to-End Multi-Task Learning with Attention", CVPR 2019, equation 7. Weights
        are divided by the number of tasks, so that even weights are linear scalarisation. A task that is not labelled
        in a batch counts in the epoch's mean with the loss it had last (1 before its first).
    """

    def __init__(self, tasks: int, seed: int, settings: DynamicWeightAverageSettings | None = None) -> None:
        super().__init__(tasks, seed)
        from torchjd.scalarization import DWA

        self._combine = DWA((settings or DynamicWeightAverageSettings()).temperature)
        self.register_buffer("latest", torch.ones(tasks), persistent=False)
        self.latest: Tensor

    def backward(self, losses: Mapping[str, Tensor], features: Tensor) -> None:  # noqa: ARG002 - shared signature
        """Backpropagate the weighted mean."""
        values = torch.stack(list(losses.values()))
        values = torch.where(values.detach() == 0, self.latest, values)
        self.latest = values.detach()
        torch.autograd.backward(self._combine(values) / self.tasks)

    def new_epoch(self) -> None:
        """Close the epoch that ended, if there was one."""
        self._combine.step()
