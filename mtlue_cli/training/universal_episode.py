"""What a universal generator is trained on: random tasks, their codes, and a network that learns to read them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mtlue_cli.choices import BackboneName, Precision, TaskKind
from mtlue_cli.devices import on_device
from mtlue_cli.generator.code_embedding import CodeEmbedding, PreparedCodes
from mtlue_cli.generator.codebook import Codebook
from mtlue_cli.generator.model import PerturbationGenerator
from mtlue_cli.images.procedural import ProceduralSettings
from mtlue_cli.keys import KEY_BYTES, Key
from mtlue_cli.networks.multitask import MultiTaskNetwork, build_network
from mtlue_cli.objectives.error_minimizing import RUNNING_SHARE
from mtlue_cli.tasks.spec import Task, TaskSet
from mtlue_cli.training.distortions import DistortionSettings


@dataclass(frozen=True)
class UniversalSettings:
    """How a universal generator is trained.

    Attributes:
        steps: Optimiser steps in all; the learning rate follows a half cosine to nothing over them.
        batch_size: Images a step.
        learning_rate: Peak rate of Adam.
        warmup_steps: Steps of linear rise to it; at most a quarter of all steps.
        clip_norm: Largest gradient norm.
        view_size: Side in pixels of what a surrogate sees.
        population: Surrogates at a time; they take steps in turn, each with labels and codes of its own.
        solved: Running mean of a surrogate's loss, as a share of guessing, below which it starts afresh: what it has
            learned to read teaches no more.
        least_steps, most_steps: Own steps that a surrogate lives at least and at most.
        kinds: Backbones that surrogates are drawn from.
        surrogate_rate: Of a surrogate's Adam.
        most_tasks, most_classes: Most tasks of an episode and classes of a task; small numbers are drawn more often.
        binary_share: Share of tasks with two classes, beside those for which two are drawn.
        skew: How unevenly the classes of a task occur: standard deviation of the logarithm of their odds.
        largest_rms: Root mean square of a perturbation, in 255ths, above which it is penalised, and a little
            beyond which it settles; 6.4 is a PSNR of 32 dB.
        rms_weight: Weight of that penalty.
        pool: Images that batches are drawn from; each restart replaces a chunk of them by new ones.
        images: What they are mixed from.
        distortions: What happens to a protected image before a surrogate sees it.
        seed: Of everything random.
        precision: Arithmetic.
    """

    steps: int
    batch_size: int = 64
    learning_rate: float = 2e-3
    warmup_steps: int = 50
    clip_norm: float = 1.0
    view_size: int = 64
    population: int = 2
    solved: float = 0.25
    least_steps: int = 40
    most_steps: int = 300
    kinds: tuple[BackboneName, ...] = (BackboneName.SMALL,)
    surrogate_rate: float = 1e-3
    most_tasks: int = 40
    most_classes: int = 20
    binary_share: float = 0.4
    skew: float = 0.7
    largest_rms: float = 6.3
    rms_weight: float = 10.0
    pool: int = 4096
    images: ProceduralSettings = field(default_factory=ProceduralSettings)
    distortions: DistortionSettings = field(default_factory=DistortionSettings)
    seed: int = 0
    precision: Precision = Precision.AUTO


@dataclass(frozen=True)
class Episode:
    """Random tasks with their codes; a seed gives all of it.

    Attributes:
        tasks: The tasks.
        codebook: Their codes under a random key.
        shares: Frequency of each class, ``(C,)`` a task.
        kind: Backbone of the surrogate.
    """

    tasks: TaskSet
    codebook: Codebook
    shares: Mapping[str, Tensor]
    kind: BackboneName

    def bound_to(self, codes: CodeEmbedding) -> PreparedCodes:
        """Its codes as an embedding takes them."""
        shares = {name: part.tolist() for name, part in self.shares.items()}
        return codes.prepared(self.codebook, shares)


def draw_episode(seed: int, embedding: CodeEmbedding, settings: UniversalSettings) -> Episode:
    """Draw the tasks, the key and the class frequencies of an episode.

    Args:
        seed: Any whole number from 0.
        embedding: What takes the codes.
        settings: Ranges.
    """
    rng = np.random.default_rng([seed, settings.seed])
    counts = [
        2 if rng.random() < settings.binary_share else _small_number(rng, 2, settings.most_classes)
        for _ in range(_small_number(rng, 1, settings.most_tasks))
    ]
    tasks = TaskSet(
        tuple(
            Task(
                f"task {index}",
                TaskKind.BINARY if count == 2 else TaskKind.CATEGORICAL,
                tuple(str(number) for number in range(count)),
            )
            for index, count in enumerate(counts)
        )
    )
    odds = (np.exp(settings.skew * rng.standard_normal(count)) for count in counts)
    shares = {name: torch.from_numpy(part / part.sum()) for name, part in zip(tasks.names, odds, strict=True)}
    kind = settings.kinds[rng.integers(len(settings.kinds))]
    return Episode(tasks, embedding.codebook(Key(rng.bytes(KEY_BYTES)), tasks), shares, kind)


def _small_number(rng: np.random.Generator, low: int, high: int) -> int:
    """A whole number from ``low`` to ``high`` whose logarithm is about uniform."""
    return min(high, int(np.exp(rng.uniform(np.log(low), np.log(high + 1)))))


class Surrogate:
    """A network that learns to read one episode's perturbations.

    Args:
        number: Of the episode; it decides the tasks, the codes and the initial weights.
        generator: What will be bound to the codes; universal.
        settings: How it learns.
        device: Where.
    """

    def __init__(
        self, number: int, generator: PerturbationGenerator, settings: UniversalSettings, device: torch.device
    ) -> None:
        self.number = number
        self.episode = draw_episode(number, generator.codes, settings)
        self.codes: PreparedCodes = self.episode.bound_to(generator.codes)
        seed = settings.seed * 1_000_003 + number
        self.network: MultiTaskNetwork = on_device(
            build_network(self.episode.kind, self.episode.tasks, seed), device
        ).train()
        self.optimizer = torch.optim.Adam(self.network.parameters(), settings.surrogate_rate)
        self.age = 0
        self.running = 1.0

    def step(self, guessing: float) -> None:
        """Take an optimiser step after a loss of ``guessing``, as a share of that of guessing."""
        self.optimizer.step()
        self.age += 1
        self.running = RUNNING_SHARE * self.running + (1 - RUNNING_SHARE) * guessing

    def is_done(self, settings: UniversalSettings) -> bool:
        """Whether it has nothing more to teach."""
        solved = self.running < settings.solved and self.age >= settings.least_steps
        return solved or self.age >= settings.most_steps

    def state_dict(self) -> dict[str, Any]:
        """Everything that its next step depends on; tensors and plain values only."""
        return {
            "number": self.number,
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "age": self.age,
            "running": self.running,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what :meth:`state_dict` gave."""
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.age, self.running = int(state["age"]), float(state["running"])
