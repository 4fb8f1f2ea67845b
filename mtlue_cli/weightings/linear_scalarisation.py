"""Linear scalarisation: every task counts the same."""

from collections.abc import Mapping

import torch
from torch import Tensor

from mtlue_cli.weightings.base import Weighting


class LinearScalarisation(Weighting):
    """The unweighted mean of the losses.

    Source:
        "LS" of the multi-task literature, such as Yu et al., ICML 2025, table 5.
    """

    def backward(self, losses: Mapping[str, Tensor], features: Tensor) -> None:  # noqa: ARG002 - shared signature
        """Backpropagate the mean."""
        torch.stack(list(losses.values())).mean().backward()  # type: ignore[no-untyped-call]  # untyped in torch
