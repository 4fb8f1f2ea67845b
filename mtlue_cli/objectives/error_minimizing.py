"""EM: error-minimising perturbations."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mtlue_cli.objectives.base import Objective
from mtlue_cli.tasks.losses import mean_loss, task_losses
from mtlue_cli.tasks.spec import TaskSet


@dataclass(frozen=True)
class ErrorMinimizingSettings:
    """How generator and surrogate take turns.

    Attributes:
        generator_steps: Generator steps in a turn.
        surrogate_steps: Surrogate steps on protected batches in the turn after it.
        restart_after: Surrogate steps after which it starts afresh with new weights; 0 never. A surrogate that has
            learned the shortcut has no loss left to teach the generator; a fresh one asks for what is learned first.
        learning_rate: Of the surrogate's Adam.
    """

    generator_steps: int = 10
    surrogate_steps: int = 4
    restart_after: int = 100
    learning_rate: float = 1e-3


class ErrorMinimizing(Objective):
    """The task loss itself: generator and surrogate minimise it in turns.

    Args:
        tasks: The tasks.
        fresh: Makes an untrained surrogate from a seed, on the device that training uses.
        settings: The turns.
        seed: Of the first surrogate's weights; each restart takes the next.

    Source:
        Huang et al., "Unlearnable Examples", ICLR 2021; generator form of Yu et al., ICML 2025. Deviations: turns of
        a few steps instead of an epoch, and a surrogate that restarts.
    """

    follows = "surrogate accuracy"

    def __init__(
        self,
        tasks: TaskSet,
        fresh: Callable[[int], nn.Module],
        settings: ErrorMinimizingSettings,
        seed: int,
    ) -> None:
        super().__init__(tasks)
        self.fresh, self.settings, self.seed = fresh, settings, seed
        self.trained_steps = 0
        self.restarts = 0
        self.surrogate, self.optimizer = self._fresh()

    def _fresh(self) -> tuple[nn.Module, torch.optim.Adam]:
        network = self.fresh(self.seed + self.restarts).train()
        return network, torch.optim.Adam(network.parameters(), self.settings.learning_rate)

    def targets(self, labels: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The true labels."""
        return dict(labels)

    def loss(self, protected: Tensor, labels: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Mean cross-entropy towards the true labels; batch statistics, as in the surrogate's own steps."""
        self.surrogate.requires_grad_(False)
        logits = self.surrogate(protected)
        self.surrogate.requires_grad_(True)
        return mean_loss(task_losses(logits, labels, self.tasks)), logits

    def surrogate_turn(self, generator_step: int) -> int:
        """:attr:`ErrorMinimizingSettings.surrogate_steps` after every turn of the generator, and before its first."""
        return self.settings.surrogate_steps if generator_step % self.settings.generator_steps == 0 else 0

    def train_surrogate(self, protected: Tensor, labels: Mapping[str, Tensor]) -> None:
        """One Adam step; a surrogate that reached its age is replaced first."""
        if self.settings.restart_after and self.trained_steps >= self.settings.restart_after * (self.restarts + 1):
            self.restarts += 1
            self.surrogate, self.optimizer = self._fresh()
        self.optimizer.zero_grad(set_to_none=True)
        loss = mean_loss(task_losses(self.surrogate(protected), labels, self.tasks))
        loss.backward()  # type: ignore[no-untyped-call]  # torch's stubs leave it untyped
        self.optimizer.step()
        self.trained_steps += 1

    def state_dict(self) -> dict[str, Any]:
        """Surrogate, optimiser and counters."""
        return {
            "surrogate": self.surrogate.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "trained_steps": self.trained_steps,
            "restarts": self.restarts,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on with the same surrogate."""
        self.trained_steps, self.restarts = int(state["trained_steps"]), int(state["restarts"])
        self.surrogate.load_state_dict(state["surrogate"])
        self.optimizer.load_state_dict(state["optimizer"])
