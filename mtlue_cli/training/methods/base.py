"""What every training method offers to the training loop."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator

from torch import Tensor

from mtlue_cli.networks.multitask import MultiTaskNetwork


class TrainingMethod(ABC):
    """Decides where a network starts from and which of its parameters change. One object, one training run."""

    @abstractmethod
    def prepare(self, network: MultiTaskNetwork, sample_losses: Callable[[], Iterator[Tensor]]) -> None:
        """Load what it starts from, freeze what is not trained (``requires_grad``), choose what is.

        Args:
            network: Fresh, on its device.
            sample_losses: Mean task losses of the batches of one pass, in the network's graph: for choices by gradient.
        """

    def train_mode(self, network: MultiTaskNetwork) -> None:
        """Called at the start of every epoch: which modules are in training mode."""
        network.train()

    def before_step(self, network: MultiTaskNetwork) -> None:
        """Called between the gradients and the optimiser's step: mask what must not change."""
        del network

    def after_step(self, network: MultiTaskNetwork) -> None:
        """Called after the optimiser's step: put back what it changed all the same."""
        del network
