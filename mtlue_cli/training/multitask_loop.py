"""Train a multi-task network from scratch, and predict with it: surrogate and victim alike."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from mtlue_cli.choices import BackboneName, Precision
from mtlue_cli.networks.multitask import MultiTaskNetwork, build_network
from mtlue_cli.tasks.losses import count_correct, mean_loss, task_losses
from mtlue_cli.tasks.spec import TaskSet
from mtlue_cli.training.augment import apply_view, draw_crop
from mtlue_cli.training.runtime import autocast, choose_precision, placed

MILESTONES = (0.6, 0.8)
"""Shares of the epochs after which the learning rate drops to a tenth (36 and 48 of the paper's 60)."""


@dataclass(frozen=True)
class LearningSettings:
    """How a network is trained.

    Attributes:
        epochs: Passes over the images.
        batch_size: Images a step.
        learning_rate, weight_decay: Of Adam.
        crop_size: Side in pixels of the random crops that the network sees.
        backbone: Its shared part.
        seed: Of weights, order and augmentation.
        precision: Arithmetic.
    """

    epochs: int = 8
    batch_size: int = 128
    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    crop_size: int = 64
    backbone: BackboneName = BackboneName.RESNET18
    seed: int = 0
    precision: Precision = Precision.AUTO


@dataclass(frozen=True)
class EpochRecord:
    """One epoch's figures on the training images: mean loss, accuracy a task (NaN where nothing is labelled)."""

    epoch: int
    epochs: int
    loss: float
    accuracy: Mapping[str, float]


def to_float(images: Tensor, device: torch.device) -> Tensor:
    """uint8 images on ``device`` as float in [0, 1], channels last."""
    return images.to(device).float().div_(255.0).contiguous(memory_format=torch.channels_last)


def train_multitask(
    images: Tensor,
    labels: Mapping[str, Tensor],
    tasks: TaskSet,
    settings: LearningSettings,
    device: torch.device,
    on_step: Callable[[int], None] | None = None,
    on_epoch: Callable[[EpochRecord, MultiTaskNetwork], None] | None = None,
) -> MultiTaskNetwork:
    """Train from scratch with Adam on random crops and flips; deterministic on a CPU.

    Args:
        images: ``(N, 3, S, S)`` uint8 with ``S >= settings.crop_size``.
        labels: Task name to class indices, ``(N,)`` int64, negative where unlabelled (masked).
        tasks: The tasks to learn.
        settings: How.
        device: Where.
        on_step: Called after each step with the number of images in it.
        on_epoch: Called after each epoch with its figures and the network.

    Returns:
        The trained network, in evaluation mode.
    """
    rng = torch.Generator().manual_seed(settings.seed)
    network = placed(build_network(settings.backbone, tasks, settings.seed), device)
    optimizer = torch.optim.Adam(
        network.parameters(), settings.learning_rate, weight_decay=settings.weight_decay, fused=device.type != "mps"
    )
    drops = [max(1, round(settings.epochs * share)) for share in MILESTONES]
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, drops, gamma=0.1)
    dtype = choose_precision(settings.precision, device)
    size = images.shape[-1]
    for epoch in range(1, settings.epochs + 1):
        network.train()
        loss_sum, counts = 0.0, {task.name: (0, 0) for task in tasks}
        for rows in torch.split(torch.randperm(len(images), generator=rng), settings.batch_size):
            if len(rows) == 1 < min(settings.batch_size, len(images)):
                continue  # the ragged last batch: batch statistics of a single sample are of no use
            batch_labels = {task.name: labels[task.name][rows].to(device) for task in tasks}
            view = draw_crop(size, settings.crop_size, len(rows), rng)
            batch = apply_view(to_float(images[rows], device), view, settings.crop_size)
            optimizer.zero_grad(set_to_none=True)
            with autocast(device, dtype):
                logits = network(batch)
            loss = mean_loss(task_losses(logits, batch_labels, tasks))
            loss.backward()  # type: ignore[no-untyped-call]  # torch's stubs leave it untyped
            optimizer.step()
            loss_sum += float(loss.detach()) * len(rows)
            for name, (correct, known) in count_correct(logits, batch_labels, tasks).items():
                counts[name] = (counts[name][0] + correct, counts[name][1] + known)
            if on_step is not None:
                on_step(len(rows))
        schedule.step()
        if on_epoch is not None:
            accuracy = {name: correct / known if known else float("nan") for name, (correct, known) in counts.items()}
            network.eval()
            on_epoch(EpochRecord(epoch, settings.epochs, loss_sum / len(images), accuracy), network)
    network.eval()
    return network


@torch.inference_mode()
def predict(
    network: MultiTaskNetwork, images: Tensor, crop_size: int, device: torch.device, batch_size: int = 256
) -> dict[str, Tensor]:
    """Logits on centre crops, in evaluation mode and float32.

    Args:
        network: Trained for any tasks.
        images: ``(N, 3, S, S)`` uint8.
        crop_size: Side of the crop in pixels.
        device: Where the network is.
        batch_size: Images at a time.

    Returns:
        Task name to ``(N, C)`` float on the CPU.
    """
    network.eval()
    offset = (images.shape[-1] - crop_size) // 2
    crops = images[..., offset : offset + crop_size, offset : offset + crop_size]
    parts = [network(to_float(batch, device)) for batch in torch.split(crops, batch_size)]
    return {name: torch.cat([part[name].float().cpu() for part in parts]) for name in parts[0]}
