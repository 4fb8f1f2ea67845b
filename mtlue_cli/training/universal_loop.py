"""Train a generator for any labels: random codebooks, random labels, surrogates that start afresh again and again."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mtlue_cli.choices import BackboneName, Precision, TaskKind
from mtlue_cli.generator.code_embedding import CodeEmbedding, PreparedCodes
from mtlue_cli.generator.codebook import Codebook
from mtlue_cli.generator.model import PerturbationGenerator
from mtlue_cli.images.procedural import CHUNK, ProceduralSettings, draw_procedural
from mtlue_cli.keys import KEY_BYTES, Key
from mtlue_cli.networks.multitask import MultiTaskNetwork, build_network
from mtlue_cli.perturbation.bound import LEVELS, add_to_training_images
from mtlue_cli.tasks.losses import count_correct, task_losses
from mtlue_cli.tasks.spec import Task, TaskSet
from mtlue_cli.training.distortions import DistortionSettings, distort
from mtlue_cli.training.generator_loop import Record, rate_share
from mtlue_cli.training.multitask_loop import to_float
from mtlue_cli.training.runtime import autocast, choose_precision, placed

RUNNING_SHARE = 0.9
"""What the running mean of a surrogate's loss keeps of itself at each step."""


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
class UniversalRecord(Record):
    """Figures of one step, or their means over a stretch of steps.

    Attributes:
        loss: What the generator minimises.
        guessing: The surrogate's loss as a share of that of guessing, mean over the tasks.
        agreement: Share of labels that the surrogate names.
        rms: Root mean square of the perturbation in 255ths.
        seconds: Time taken.
    """

    loss: float
    guessing: float
    agreement: float
    rms: float
    seconds: float


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


def draw_episode(seed: int, dimension: int, settings: UniversalSettings) -> Episode:
    """Draw the tasks, the key and the class frequencies of an episode.

    Args:
        seed: Any whole number from 0.
        dimension: Of the codes.
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
    return Episode(tasks, Codebook(Key(rng.bytes(KEY_BYTES)), tasks, dimension), shares, kind)


def _small_number(rng: np.random.Generator, low: int, high: int) -> int:
    """A whole number from ``low`` to ``high`` whose logarithm is about uniform."""
    return min(high, int(np.exp(rng.uniform(np.log(low), np.log(high + 1)))))


class _Surrogate:
    """A network that learns to read one episode's perturbations."""

    def __init__(
        self, number: int, generator: PerturbationGenerator, settings: UniversalSettings, device: torch.device
    ) -> None:
        self.number = number
        self.episode = draw_episode(number, generator.codes.dimension, settings)
        self.codes: PreparedCodes = self.episode.bound_to(generator.codes)
        seed = settings.seed * 1_000_003 + number
        self.network: MultiTaskNetwork = placed(
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
        return {
            "number": self.number,
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "age": self.age,
            "running": self.running,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.age, self.running = int(state["age"]), float(state["running"])


class UniversalLoop:
    """One resumable training run of a universal generator.

    Labels are drawn anew for every batch and have nothing to do with the images, so that a surrogate can rely on
    nothing but the perturbation. Generator and surrogate descend the same loss, as in
    :class:`~mtlue_cli.objectives.error_minimizing.ErrorMinimizing`: the surrogate's cross-entropy, that of each task as
    a share of what guessing costs. A surrogate that has learned to read starts afresh, with other tasks and codes, so
    that what the generator draws is what a fresh network learns first.

    Its whole state is in :meth:`state_dict`; a run that is stopped between two steps and goes on from that state ends
    with the same weights, bit for bit, on a CPU. :attr:`between_steps` is False while a step is half done.

    Args:
        generator: What is trained; universal.
        settings: How.
        device: Where; the generator must be there.

    Source:
        Error-minimising noise: Huang et al., ICLR 2021. Everything around it, random codebooks above all, is the
        authors' own.
    """

    def __init__(self, generator: PerturbationGenerator, settings: UniversalSettings, device: torch.device) -> None:
        self.generator = generator.train()
        self.settings, self.device = settings, device
        self.optimizer = torch.optim.Adam(generator.parameters(), settings.learning_rate, betas=(0.9, 0.99))
        self.dtype = choose_precision(settings.precision, device)
        self.rng = torch.Generator().manual_seed(settings.seed)
        self.step = 0
        self.restarts = 0
        self.between_steps = True
        self.surrogates = [self._fresh(number) for number in range(settings.population)]
        self._pool = self._drawn_pool()

    @property
    def steps(self) -> int:
        """Steps in all."""
        return self.settings.steps

    def run(self, until: int | None = None, on_step: Callable[[UniversalRecord], None] | None = None) -> None:
        """Train to step ``until`` (default: all steps of the settings), reporting every step."""
        last = self.steps if until is None else min(until, self.steps)
        while self.step < last:
            self.between_steps = False
            record = self._advance()
            self.between_steps = True
            if on_step is not None:
                on_step(record)

    def _advance(self) -> UniversalRecord:
        started = time.monotonic()
        settings = self.settings
        place = self.step % settings.population
        if self.surrogates[place].is_done(settings):
            self._restart(place)
        surrogate = self.surrogates[place]
        self.generator.bind(surrogate.codes)
        share = rate_share(self.step, settings.steps, settings.warmup_steps)
        for group in self.optimizer.param_groups:
            group["lr"] = settings.learning_rate * share
        self.optimizer.zero_grad(set_to_none=True)
        surrogate.optimizer.zero_grad(set_to_none=True)
        tasks = surrogate.episode.tasks
        labels = self._labels(surrogate.episode)
        rows = torch.randint(len(self._pool), (settings.batch_size,), generator=self.rng)
        with autocast(self.device, self.dtype):
            images = to_float(self._pool[rows], self.device)
            delta = self.generator(images, labels)
            seen = distort(add_to_training_images(images, delta), settings.view_size, settings.distortions, self.rng)
            logits = surrogate.network(seen.contiguous(memory_format=torch.channels_last))
        losses = task_losses(logits, labels, tasks)
        guessing = torch.stack([losses[task.name] / np.log(task.num_classes) for task in tasks]).mean()
        rms = (delta.float() * LEVELS).square().mean(dim=(1, 2, 3)).sqrt()
        excess = (rms / settings.largest_rms - 1).clamp_min(0).square().mean()
        loss = guessing + settings.rms_weight * excess
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.generator.parameters(), settings.clip_norm)
        self.optimizer.step()
        surrogate.step(float(guessing.detach()))
        self.step += 1
        counts = count_correct(logits, labels, tasks).values()
        return UniversalRecord(
            self.step,
            float(loss.detach()),
            float(guessing.detach()),
            sum(correct for correct, _ in counts) / sum(known for _, known in counts),
            float(rms.detach().mean()),
            time.monotonic() - started,
        )

    def _restart(self, place: int) -> None:
        """A fresh surrogate in place of one that is done, and a fresh chunk of images in place of the oldest."""
        self.surrogates[place] = self._fresh(self.settings.population + self.restarts)
        chunks = len(self._pool) // CHUNK
        start = self.restarts % chunks * CHUNK
        self._pool[start : start + CHUNK] = self._chunk(chunks + self.restarts)
        self.restarts += 1

    def _fresh(self, number: int) -> _Surrogate:
        return _Surrogate(number, self.generator, self.settings, self.device)

    def _labels(self, episode: Episode) -> dict[str, Tensor]:
        size = self.settings.batch_size
        return {
            name: torch.multinomial(shares, size, replacement=True, generator=self.rng).to(self.device)
            for name, shares in episode.shares.items()
        }

    def _drawn_pool(self) -> Tensor:
        """The images as they stand after the restarts so far: in each place, the last chunk that came there."""
        chunks = max(1, self.settings.pool // CHUNK)
        latest = list(range(chunks))
        for restart in range(self.restarts):
            latest[restart % chunks] = chunks + restart
        return torch.cat([self._chunk(number) for number in latest])

    def _chunk(self, number: int) -> Tensor:
        seed = self.settings.seed * 1_000_003 + number
        return draw_procedural(CHUNK, self.generator.config.image_size, seed, self.settings.images)

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next step depends on; tensors and plain values only."""
        return {
            "generator": self.generator.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "surrogates": [surrogate.state_dict() for surrogate in self.surrogates],
            "rng": self.rng.get_state(),
            "step": self.step,
            "restarts": self.restarts,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what :meth:`state_dict` gave."""
        self.generator.load_state_dict(state["generator"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.rng.set_state(state["rng"])
        self.step, self.restarts = int(state["step"]), int(state["restarts"])
        self.surrogates = []
        for kept in state["surrogates"]:
            surrogate = self._fresh(int(kept["number"]))
            surrogate.load_state_dict(kept)
            self.surrogates.append(surrogate)
        self._pool = self._drawn_pool()
