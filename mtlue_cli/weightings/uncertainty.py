"""Uncertainty weighting."""

from collections.abc import Mapping

import torch
from torch import Tensor

from mtlue_cli.weightings.base import Weighting


class UncertaintyWeighting(Weighting):
    """Learns a log-variance ``s`` for every task: the loss is the sum of ``exp(-s) L / 2 + s / 2``.

    Source:
        "UW": Kendall, Gal and Cipolla, CVPR 2018, in the form with learned log-variances, which start at 0.
    """

    def __init__(self, tasks: int, seed: int) -> None:
        super().__init__(tasks, seed)
        from torchjd.scalarization import UW

        self.combine = UW(tasks)

    def backward(self, losses: Mapping[str, Tensor], features: Tensor) -> None:  # noqa: ARG002 - shared signature
        """Backpropagate into the network and into the log-variances."""
        values = torch.stack(list(losses.values()))
        absent = values.detach() == 0
        # Without its loss, the regularising term alone would go on raising the weight of an unlabelled task.
        unopposed = torch.where(absent, 0.5 * self.combine.log_var, 0.0).sum()
        torch.autograd.backward(self.combine(values) - unopposed)
