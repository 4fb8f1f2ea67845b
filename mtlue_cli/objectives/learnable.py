"""Learnability: any objective, plus what a fresh network can still not read off the perturbation."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from mtlue_cli.objectives.base import Objective
from mtlue_cli.objectives.error_minimizing import ErrorMinimizing


class Learnable(Objective):
    """``main + weight * EM``: mislead a clean surrogate and be learned at once by a fresh one.

    A victim is misled only by a shortcut that it has learned. Targeted poisoning alone leaves a task with many classes
    hard to read; an error-minimising companion, whose surrogate restarts again and again, asks for what a fresh network
    picks up first.

    Args:
        main: The objective whose targets and agreement are reported.
        companion: The error-minimising part, with its own surrogate.
        weight: Of the companion's loss.

    Source:
        Ours; the two parts are those of Yu et al., ICML 2025, there used one at a time.
    """

    def __init__(self, main: Objective, companion: ErrorMinimizing, weight: float) -> None:
        super().__init__(main.tasks)
        self.main, self.companion, self.weight = main, companion, weight
        self.follows = main.follows

    def targets(self, labels: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Those of the main objective."""
        return self.main.targets(labels)

    def loss(self, protected: Tensor, labels: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """The weighted sum, and the main surrogate's logits."""
        base, logits = self.main.loss(protected, labels)
        learned, _ = self.companion.loss(protected, labels)
        return base + self.weight * learned, logits

    def step_surrogate(self) -> None:
        """The companion's; the main surrogate is frozen."""
        self.companion.step_surrogate()

    def state_dict(self) -> dict[str, Any]:
        """Of both parts."""
        return {"main": self.main.state_dict(), "companion": self.companion.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on with both parts."""
        self.main.load_state_dict(state["main"])
        self.companion.load_state_dict(state["companion"])
