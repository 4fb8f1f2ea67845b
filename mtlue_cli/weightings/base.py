"""What every task weighting offers to the training loop."""

from abc import ABC, abstractmethod
from collections.abc import Mapping

from torch import Tensor, nn


class Weighting(ABC, nn.Module):
    """Puts the losses of several tasks together into one update of a multi-task network.

    Its parameters, if it learns any, are trained beside the network's. One object belongs to one training run.

    A task without a labelled sample in the batch, whose loss is exactly 0, takes no part in that step: it gets no
    weight, and what the weighting remembers of it stays as it was.

    Args:
        tasks: Number of tasks.
        seed: Of whatever it draws.
    """

    def __init__(self, tasks: int, seed: int) -> None:
        super().__init__()
        self.tasks = tasks
        self.seed = seed

    @abstractmethod
    def backward(self, losses: Mapping[str, Tensor], features: Tensor) -> None:
        """Add the gradients of one step to the network's parameters.

        Args:
            losses: Task name to scalar; exactly 0 where no sample of the batch is labelled.
            features: The shared representation ``(B, D)`` that every loss depends on, in the graph of the network.
        """

    def new_epoch(self) -> None:
        """Called before the first step of every epoch."""
