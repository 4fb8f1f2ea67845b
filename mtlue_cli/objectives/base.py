"""What every base objective offers to the generator's training loop."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from mtlue_cli.tasks.losses import count_correct
from mtlue_cli.tasks.spec import TaskSet


class Objective(ABC):
    """``L_base``: how well protected images serve their purpose with a surrogate.

    A surrogate is any module that maps ``(B, 3, H, W)`` images in [0, 1] to task name and output: ``(B, C)`` logits, or
    maps for tasks that label every pixel (:mod:`mtlue_cli.tasks.kinds`).

    Attributes:
        tasks: The tasks that the surrogate knows.
        follows: What :meth:`agreement` counts, in words for a progress line.
    """

    follows: str

    def __init__(self, tasks: TaskSet) -> None:
        self.tasks = tasks

    @abstractmethod
    def loss(self, protected: Tensor, labels: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """The generator's loss on one batch, and the surrogate's outputs.

        Args:
            protected: ``(B, 3, H, W)`` float in [0, 1], as a victim would crop it.
            labels: Task name to true class indices, ``(B,)``, negative where unlabelled, or to label maps.
        """

    @abstractmethod
    def targets(self, labels: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The labels that the surrogate should see in a protected image."""

    def step_surrogate(self) -> None:  # noqa: B027
        """Called after each generator step: a surrogate that learns beside it takes its own; others are frozen."""

    def agreement(self, logits: Mapping[str, Tensor], labels: Mapping[str, Tensor]) -> float:
        """Share of labelled cells, over all tasks, where the surrogate says :meth:`targets`."""
        counts = count_correct(logits, self.targets(labels), self.tasks).values()
        return sum(correct for correct, _ in counts) / max(1, sum(known for _, known in counts))

    def state_dict(self) -> dict[str, Any]:
        """What must be kept to go on after an interruption; tensors and plain values only."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:  # noqa: B027
        """Take up what :meth:`state_dict` gave."""


def freeze(surrogate: nn.Module) -> nn.Module:
    """The surrogate in evaluation mode with no gradient towards its weights."""
    return surrogate.eval().requires_grad_(False)
