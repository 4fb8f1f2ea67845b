"""Multiply-adds and training speed of the generator against the reference network of MTL-UE.

Usage: python benchmarks/generator_cost.py [--tasks 3,40] [--size 64] [--steps 3]

The reference is built here from its published description (ResNet-18 stem to the end of the second stage at stride 2,
16 embedding channels a task at the latent's size, concatenated, three transposed-convolution blocks with instance
normalisation) for counting only; it is not part of the product. Prints counts and ratios; asserts nothing.
"""

import argparse
import time

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models.resnet import BasicBlock, conv1x1

from mtlue_cli.choices import TaskKind
from mtlue_cli.generator.model import GeneratorConfig, PerturbationGenerator
from mtlue_cli.tasks.spec import Task, TaskSet
from mtlue_cli.workflows.train.settings import THROUGH_ATTACKS


class ReferenceNetwork(nn.Module):
    """Encoder at half resolution with 128 channels, concatenated task maps, transposed-convolution decoder."""

    def __init__(self, tasks: int) -> None:
        super().__init__()
        shortcut = nn.Sequential(conv1x1(64, 128, 2), nn.BatchNorm2d(128))
        self.encoder = nn.Sequential(
            nn.Conv2d(3, 64, 3, padding=1, bias=False),
            nn.BatchNorm2d(64),
            nn.ReLU(inplace=True),
            BasicBlock(64, 64),
            BasicBlock(64, 64),
            BasicBlock(64, 128, 2, shortcut),
            BasicBlock(128, 128),
        )
        channels = 128 + 16 * tasks
        self.task_channels = 16 * tasks
        self.decoder = nn.Sequential(
            nn.ConvTranspose2d(channels, 128, 3, padding=1, bias=False),
            nn.InstanceNorm2d(128),
            nn.ReLU(inplace=True),
            nn.ConvTranspose2d(128, 64, 4, stride=2, padding=1, bias=False),
            nn.InstanceNorm2d(64),
            nn.ReLU(inplace=True),
            nn.ConvTranspose2d(64, 3, 3, padding=1),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Unbounded delta; the task maps are zeros, which cost as much as learned ones."""
        latent = self.encoder(images)
        maps = latent.new_zeros(len(images), self.task_channels, *latent.shape[-2:])
        delta: Tensor = self.decoder(torch.cat([latent, maps], dim=1))
        return delta


def multiply_adds(call: "nn.Module", *inputs: object) -> float:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        call(*inputs)
    return counter.get_total_flops() / 2


def images_per_second(network: nn.Module, images: Tensor, steps: int, *inputs: object) -> float:
    network = network.to(memory_format=torch.channels_last).train()
    started = 0.0
    for step in range(steps + 1):
        if step == 1:
            started = time.perf_counter()
        network.zero_grad(set_to_none=True)
        network(images, *inputs).square().mean().backward()
    return steps * len(images) / (time.perf_counter() - started)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", default="3,40", help="numbers of tasks, comma separated")
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--batch", type=int, default=32)
    arguments = parser.parse_args()
    print(f"{'tasks':>5} {'reference':>12} {'generator':>12} {'ratio':>8} {'speed-up of a training step':>30}")
    for count in (int(text) for text in arguments.tasks.split(",")):
        tasks = TaskSet(tuple(Task(f"task{index}", TaskKind.CATEGORICAL, ("a", "b", "c")) for index in range(count)))
        shape = GeneratorConfig(decoder_width=THROUGH_ATTACKS.decoder_width)
        reference, generator = ReferenceNetwork(count), PerturbationGenerator(shape, tasks)
        generator.eval()
        reference.eval()
        one = torch.rand(1, 3, arguments.size, arguments.size)
        label = {task.name: torch.zeros(1, dtype=torch.int64) for task in tasks}
        theirs, ours = multiply_adds(reference, one), multiply_adds(generator, one, label)
        images = one.expand(arguments.batch, -1, -1, -1).contiguous(memory_format=torch.channels_last)
        labels = {name: column.expand(arguments.batch) for name, column in label.items()}
        slow = images_per_second(reference, images, arguments.steps)
        fast = images_per_second(generator, images, arguments.steps, labels)
        print(
            f"{count:>5} {theirs / 1e6:>9.0f} M {ours / 1e6:>9.1f} M {ours / theirs:>8.3f} "
            f"{fast / slow:>12.1f}x ({fast:.0f} against {slow:.0f} images/s)"
        )


if __name__ == "__main__":
    main()
