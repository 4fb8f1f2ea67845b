"""Steps per second of victims and of the generator against plain loops over the same networks, in turns in one run.

Usage: python -m benchmarks.training_speed [--size 64] [--steps 8] [--rounds 5] [--device cpu] [--profile]

The plain loops are what one writes with torchvision: index a tensor of images, ``v2.RandomCrop`` and
``v2.RandomHorizontalFlip``, forward, cross-entropy, backward, Adam; channels-last and float32 like ours. The generator
is compared twice: with crops and flips alone, and with the distortions of its default recipe, which the plain loop
lacks. On a CPU time is the process's processor time, which other work disturbs less. ``--profile`` prints what our
steps cost by operator instead. Prints medians and ratios; asserts nothing.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn
from torchvision.transforms import v2

from mtlue_cli.choices import BackboneName, Precision, TaskKind
from mtlue_cli.devices import on_device
from mtlue_cli.generator.model import GeneratorConfig, PerturbationGenerator
from mtlue_cli.networks.multitask import build_network
from mtlue_cli.objectives import TargetedAdversarial
from mtlue_cli.tasks.losses import shifted_labels
from mtlue_cli.tasks.spec import Task, TaskSet
from mtlue_cli.training.distortions import ATTACKS, PLAIN, DistortionSettings
from mtlue_cli.training.generator_loop import GeneratorLoop, GeneratorSettings
from mtlue_cli.training.multitask_loop import LearningSettings, train_multitask
from mtlue_cli.workflows.train.settings import generator_size

TASKS = TaskSet(
    tuple(
        Task(name, TaskKind.CATEGORICAL, tuple(map(str, range(classes))))
        for name, classes in zip("abc", (9, 5, 2), strict=True)
    )
)
VICTIM_BATCH, GENERATOR_BATCH = 64, 32
Labels = dict[str, Tensor]


def now(device: torch.device) -> float:
    if device.type == "cpu":
        return time.process_time()
    torch.cuda.synchronize(device)
    return time.perf_counter()


def crossed(outputs: Labels, labels: Labels) -> Tensor:
    return torch.stack([nn.functional.cross_entropy(outputs[name], target) for name, target in labels.items()]).mean()


def batches(
    images: Tensor, labels: Labels, size: int, device: torch.device, crop: int | None
) -> "list[Callable[[], tuple[Tensor, Labels]]]":
    augment = v2.Compose([v2.RandomCrop(crop), v2.RandomHorizontalFlip()]) if crop else nn.Identity()

    def batch(rows: Tensor) -> tuple[Tensor, Labels]:
        taken = images[rows].to(device).float().div_(255).contiguous(memory_format=torch.channels_last)
        return augment(taken), {name: column[rows].to(device) for name, column in labels.items()}

    return [lambda rows=rows: batch(rows) for rows in torch.randperm(len(images)).split(size)]


def plain_victim(
    images: Tensor, labels: Labels, backbone: BackboneName, size: int, device: torch.device
) -> list[float]:
    network = on_device(build_network(backbone, TASKS, 0), device).train()
    optimizer = torch.optim.Adam(network.parameters(), 1e-3, fused=True)
    marks = []
    for take in batches(images, labels, VICTIM_BATCH, device, size):
        seen, targets = take()
        optimizer.zero_grad(set_to_none=True)
        crossed(network(seen), targets).backward()
        optimizer.step()
        marks.append(now(device))
    return marks


def our_victim(images: Tensor, labels: Labels, backbone: BackboneName, size: int, device: torch.device) -> list[float]:
    settings = LearningSettings(
        epochs=1, batch_size=VICTIM_BATCH, crop_size=size, backbone=backbone, precision=Precision.FLOAT32
    )
    marks: list[float] = []
    train_multitask(images, labels, TASKS, settings, device, lambda _: marks.append(now(device)))
    return marks


def plain_generator(images: Tensor, labels: Labels, size: int, device: torch.device) -> list[float]:
    generator = on_device(PerturbationGenerator(shape_of(images), TASKS, 0), device).train()
    surrogate = on_device(build_network(BackboneName.SMALL, TASKS, 0), device).eval().requires_grad_(False)
    augment = v2.Compose([v2.RandomCrop(size), v2.RandomHorizontalFlip()])
    optimizer = torch.optim.Adam(generator.parameters(), 1e-3)
    marks = []
    for take in batches(images, labels, GENERATOR_BATCH, device, None):
        seen, targets = take()
        optimizer.zero_grad(set_to_none=True)
        protected = augment((seen + generator(seen, targets)).clamp(0, 1))
        crossed(surrogate(protected), shifted_labels(targets, TASKS)).backward()
        optimizer.step()
        marks.append(now(device))
    return marks


def our_generator(
    images: Tensor, labels: Labels, size: int, device: torch.device, distortions: DistortionSettings
) -> list[float]:
    generator = on_device(PerturbationGenerator(shape_of(images), TASKS, 0), device)
    objective = TargetedAdversarial(TASKS, on_device(build_network(BackboneName.SMALL, TASKS, 0), device))
    settings = GeneratorSettings(
        steps=len(images) // GENERATOR_BATCH,
        batch_size=GENERATOR_BATCH,
        view_size=size,
        distortions=distortions,
        precision=Precision.FLOAT32,
    )
    marks: list[float] = []
    loop = GeneratorLoop(generator, objective, images, labels, settings, device)
    loop.run(on_step=lambda _: marks.append(now(device)))
    return marks


def shape_of(images: Tensor) -> GeneratorConfig:
    return GeneratorConfig(image_size=images.shape[-1], decoder_width=64, chroma=0.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=64, help="side of the views in pixels")
    parser.add_argument("--steps", type=int, default=8, help="timed steps a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--profile", action="store_true")
    options = parser.parse_args()
    device, size = torch.device(options.device), options.size
    warm = 2
    count = (options.steps + warm) * VICTIM_BATCH
    side = generator_size(size)
    images = torch.randint(256, (count, 3, side, side), dtype=torch.uint8)
    labels = {task.name: torch.randint(task.num_classes, (count,)) for task in TASKS}
    few = count * GENERATOR_BATCH // VICTIM_BATCH
    own_images, own_labels = images[:few], {name: column[:few] for name, column in labels.items()}
    cropped = replace(PLAIN, smallest_view=size / side)
    pairs: dict[str, tuple[Callable[[], list[float]], Callable[[], list[float]]]] = {}
    for backbone in (BackboneName.RESNET18, BackboneName.SMALL):
        given = images, labels, backbone, size, device
        pairs[f"victim {backbone.value}"] = (lambda g=given: our_victim(*g), lambda g=given: plain_victim(*g))
    own = own_images, own_labels, size, device
    for name, distortions in (("crops", cropped), ("distortions", ATTACKS)):
        pairs[f"generator, {name}"] = (
            lambda d=distortions: our_generator(*own, d),
            lambda: plain_generator(*own),
        )
    if options.profile:
        for name, (ours, _) in pairs.items():
            with torch.profiler.profile() as profile:
                ours()
            print(name, profile.key_averages().table(sort_by="self_cpu_time_total", row_limit=18), sep="\n")
        return
    print(f"{'':24} ours, steps/s   plain, steps/s   ratio")
    for name, runs in pairs.items():
        times: tuple[list[float], list[float]] = ([], [])
        for _ in range(options.rounds):
            for run, taken in zip(runs, times, strict=True):
                marks = run()
                taken += [after - before for before, after in zip(marks[warm - 1 :], marks[warm:], strict=False)]
        ours, plain = (1 / statistics.median(taken) for taken in times)
        print(f"{name:24} {ours:13.2f}   {plain:14.2f}   {ours / plain:5.2f}")


if __name__ == "__main__":
    main()
