"""Training from scratch."""

from collections.abc import Callable, Iterator

from torch import Tensor

from mtlue_cli.networks.multitask import MultiTaskNetwork
from mtlue_cli.training.methods.base import TrainingMethod


class FromScratch(TrainingMethod):
    """Every parameter, from its random start."""

    def prepare(self, network: MultiTaskNetwork, sample_losses: Callable[[], Iterator[Tensor]]) -> None:
        """Leave the network as it is."""
