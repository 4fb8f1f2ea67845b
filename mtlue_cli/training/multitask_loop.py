"""Train a multi-task network from scratch, and predict with it: surrogate and victim alike."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from mtlue_cli.choices import BackboneName, Precision, WeightingName
from mtlue_cli.devices import Processes, on_device, training_processes
from mtlue_cli.networks.backbones import BACKBONES
from mtlue_cli.networks.multitask import MultiTaskNetwork, build_network
from mtlue_cli.tasks.kinds import KINDS
from mtlue_cli.tasks.losses import count_correct, mean_loss, task_losses
from mtlue_cli.tasks.spec import TaskSet
from mtlue_cli.training.augment import apply_view, draw_crop, labels_of, view_labels
from mtlue_cli.training.intervention import Intervention, Mixture
from mtlue_cli.training.methods import TrainingMethod
from mtlue_cli.training.runtime import autocast, choose_precision
from mtlue_cli.weightings import build_weighting

MILESTONES = (0.6, 0.8)
"""Shares of the epochs after which the learning rate drops to a tenth (36 and 48 of the paper's 60)."""


@dataclass(frozen=True)
class LearningSettings:
    """How a network is trained, from weights, order and augmentation of ``seed``.

    It sees random crops of ``crop_size`` pixels. ``learning_rate`` is Adam's for ResNet-18; other backbones multiply it
    by their ``learning_rate_scale``.
    """

    epochs: int = 8
    batch_size: int = 128
    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    crop_size: int = 64
    backbone: BackboneName = BackboneName.RESNET18
    weighting: WeightingName = WeightingName.LS
    seed: int = 0
    precision: Precision = Precision.AUTO


@dataclass(frozen=True)
class EpochRecord:
    """One epoch's figures on the training images: mean loss, accuracy per task over its labelled images or pixels."""

    epoch: int
    epochs: int
    loss: float
    accuracy: Mapping[str, float]


def to_float(images: Tensor, device: torch.device) -> Tensor:
    """uint8 images on ``device`` as float in [0, 1], channels last."""
    return images.to(device).float().div_(255.0).contiguous(memory_format=torch.channels_last)


def steps_an_epoch(images: int, batch_size: int) -> int:
    """Optimiser steps of one pass over ``images`` images; a ragged last batch of a single one is skipped."""
    full, rest = divmod(images, batch_size)
    return full + (rest > 1 or (rest == 1 and full == 0))


def train_multitask(
    images: Tensor,
    labels: Mapping[str, Tensor],
    tasks: TaskSet,
    settings: LearningSettings,
    device: torch.device,
    on_step: Callable[[int], None] | None = None,
    on_epoch: Callable[[EpochRecord, MultiTaskNetwork], None] | None = None,
    *,
    intervention: Intervention | None = None,
    method: TrainingMethod | None = None,
    network: MultiTaskNetwork | None = None,
) -> MultiTaskNetwork:
    """Train with Adam on random crops and flips; deterministic on a CPU.

    Several processes (:func:`~mtlue_cli.devices.training_together`) compute a part of each batch each. Their gradients
    are averaged, so all of them get the same network. Batch statistics, ``intervention`` and weightings that adapt see
    the parts, and the statistics that are kept are those of the main process.

    Args:
        images: ``(N, 3, S, S)`` uint8 with ``S >= settings.crop_size``.
        labels: Task name to labels, such as class indices ``(N,)`` int64, negative where unlabelled (masked); label
            maps have the size of the images.
        tasks: The tasks to learn.
        settings: How.
        device: Where.
        on_step: Called after each step with the number of images in it.
        on_epoch: Called after each epoch with its figures and the network, which is returned at last.
        intervention: Changes each batch, such as MixUp.
        method: What is trained and from where; None: everything, from scratch.
        network: One to train on, which ``method`` has prepared; None: a new one.
    """
    rng = torch.Generator().manual_seed(settings.seed)
    method = method or TrainingMethod()
    is_new = network is None
    network = network or on_device(build_network(settings.backbone, tasks, settings.seed), device)
    weighting = build_weighting(settings.weighting, len(tasks), settings.seed).to(device)
    batches = partial(epoch_batches, images, labels, tasks, settings, device)

    def sample_losses() -> Iterator[Tensor]:
        for batch, batch_labels in batches(torch.Generator().manual_seed(settings.seed)):
            yield mean_loss(task_losses(network(batch), batch_labels, tasks))

    if is_new:
        method.prepare(network, sample_losses)
    rate = settings.learning_rate * BACKBONES[settings.backbone].learning_rate_scale
    groups: list[dict[str, Any]] = [
        {"params": [p for p in network.parameters() if p.requires_grad], "lr": rate},
        {"params": list(weighting.parameters())},
    ]
    fused = device.type != "mps"
    optimizer = torch.optim.Adam(groups, settings.learning_rate, weight_decay=settings.weight_decay, fused=fused)
    drops = [max(1, round(settings.epochs * share)) for share in MILESTONES]
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, drops, gamma=0.1)
    dtype = choose_precision(settings.precision, device)
    processes = training_processes()
    trained = [parameter for group in groups for parameter in group["params"]]
    # Each process mixes and cuts its own part; the order of the images is the same for all.
    chance = rng if processes.count == 1 else torch.Generator().manual_seed((settings.seed << 16) + processes.rank + 1)
    for epoch in range(1, settings.epochs + 1):
        method.start_epoch(network, (epoch - 1) / settings.epochs)
        weighting.new_epoch()
        loss_sum, counts = 0.0, {task.name: (0.0, 0.0) for task in tasks}
        for whole, whole_labels in batches(rng):
            rows = processes.rows(len(whole))
            batch, batch_labels = whole[rows], {name: column[rows] for name, column in whole_labels.items()}
            mixture = Mixture(batch, batch_labels)
            if intervention is not None:
                mixture = intervention(network, batch, batch_labels, chance)
            optimizer.zero_grad(set_to_none=True)
            with autocast(device, dtype):
                features, outputs = network.represent(mixture.images)
            losses = mixture.losses(outputs, tasks)
            if processes.count > 1:
                losses = weighed(losses, mixture.labels, tasks, processes)
            weighting.backward(losses, features)
            processes.average_gradients(trained)
            method.connections.mask_gradients()
            optimizer.step()
            method.connections.restore()
            loss_sum += float(mean_loss(losses).detach()) * len(whole)
            once = 1 if processes.count == 1 or len(batch) < len(whole) else 1 / processes.count
            for name, (correct, known) in count_correct(outputs, mixture.labels, tasks).items():
                counts[name] = (counts[name][0] + once * correct, counts[name][1] + once * known)
            if on_step is not None:
                on_step(len(whole))
        schedule.step()
        processes.share(network.buffers())
        if on_epoch is not None:
            sums = [loss_sum, *(figure for pair in counts.values() for figure in pair)]
            loss_sum, *found = processes.mean(sums)
            pairs = zip(counts, found[::2], found[1::2], strict=True)
            accuracy = {name: correct / known if known else float("nan") for name, correct, known in pairs}
            network.eval()
            on_epoch(EpochRecord(epoch, settings.epochs, loss_sum / len(images), accuracy), network)
    network.eval()
    return network


def weighed(
    losses: Mapping[str, Tensor], labels: Mapping[str, Tensor], tasks: TaskSet, processes: Processes
) -> dict[str, Tensor]:
    """Losses of a part of a batch, weighed so that their mean over the processes is the loss of the whole batch."""
    known = [float(KINDS[task.kind].known(labels[task.name]).sum()) for task in tasks]
    means = processes.mean(known)
    shares = zip(tasks.names, known, means, strict=True)
    return {name: losses[name] * (here / mean if mean else 1.0) for name, here, mean in shares}


def epoch_batches(
    images: Tensor,
    labels: Mapping[str, Tensor],
    tasks: TaskSet,
    settings: LearningSettings,
    device: torch.device,
    rng: torch.Generator,
) -> Iterator[tuple[Tensor, dict[str, Tensor]]]:
    """Augmented batches: every image once, in an order of ``rng``: ``(B, 3, crop, crop)`` float, and labels."""
    crop = settings.crop_size
    for rows in torch.split(torch.randperm(len(images), generator=rng), settings.batch_size):
        if len(rows) == 1 < min(settings.batch_size, len(images)):
            continue  # the ragged last batch: batch statistics of a single sample are of no use
        view = draw_crop(images.shape[-1], crop, len(rows), rng)
        # The window as uint8: a quarter of the bytes to move.
        batch = to_float(apply_view(images[rows].to(device), view, crop), device)
        yield batch, view_labels(labels_of(labels, tasks, rows, device), tasks, view, crop)


@torch.inference_mode()
def predict(
    network: MultiTaskNetwork, images: Tensor, crop_size: int, device: torch.device, batch_size: int = 256
) -> dict[str, Tensor]:
    """Outputs on centre crops of ``(N, 3, S, S)`` uint8 images, in evaluation mode and float32.

    Returns:
        Task name to float on the CPU: ``(N, C)``, or ``(N, channels, crop_size, crop_size)`` for a dense task.
    """
    network.eval()
    offset = (images.shape[-1] - crop_size) // 2
    crops = images[..., offset : offset + crop_size, offset : offset + crop_size]
    parts = [network(to_float(batch, device)) for batch in torch.split(crops, batch_size)]
    return {name: torch.cat([part[name].float().cpu() for part in parts]) for name in parts[0]}
