"""Clean-trained surrogates, with the checkpoints of their last epochs."""

import copy
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from mtlue_cli.devices import on_device
from mtlue_cli.networks.multitask import ImageLevelNetwork, MultiTaskNetwork, build_network
from mtlue_cli.tasks.losses import count_correct, mean_loss, task_losses
from mtlue_cli.tasks.spec import TaskSet
from mtlue_cli.training.distortions import PLAIN, DistortionSettings, distort, draw_distortion
from mtlue_cli.training.intervention import Mixture
from mtlue_cli.training.methods import TrainingMethod
from mtlue_cli.training.multitask_loop import EpochRecord, LearningSettings, epoch_batches, train_multitask
from mtlue_cli.training.pretrained import PretrainedStart
from mtlue_cli.training.runtime import autocast, choose_precision

Weights = dict[str, Tensor]

HEAD_IMAGES, HEAD_VIEWS, HEAD_EPOCHS = 8000, 2, 20
"""Of the head on frozen features: most images, views of each, passes over the features of these."""


@dataclass(frozen=True)
class SurrogateRun:
    """A clean training run: weights after each of the last epochs, oldest first, and accuracy in the last one."""

    checkpoints: tuple[Weights, ...]
    accuracy: Mapping[str, float]
    settings: LearningSettings

    def networks(self, tasks: TaskSet, device: torch.device) -> list[MultiTaskNetwork]:
        """The checkpoints as networks on ``device``, oldest first."""
        networks = [build_network(self.settings.backbone, tasks, self.settings.seed) for _ in self.checkpoints]
        for network, weights in zip(networks, self.checkpoints, strict=True):
            network.load_state_dict(weights)
        return [on_device(network, device) for network in networks]


def train_surrogate(
    images: Tensor,
    labels: Mapping[str, Tensor],
    tasks: TaskSet,
    settings: LearningSettings,
    keep: int,
    device: torch.device,
    on_step: Callable[[int], None] | None = None,
    on_epoch: Callable[[EpochRecord], None] | None = None,
    distortions: DistortionSettings = PLAIN,
    method: TrainingMethod | None = None,
) -> SurrogateRun:
    """Train on clean images and keep the weights after each of the last ``keep`` epochs.

    Other arguments are those of :func:`~mtlue_cli.training.multitask_loop.train_multitask`. A surrogate that is trained
    under ``distortions`` behaves like one of an attacker who turns images grey or compresses them.
    """
    checkpoints: list[Weights] = []
    accuracy: Mapping[str, float] = {}

    def record(epoch: EpochRecord, network: MultiTaskNetwork) -> None:
        nonlocal accuracy
        accuracy = epoch.accuracy
        if epoch.epoch > settings.epochs - keep:
            checkpoints.append({name: copy.deepcopy(tensor.cpu()) for name, tensor in network.state_dict().items()})
        if on_epoch is not None:
            on_epoch(epoch)

    def distorted(network: nn.Module, images: Tensor, labels: Mapping[str, Tensor], rng: torch.Generator) -> Mixture:
        del network
        return Mixture(_distorted(images, distortions, rng), labels)

    intervention = distorted if distortions.photometric else None
    train_multitask(images, labels, tasks, settings, device, on_step, record, intervention=intervention, method=method)
    return SurrogateRun(tuple(checkpoints), accuracy, settings)


@torch.no_grad()
def _distorted(images: Tensor, distortions: DistortionSettings, rng: torch.Generator) -> Tensor:
    drawn = draw_distortion(len(images), distortions, rng)
    seen = distort(images, None, images.shape[-1], distortions, drawn)
    return seen.contiguous(memory_format=torch.channels_last)


def head_images(count: int) -> int:
    """Of ``count`` training images, the views that :func:`train_head` computes features of."""
    return HEAD_VIEWS * min(count, HEAD_IMAGES)


def train_head(
    images: Tensor,
    labels: Mapping[str, Tensor],
    tasks: TaskSet,
    settings: LearningSettings,
    start: PretrainedStart,
    device: torch.device,
    on_step: Callable[[int], None] | None = None,
    distortions: DistortionSettings = PLAIN,
) -> SurrogateRun:
    """Train shared layer and heads on features of clean images that the frozen backbone of ``start`` gives once.

    It is the attacker of :class:`~mtlue_cli.training.methods.HeadOnly` at the cost of :func:`head_images` forward
    passes. ``tasks`` are of images, not of pixels; ``settings.epochs`` does not count.
    """
    network = build_network(settings.backbone, tasks, settings.seed)
    assert isinstance(network, ImageLevelNetwork)  # the tasks are
    start.load_into(network)
    network = on_device(network, device).eval()
    rng = torch.Generator().manual_seed(settings.seed)
    chosen = torch.randperm(len(images), generator=rng)[:HEAD_IMAGES]
    few, own = images[chosen], {name: column[chosen] for name, column in labels.items()}
    encoded, known = [], []
    with torch.no_grad(), autocast(device, choose_precision(settings.precision, device)):
        for _ in range(HEAD_VIEWS):
            for batch, batch_labels in epoch_batches(few, own, tasks, settings, device, rng):
                seen = _distorted(batch, distortions, rng) if distortions.photometric else batch
                encoded.append(network.encode(seen).float())
                known.append(batch_labels)
                if on_step is not None:
                    on_step(len(batch))
    features = torch.cat(encoded)
    targets = {task.name: torch.cat([batch[task.name] for batch in known]) for task in tasks}
    steps = HEAD_EPOCHS * -(-len(features) // settings.batch_size)
    optimizer = torch.optim.Adam([*network.shared.parameters(), *network.heads.parameters()], settings.learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(HEAD_EPOCHS):
        for rows in torch.split(torch.randperm(len(features), generator=rng).to(device), settings.batch_size):
            optimizer.zero_grad(set_to_none=True)
            outputs = network.classify(features[rows])[1]
            loss = mean_loss(task_losses(outputs, {name: column[rows] for name, column in targets.items()}, tasks))
            loss.backward()  # type: ignore[no-untyped-call]  # torch's stubs leave it untyped
            optimizer.step()
            schedule.step()
    with torch.no_grad():
        counts = count_correct(network.classify(features)[1], targets, tasks)
    weights = {name: tensor.detach().cpu().clone() for name, tensor in network.state_dict().items()}
    accuracy = {name: correct / max(1, seen) for name, (correct, seen) in counts.items()}
    return SurrogateRun((weights,), accuracy, settings)


def epochs_within(
    seconds: float,
    images: Tensor,
    labels: Mapping[str, Tensor],
    tasks: TaskSet,
    settings: LearningSettings,
    device: torch.device,
) -> int:
    """How many epochs, at least one and at most ``settings.epochs``, fit into ``seconds``: timed on a few steps."""
    sample = slice(0, 4 * settings.batch_size)
    few = {name: column[sample] for name, column in labels.items()}
    marks: list[float] = []
    train_multitask(
        images[sample], few, tasks, replace(settings, epochs=1), device, lambda _: marks.append(time.monotonic())
    )
    if len(marks) < 3:
        return settings.epochs
    step_seconds = (marks[-1] - marks[1]) / (len(marks) - 2)
    steps_per_epoch = -(-len(images) // settings.batch_size)
    return max(1, min(settings.epochs, int(seconds / (step_seconds * steps_per_epoch))))
