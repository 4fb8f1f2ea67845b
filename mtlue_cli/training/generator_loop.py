"""Train a perturbation generator against an objective."""

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor, nn

from mtlue_cli.choices import Precision
from mtlue_cli.devices import ALONE, Processes
from mtlue_cli.errors import DivergedError
from mtlue_cli.generator.model import PerturbationGenerator
from mtlue_cli.objectives import Objective
from mtlue_cli.perturbation.bound import add_to_training_images
from mtlue_cli.regularisers import inter_task_similarity, intra_task_similarity
from mtlue_cli.tasks.losses import mean_loss, task_losses
from mtlue_cli.tasks.spec import TaskSet
from mtlue_cli.training.augment import View, labels_of, view_labels
from mtlue_cli.training.distortions import PLAIN, Distortion, DistortionSettings, distort, draw_distortion, draw_window
from mtlue_cli.training.multitask_loop import to_float
from mtlue_cli.training.runtime import autocast, choose_precision
from mtlue_cli.training.visibility import ADAPT_STEPS, VisibilityControl


@dataclass(frozen=True)
class GeneratorSettings:
    """How a generator is trained.

    ``learning_rate`` is the peak of Adam's: reached in a linear rise of ``warmup_steps``, at most a quarter of all, and
    followed by a half cosine to nothing. The surrogate sees views of ``view_size`` pixels after ``distortions``. A
    weight of 0 removes an embedding regulariser; ``seed`` is that of order and augmentation. A batch is computed in
    ``accumulate`` parts.
    """

    steps: int
    batch_size: int = 64
    learning_rate: float = 2e-3
    warmup_steps: int = 50
    clip_norm: float = 1.0
    intra_weight: float = 1.0
    inter_weight: float = 10.0
    view_size: int = 64
    distortions: DistortionSettings = PLAIN
    seed: int = 0
    precision: Precision = Precision.AUTO
    accumulate: int = 1


@dataclass(frozen=True)
class _Batch:
    rows: Tensor
    view: View
    distortion: Distortion


@dataclass(frozen=True)
class StepRecord:
    """Figures of one step, or their means over several steps, at the last of them.

    The generator minimises ``loss``; ``base`` is the objective's part of it, ``intra`` and ``inter`` are the embedding
    regularisers without their weights. ``agreement`` is the share of labels for which the surrogate answers what the
    objective aims at, ``mean_change`` the mean absolute perturbation in 255ths.
    """

    step: int
    loss: float
    base: float
    intra: float
    inter: float
    agreement: float
    mean_change: float
    seconds: float


class GeneratorLoop:
    """One resumable training run of a generator.

    A run that is stopped between two steps and resumes from :meth:`state_dict` ends with the same weights, bit for bit,
    on a CPU. :attr:`between_steps` is False while a step is half done.

    Args:
        generator: On ``device`` already, as the objective's networks.
        objective: What it is trained on.
        images: ``(N, 3, S, S)`` uint8 at the generator's own size.
        labels: Task name to class indices, ``(N,)`` int64, negative where unlabelled, or to label maps of that size.
        settings: How.
        device: Where.
        visibility: Keeps the perturbation's FLIP at a target; None: nothing does.
        processes: Those that train together; each has the same arguments.
        kept: Tasks beside the generator's that are to stay useful, which the objective's surrogate knows too. No step
            takes the part of its gradient that would, to first order, raise the surrogate's loss on them:
            :func:`remove_conflict`.
    """

    def __init__(
        self,
        generator: PerturbationGenerator,
        objective: Objective,
        images: Tensor,
        labels: Mapping[str, Tensor],
        settings: GeneratorSettings,
        device: torch.device,
        visibility: VisibilityControl | None = None,
        processes: Processes = ALONE,
        kept: TaskSet = TaskSet(()),  # noqa: B008 - frozen
    ) -> None:
        self.generator = generator.train()
        self.kept, self.kept_gradients = kept, list[Tensor]()
        self.objective = objective
        self.images, self.labels, self.settings, self.device = images, labels, settings, device
        self.optimizer = torch.optim.Adam(generator.parameters(), settings.learning_rate, betas=(0.9, 0.99))
        self.visibility, self.processes = visibility, processes
        self.dtype = choose_precision(settings.precision, device)
        self.rng = torch.Generator().manual_seed(settings.seed)
        self.order: list[int] = []
        self.step = 0
        self.between_steps = True

    @property
    def steps(self) -> int:
        """Steps in all."""
        return self.settings.steps

    def run(self, until: int | None = None, on_step: Callable[[StepRecord], None] | None = None) -> None:
        """Train to step ``until`` (default: all steps of the settings), reporting every step."""
        last = self.steps if until is None else min(until, self.steps)
        while self.step < last:
            self.between_steps = False
            record = self._advance()
            self.between_steps = True
            if on_step is not None:
                on_step(record)

    def _advance(self) -> StepRecord:
        started = time.monotonic()
        share = rate_share(self.step, self.steps, self.settings.warmup_steps)
        for group in self.optimizer.param_groups:
            group["lr"] = self.settings.learning_rate * share
        self.optimizer.zero_grad(set_to_none=True)
        self.kept_gradients = [torch.zeros_like(one) for one in self._learned()] if self.kept else []
        self.objective.begin_step()
        batch = self._next_batch()
        parts = self.processes.parts(len(batch.rows), self.settings.accumulate)
        figures = [self._learn_from(batch, part, 1 / len(parts)) for part in parts]
        self.processes.average_gradients(self.generator.parameters())
        if self.kept:
            self.processes.average(self.kept_gradients)
            remove_conflict(self._learned(), self.kept_gradients)
        torch.nn.utils.clip_grad_norm_(self.generator.parameters(), self.settings.clip_norm)
        self.optimizer.step()
        self.objective.step_surrogate(self.processes)
        self.step += 1
        loss, base, intra, inter, agreement, change = self.processes.mean(
            [sum(values) / len(parts) for values in zip(*figures, strict=True)]
        )
        if not math.isfinite(loss):
            raise DivergedError(f"training has diverged in step {self.step}: the loss is {loss}; lower --learning-rate")
        if self.visibility is not None and self.step % ADAPT_STEPS == 0:
            self.visibility.adapt(self.generator)
        return StepRecord(self.step, loss, base, intra, inter, agreement, change, time.monotonic() - started)

    def _learned(self) -> list[nn.Parameter]:
        """The generator's parameters that are not frozen."""
        return [one for one in self.generator.parameters() if one.requires_grad]

    def _learn_from(self, batch: "_Batch", part: slice, share: float) -> tuple[float, ...]:
        """Add ``share`` of the gradient on a part of the batch; loss, base, intra, inter, agreement, mean change."""
        with autocast(self.device, self.dtype):
            protected, labels, delta = self._protected_views(batch, part)
            base, logits = self.objective.loss(protected, labels)
        # Label maps have no embeddings of classes that could be pushed apart.
        image_level = self.generator.tasks.image_level
        embeddings = {task.name: self.generator.label_embedding.of_task(task.name) for task in image_level}
        intra, inter = intra_task_similarity(embeddings), inter_task_similarity(embeddings)
        loss = base + self.settings.intra_weight * intra + self.settings.inter_weight * inter
        if self.visibility is not None:
            loss = loss + self.visibility.loss(delta.float(), self.generator.config.epsilon)
        if self.kept:
            kept_loss = mean_loss(task_losses(logits, labels, self.kept)) * share
            found = torch.autograd.grad(kept_loss, self._learned(), retain_graph=True, materialize_grads=True)
            for total, gradient in zip(self.kept_gradients, found, strict=True):
                total += gradient
        (loss * share).backward()  # type: ignore[no-untyped-call]  # torch's stubs leave it untyped
        agreement = self.objective.agreement(logits, labels)
        values = (float(value.detach()) for value in (loss, base, intra, inter))
        return *values, agreement, float(delta.detach().abs().mean()) * 255

    def _protected_views(self, batch: "_Batch", part: slice) -> tuple[Tensor, dict[str, Tensor], Tensor]:
        rows = batch.rows[part]
        images = to_float(self.images[rows], self.device)
        tasks = TaskSet((*self.generator.tasks, *self.kept))
        labels = labels_of(self.labels, tasks, rows, self.device)
        delta = self.generator(images, labels)
        size, distortions = self.settings.view_size, self.settings.distortions
        view = replace(batch.view, flip=batch.view.flip[part])
        added = add_to_training_images(images, delta)
        protected = distort(added, view, size, distortions, batch.distortion.of(part))
        seen = view_labels(labels, tasks, view, size)
        return protected.contiguous(memory_format=torch.channels_last), seen, delta

    def _next_batch(self) -> "_Batch":
        """What the next step sees, drawn for the whole batch: the same in every process."""
        rows, distortions = self._next_rows(), self.settings.distortions
        view = draw_window(self.images.shape[-1], len(rows), distortions, self.rng)
        return _Batch(rows, view, draw_distortion(len(rows), distortions, self.rng))

    def _next_rows(self) -> Tensor:
        size = min(self.settings.batch_size, len(self.images))
        size -= size % (self.processes.count * self.settings.accumulate)
        if len(self.order) < size:
            self.order += torch.randperm(len(self.images), generator=self.rng).tolist()
        rows, self.order = self.order[:size], self.order[size:]
        return torch.tensor(rows)

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next step depends on; tensors and plain values only."""
        return {
            "generator": self.generator.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "objective": self.objective.state_dict(),
            "rng": self.rng.get_state(),
            "order": list(self.order),
            "step": self.step,
            **({} if self.visibility is None else {"visibility": self.visibility.state_dict()}),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Resume from what :meth:`state_dict` gave.

        Raises:
            ValueError: The step or the order of the images is none of this loop's; of what else does not fit, whatever
                it raises.
        """
        self.generator.load_state_dict(state["generator"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.objective.load_state_dict(state["objective"])
        self.rng.set_state(state["rng"])
        self.order = list(state["order"])
        self.step = int(state["step"])
        if self.visibility is not None:
            self.visibility.load_state_dict(state["visibility"])
        if not 0 <= self.step <= self.steps:
            raise ValueError(f"step {self.step} of {self.steps}")
        if not all(type(row) is int and 0 <= row < len(self.images) for row in self.order):
            raise ValueError("it names images that are not there")


def remove_conflict(parameters: Iterable[nn.Parameter], kept: Sequence[Tensor]) -> bool:
    """Project gradients off those of what is to be kept, where the two conflict; returns whether they did.

    All parameters together are one vector ``g``, the tensors of ``kept`` another, ``k``. If ``g . k < 0``, a step
    against ``g`` would raise the loss that ``k`` is the gradient of: ``g`` becomes ``g - (g . k) / |k|^2 k``.

    Source:
        Yu et al., "Gradient Surgery for Multi-Task Learning" (PCGrad), NeurIPS 2020, equation 1; one-sided as the
        concept-preserving gradient of Wu et al., "Unlearning Concepts in Diffusion Model via Concept Domain Correction
        and Concept Preserving Gradient", AAAI 2025: what is kept never gives way.
    """
    pairs = [(one.grad, other) for one, other in zip(parameters, kept, strict=True) if one.grad is not None]
    dot = torch.stack([(gradient * other).sum() for gradient, other in pairs]).sum()
    if dot >= 0:
        return False
    share = dot / torch.stack([other.square().sum() for other in kept]).sum()
    for gradient, other in pairs:
        gradient.sub_(share * other)
    return True


def rate_share(step: int, steps: int, warmup_steps: int) -> float:
    """Learning rate at a step as a share of its peak: a linear rise, then a half cosine to nothing."""
    warmup = min(warmup_steps, max(1, steps // 4))
    if step < warmup:
        return (step + 1) / warmup
    progress = (step - warmup) / max(1, steps - warmup)
    return 0.5 * (1 + math.cos(math.pi * progress))


def mean_record(records: Sequence[StepRecord]) -> StepRecord:
    """The mean of several records, at the step of the last."""
    means = {
        part.name: sum(getattr(record, part.name) for record in records) / len(records)
        for part in fields(records[-1])
        if part.name != "step"
    }
    return replace(records[-1], **means)
