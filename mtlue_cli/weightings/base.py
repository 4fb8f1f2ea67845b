"""What every task weighting offers to the training loop, and a random stream for those that draw."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class Weighting(ABC, nn.Module):
    """Puts the losses of several tasks together into one update of a multi-task network.

    Its parameters, if it learns any, are trained beside the network's. One object belongs to one training run.

    A task without a labelled sample in the batch, whose loss is exactly 0, takes no part in that step: it gets no
    weight, and what the weighting remembers of it stays as it was. The seed is that of whatever it draws.
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


class RandomStream:
    """Lends its own state to the global generator of the CPU, which TorchJD draws from, and puts the old one back."""

    def __init__(self, seed: int) -> None:
        self._state = torch.Generator().manual_seed(seed).get_state()

    @contextmanager
    def drawing(self) -> Iterator[None]:
        """Within, global draws on the CPU come from this stream; each use continues where the last one ended."""
        with torch.random.fork_rng(devices=[]):
            torch.set_rng_state(self._state)
            yield
            self._state = torch.get_rng_state()
