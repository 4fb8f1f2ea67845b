"""Random loss weighting."""

from collections.abc import Mapping

import torch
from torch import Tensor

from mtlue_cli.weightings.base import Weighting
from mtlue_cli.weightings.random_stream import RandomStream


class RandomLossWeighting(Weighting):
    """Fresh weights at every step: the softmax of normal draws.

    Source:
        "RLW": Lin et al., "Reasonable Effectiveness of Random Weighting", TMLR 2022, with normal draws. The weights of
        the labelled tasks are scaled to sum to 1.
    """

    def __init__(self, tasks: int, seed: int) -> None:
        super().__init__(tasks, seed)
        from torchjd.aggregation import RandomWeighting

        self._draw = RandomWeighting()
        self._stream = RandomStream(seed)

    def backward(self, losses: Mapping[str, Tensor], features: Tensor) -> None:  # noqa: ARG002 - shared signature
        """Backpropagate the weighted sum."""
        values = torch.stack(list(losses.values()))
        with self._stream.drawing():
            weights: Tensor = self._draw(torch.empty(len(values), 0))
        weights = weights.to(values.device) * (values.detach() != 0)
        weights = weights / weights.sum().clamp_min(torch.finfo(weights.dtype).tiny)
        torch.autograd.backward((weights * values).sum())
