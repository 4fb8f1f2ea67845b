"""Weightings that weigh the losses themselves; a step costs what plain training costs."""

from collections.abc import Mapping

import torch
from torch import Tensor

from mtlue_cli.weightings.base import RandomStream, Weighting


class LinearScalarisation(Weighting):
    """The unweighted mean of the losses: "LS" of the multi-task literature, such as Yu et al., ICML 2025, table 5."""

    def backward(self, losses: Mapping[str, Tensor], features: Tensor) -> None:  # noqa: ARG002 - shared signature
        """Backpropagate the mean."""
        torch.stack(list(losses.values())).mean().backward()  # type: ignore[no-untyped-call]  # untyped in torch


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


class RandomLossWeighting(Weighting):
    """Fresh weights at every step: the softmax of normal draws.

    Source:
        "RLW": Lin et al., "Reasonable Effectiveness of Random Weighting", TMLR 2022, with normal draws. The weights of
        the labelled tasks are scaled to sum to 1.
    """

    def __init__(self, tasks: int, seed: int) -> None:
        super().__init__(tasks, seed)
        from torchjd.aggregation import RandomWeighting

        self._draw, self._stream = RandomWeighting(), RandomStream(seed)

    def backward(self, losses: Mapping[str, Tensor], features: Tensor) -> None:  # noqa: ARG002 - shared signature
        """Backpropagate the weighted sum."""
        values = torch.stack(list(losses.values()))
        with self._stream.drawing():
            weights: Tensor = self._draw(torch.empty(len(values), 0))
        weights = weights.to(values.device) * (values.detach() != 0)
        weights = weights / weights.sum().clamp_min(torch.finfo(weights.dtype).tiny)
        torch.autograd.backward((weights * values).sum())


class DynamicWeightAverage(Weighting):
    """Tasks whose loss fell least over the last two epochs weigh most; the first two epochs weigh all alike.

    Source:
        "DWA": Liu, Johns and Davison, "End-to-End Multi-Task Learning with Attention", CVPR 2019, equation 7. Weights
        are divided by the number of tasks, so that even weights are linear scalarisation. A task that is not labelled
        in a batch counts in the epoch's mean with the loss it had last (1 before its first). The larger the
        ``temperature`` of the softmax over the rates of descent, the more even the weights.
    """

    def __init__(self, tasks: int, seed: int, temperature: float = 2.0) -> None:
        super().__init__(tasks, seed)
        from torchjd.scalarization import DWA

        self._combine = DWA(temperature)
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
