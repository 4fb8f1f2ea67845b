"""Clean-trained surrogates, with the checkpoints of their last epochs."""

import copy
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from mtlue_cli.devices import on_device
from mtlue_cli.networks.multitask import MultiTaskNetwork, build_network
from mtlue_cli.tasks.spec import TaskSet
from mtlue_cli.training.distortions import PLAIN, DistortionSettings, distort
from mtlue_cli.training.intervention import Mixture
from mtlue_cli.training.multitask_loop import EpochRecord, LearningSettings, train_multitask

Weights = dict[str, Tensor]


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

    @torch.no_grad()
    def distorted(network: nn.Module, images: Tensor, labels: Mapping[str, Tensor], rng: torch.Generator) -> Mixture:
        del network
        seen = distort(images, None, images.shape[-1], distortions, rng)
        return Mixture(seen.contiguous(memory_format=torch.channels_last), labels)

    intervention = distorted if distortions.photometric else None
    train_multitask(images, labels, tasks, settings, device, on_step, record, intervention=intervention)
    return SurrogateRun(tuple(checkpoints), accuracy, settings)


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
