"""Base objectives that a generator is trained on: EM, TAP and SEP.

A surrogate is any module that maps ``(B, 3, H, W)`` images in [0, 1] to task name and output: ``(B, C)`` logits, or
maps for dense tasks (:mod:`mtlue_cli.tasks.kinds`).
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mtlue_cli.choices import ObjectiveName
from mtlue_cli.devices import ALONE, Processes
from mtlue_cli.tasks.losses import count_correct, mean_loss, shifted_labels, task_losses
from mtlue_cli.tasks.spec import TaskSet

RUNNING_SHARE = 0.9
"""Share of the running mean of the loss that a step keeps."""


class Objective(ABC):
    """``L_base``: how well protected images serve their purpose with a surrogate that knows ``tasks``."""

    def __init__(self, tasks: TaskSet) -> None:
        self.tasks = tasks

    @abstractmethod
    def loss(self, protected: Tensor, labels: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """The generator's loss on one batch, and the surrogate's outputs.

        Args:
            protected: ``(B, 3, H, W)`` float in [0, 1], as a victim would crop it.
            labels: Task name to true class indices, ``(B,)``, negative where unlabelled, or to label maps.
        """

    def begin_step(self) -> None:  # noqa: B027
        """Called before each generator step, whose batch may come in several calls of :meth:`loss`."""

    def targets(self, labels: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The labels that the surrogate should see in a protected image: shifted ones."""
        return shifted_labels(labels, self.tasks)

    def step_surrogate(self, processes: Processes = ALONE) -> None:  # noqa: B027
        """Called after each generator step: a surrogate that learns beside it takes its own; others are frozen.

        ``processes`` each have seen a part of the batch.
        """

    def agreement(self, logits: Mapping[str, Tensor], labels: Mapping[str, Tensor]) -> float:
        """Share of labelled cells, over all tasks, where the surrogate says :meth:`targets`."""
        counts = count_correct(logits, self.targets(labels), self.tasks).values()
        return sum(correct for correct, _ in counts) / max(1, sum(known for _, known in counts))

    def state_dict(self) -> dict[str, Any]:
        """What must be kept to resume after an interruption; tensors and plain values only."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:  # noqa: B027
        """Resume from what :meth:`state_dict` gave."""


class ErrorMinimizing(Objective):
    """EM, the task loss itself: generator and surrogate minimise it together.

    One backward pass serves both. This measured better than turns of ten generator and four surrogate steps, at a lower
    cost, above all with many tasks, where a surrogate that sees few batches never learns to read them.

    Args:
        tasks: The tasks.
        fresh: Makes an untrained surrogate from a seed, on the device that training uses.
        seed: Of the first surrogate's weights; each restart takes the next.
        solved_loss: Running mean of the loss below which the surrogate restarts with new weights; 0: never. One that
            has learned the shortcut has no loss left to teach the generator.
        least_steps: Steps before the surrogate may restart.
        learning_rate: Of the surrogate's Adam.

    Source:
        Huang et al., "Unlearnable Examples", ICLR 2021; generator form of Yu et al., ICML 2025. Deviations: steps taken
        together instead of epochs in turn, and a surrogate that restarts.
    """

    def __init__(
        self,
        tasks: TaskSet,
        fresh: Callable[[int], nn.Module],
        seed: int,
        *,
        solved_loss: float = 0.1,
        least_steps: int = 40,
        learning_rate: float = 1e-3,
    ) -> None:
        super().__init__(tasks)
        self.fresh, self.seed = fresh, seed
        self.solved_loss, self.least_steps, self.learning_rate = solved_loss, least_steps, learning_rate
        self.restarts = self.age = 0
        self.running_loss: float | None = None
        self.losses: list[float] = []
        self.surrogate, self.optimizer = self._fresh()

    def _fresh(self) -> tuple[nn.Module, torch.optim.Adam]:
        network = self.fresh(self.seed + self.restarts).train()
        return network, torch.optim.Adam(network.parameters(), self.learning_rate)

    def targets(self, labels: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The true labels."""
        return dict(labels)

    def begin_step(self) -> None:
        """Forget gradients, and restart the surrogate if it is due."""
        solved = self.running_loss is not None and self.running_loss < self.solved_loss
        if solved and self.age >= self.least_steps:
            self.restarts += 1
            self.age, self.running_loss = 0, None
            self.surrogate, self.optimizer = self._fresh()
        self.optimizer.zero_grad(set_to_none=True)
        self.losses = []

    def loss(self, protected: Tensor, labels: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Mean task loss towards the true labels; its gradient reaches the surrogate too."""
        logits = self.surrogate(protected)
        loss = mean_loss(task_losses(logits, labels, self.tasks))
        self.losses.append(float(loss.detach()))
        return loss, logits

    def step_surrogate(self, processes: Processes = ALONE) -> None:
        """One Adam step from the gradients that the generator's backward passes left."""
        processes.average_gradients(self.surrogate.parameters())
        (latest,) = processes.mean([sum(self.losses) / len(self.losses)])
        known = latest if self.running_loss is None else self.running_loss
        self.running_loss = RUNNING_SHARE * known + (1 - RUNNING_SHARE) * latest
        self.optimizer.step()
        self.age += 1

    def state_dict(self) -> dict[str, Any]:
        """Surrogate, optimiser and counters."""
        return {
            "surrogate": self.surrogate.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "restarts": self.restarts,
            "age": self.age,
            "running_loss": self.running_loss,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Resume with the same surrogate."""
        self.restarts, self.age = int(state["restarts"]), int(state["age"])
        self.running_loss = state["running_loss"]
        self.surrogate.load_state_dict(state["surrogate"])
        self.optimizer.load_state_dict(state["optimizer"])


class TargetedAdversarial(Objective):
    """TAP, targeted adversarial poisoning: the loss of a clean-trained, frozen surrogate towards shifted labels.

    A victim that trains on such images learns the features of class ``y + C/2`` as class ``y`` and is misled on
    clean images.

    Source:
        Fowl et al., "Adversarial Examples Make Strong Poisons", NeurIPS 2021; multi-task form of Yu et al., ICML 2025.
        Deviation: a learned generator takes the place of projected gradient descent on each image.
    """

    def __init__(self, tasks: TaskSet, surrogate: nn.Module) -> None:
        super().__init__(tasks)
        self.surrogate = surrogate.eval().requires_grad_(False)

    def loss(self, protected: Tensor, labels: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Mean task loss towards :meth:`targets`."""
        logits = self.surrogate(protected)
        return mean_loss(task_losses(logits, self.targets(labels), self.tasks)), logits


class SelfEnsemble(TargetedAdversarial):
    """SEP, self-ensemble protection: TAP averaged over checkpoints of one clean training run.

    Each step takes the loss of one member. Members are drawn in turn from a deck, which ``seed`` shuffles, so the
    expectation over steps is the mean over all of them.

    Source:
        Chen et al., "Self-Ensemble Protection", ICLR 2023; multi-task form of Yu et al., ICML 2025. Deviation: the mean
        over members is taken over steps instead of within each.
    """

    def __init__(self, tasks: TaskSet, members: Sequence[nn.Module], seed: int) -> None:
        super().__init__(tasks, members[0])
        self.members = [member.eval().requires_grad_(False) for member in members]
        self.rng = torch.Generator().manual_seed(seed)
        self.deck: list[int] = []

    def begin_step(self) -> None:
        """Draw the member of this step."""
        if not self.deck:
            self.deck = torch.randperm(len(self.members), generator=self.rng).tolist()
        self.surrogate = self.members[self.deck.pop(0)]

    def state_dict(self) -> dict[str, Any]:
        """The deck and the random state that shuffles it."""
        return {"rng": self.rng.get_state(), "deck": list(self.deck)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Resume with the same draws."""
        self.rng.set_state(state["rng"])
        self.deck = list(state["deck"])


class TakingTurns(Objective):
    """Several objectives, one at each step: the first one alone, then each as often as its share says.

    Whichever is furthest behind its share goes next: the same steps in every run, without chance.

    Args:
        parts: Objectives whose surrogates are frozen.
        shares: Of the steps in which they take turns; they sum to 1.
        alone: Steps of the first one alone. A generator that has to mislead several surrogates from the start is slow
            to mislead any (docs/research/surrogates.md).
    """

    def __init__(self, parts: Sequence[Objective], shares: Sequence[float], alone: int = 0) -> None:
        super().__init__(parts[0].tasks)
        self.parts, self.shares, self.alone = parts, shares, alone
        self.taken = [0] * len(parts)
        self.turn = 0

    def begin_step(self) -> None:
        """Choose whose turn it is."""
        if self.alone:
            self.alone -= 1
        else:
            step = sum(self.taken) + 1
            behind = [share * step - taken for share, taken in zip(self.shares, self.taken, strict=True)]
            self.turn = behind.index(max(behind))
            self.taken[self.turn] += 1
        self.parts[self.turn].begin_step()

    def loss(self, protected: Tensor, labels: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss and logits of the one whose turn it is."""
        return self.parts[self.turn].loss(protected, labels)

    def targets(self, labels: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Those of the parts, which are alike."""
        return self.parts[0].targets(labels)

    def state_dict(self) -> dict[str, Any]:
        """Steps that the first one still has alone, those that each has taken since, and its own state."""
        parts = [part.state_dict() for part in self.parts]
        return {"alone": self.alone, "taken": list(self.taken), "parts": parts}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Resume with the same turns."""
        self.alone = int(state["alone"])
        self.taken = [int(count) for count in state["taken"]]
        for part, own in zip(self.parts, state["parts"], strict=True):
            part.load_state_dict(own)


class Learnable(Objective):
    """``main + weight * EM``: mislead a clean surrogate and be learned at once by a fresh one.

    A victim is misled only by a shortcut that it has learned. Targeted poisoning alone leaves a task with many classes
    hard to read; an error-minimising companion, whose surrogate restarts again and again, asks for what a fresh network
    learns first. Targets and agreement are those of ``main``, whose surrogate is frozen.

    Source:
        Ours; the two parts are those of Yu et al., ICML 2025, there used one at a time.
    """

    def __init__(self, main: Objective, companion: ErrorMinimizing, weight: float) -> None:
        super().__init__(main.tasks)
        self.main, self.companion, self.weight = main, companion, weight

    def targets(self, labels: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Those of the main objective."""
        return self.main.targets(labels)

    def begin_step(self) -> None:
        """Of both parts."""
        self.main.begin_step()
        self.companion.begin_step()

    def step_surrogate(self, processes: Processes = ALONE) -> None:
        """The companion's."""
        self.companion.step_surrogate(processes)

    def loss(self, protected: Tensor, labels: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """The weighted sum, and the main surrogate's logits."""
        base, logits = self.main.loss(protected, labels)
        learned, _ = self.companion.loss(protected, labels)
        return base + self.weight * learned, logits

    def state_dict(self) -> dict[str, Any]:
        """Of both parts."""
        return {"main": self.main.state_dict(), "companion": self.companion.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Resume both parts."""
        self.main.load_state_dict(state["main"])
        self.companion.load_state_dict(state["companion"])


@dataclass(frozen=True)
class Ingredients:
    """What objectives are made from: tasks, the checkpoints of each clean-trained surrogate (oldest first), and a seed.

    ``fresh`` makes an untrained surrogate from a seed; ``learnability`` is the weight of an error-minimising companion
    beside TAP and SEP. ``shares`` are those of the surrogates in the steps after the first ``alone``, which are the
    first one's; they sum to 1.
    """

    tasks: TaskSet
    clean: Sequence[Sequence[nn.Module]]
    fresh: Callable[[int], nn.Module]
    seed: int
    learnability: float = 0.0
    shares: Sequence[float] = (1.0,)
    alone: int = 0


@dataclass(frozen=True)
class ObjectiveSpec:
    """How an objective is made, the last checkpoints of a clean surrogate that it needs, and what agreement says."""

    build: Callable[[Ingredients], Objective]
    clean_checkpoints: int
    agreement: str = "follows shifted labels"


def _em(given: Ingredients) -> ErrorMinimizing:
    return ErrorMinimizing(given.tasks, given.fresh, given.seed)


def _misleading(given: Ingredients, against: Callable[[Sequence[nn.Module]], Objective]) -> Objective:
    parts = [against(checkpoints) for checkpoints in given.clean]
    main = parts[0] if len(parts) == 1 else TakingTurns(parts, given.shares, given.alone)
    return Learnable(main, _em(given), given.learnability) if given.learnability else main


OBJECTIVES: Mapping[ObjectiveName, ObjectiveSpec] = {
    ObjectiveName.EM: ObjectiveSpec(_em, 0, "surrogate accuracy"),
    ObjectiveName.TAP: ObjectiveSpec(
        lambda given: _misleading(given, lambda clean: TargetedAdversarial(given.tasks, clean[-1])), 1
    ),
    ObjectiveName.SEP: ObjectiveSpec(
        lambda given: _misleading(given, lambda clean: SelfEnsemble(given.tasks, clean, given.seed)), 15
    ),
}
