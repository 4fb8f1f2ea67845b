"""Train a generator for any labels: random codebooks, random labels, surrogates that start afresh again and again."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mtlue_cli.generator.model import PerturbationGenerator
from mtlue_cli.images.procedural import CHUNK, draw_procedural
from mtlue_cli.perturbation.bound import LEVELS, add_to_training_images
from mtlue_cli.tasks.losses import count_correct, task_losses
from mtlue_cli.training.distortions import distort, draw_window
from mtlue_cli.training.generator_loop import Record, rate_share
from mtlue_cli.training.multitask_loop import to_float
from mtlue_cli.training.runtime import autocast, choose_precision
from mtlue_cli.training.universal_episode import Episode, Surrogate, UniversalSettings


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
            view = draw_window(images.shape[-1], len(images), settings.distortions, self.rng)
            protected = add_to_training_images(images, delta)
            seen = distort(protected, view, settings.view_size, settings.distortions, self.rng)
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

    def _fresh(self, number: int) -> Surrogate:
        return Surrogate(number, self.generator, self.settings, self.device)

    def _labels(self, episode: Episode) -> dict[str, Tensor]:
        size = self.settings.batch_size
        return {
            name: torch.multinomial(shares, size, replacement=True, generator=self.rng).to(self.device)
            for name, shares in episode.shares.items()
        }

    @cached_property
    def _pool(self) -> Tensor:
        """The images as they stand after the restarts so far: in each place, the last chunk that came there.

        Drawn at the first step: a loop without steps, or one that is about to take up a state, needs none.
        """
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
        self.__dict__.pop("_pool", None)
