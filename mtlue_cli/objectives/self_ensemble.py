"""SEP: self-ensemble protection."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mtlue_cli.objectives.base import Objective, freeze
from mtlue_cli.tasks.losses import mean_loss, task_losses
from mtlue_cli.tasks.spec import TaskSet
from mtlue_cli.tasks.targets import shifted_labels


@dataclass(frozen=True)
class SelfEnsembleSettings:
    """How the ensemble is used.

    Attributes:
        members_per_step: Members whose loss is averaged at each step; they are drawn in turn from a shuffled deck,
            so the expectation over steps is the mean over all members. 0 means all of them at every step.
    """

    members_per_step: int = 1


class SelfEnsemble(Objective):
    """TAP averaged over checkpoints of one clean training run.

    Args:
        tasks: The tasks.
        members: The checkpoints.
        settings: How many of them serve a step.
        seed: Of the order in which members are drawn.

    Source:
        Chen et al., "Self-Ensemble Protection", ICLR 2023; multi-task form of Yu et al., ICML 2025. Deviation: with
        ``members_per_step`` the mean over members is taken over steps instead of within each.
    """

    follows = "follows shifted labels"

    def __init__(self, tasks: TaskSet, members: Sequence[nn.Module], settings: SelfEnsembleSettings, seed: int) -> None:
        super().__init__(tasks)
        self.members = [freeze(member) for member in members]
        self.settings = settings
        self.rng = torch.Generator().manual_seed(seed)
        self.deck: list[int] = []

    def targets(self, labels: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Shifted labels."""
        return shifted_labels(labels, self.tasks)

    def loss(self, protected: Tensor, labels: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Mean over the members of this step; the logits are the mean of theirs."""
        targets = self.targets(labels)
        each = [self.members[index](protected) for index in self._draw()]
        losses = [mean_loss(task_losses(logits, targets, self.tasks)) for logits in each]
        mean_logits = {name: torch.stack([logits[name] for logits in each]).mean(dim=0) for name in each[0]}
        return torch.stack(losses).mean(), mean_logits

    def _draw(self) -> list[int]:
        count = len(self.members)
        wanted = min(self.settings.members_per_step or count, count)
        if len(self.deck) < wanted:
            self.deck = torch.randperm(count, generator=self.rng).tolist()
        drawn, self.deck = self.deck[:wanted], self.deck[wanted:]
        return drawn

    def state_dict(self) -> dict[str, Any]:
        """The deck and the random state that shuffles it."""
        return {"rng": self.rng.get_state(), "deck": list(self.deck)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on with the same draws."""
        self.rng.set_state(state["rng"])
        self.deck = list(state["deck"])
