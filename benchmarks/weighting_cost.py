"""Time of a training step under every task weighting, against linear scalarisation.

Usage: python -m benchmarks.weighting_cost [--tasks 3,40] [--steps 20] [--weightings pcgrad,mgda]

At most twice linear scalarisation is wanted at 3 tasks where the method allows it. Steps of all weightings take turns,
so that a busy machine slows all alike, and the median counts; processor time is
steadier there. Weightings whose modules are not installed are named.
"""

import argparse
import time
from statistics import median

import torch
from torch import Tensor

from mtlue_cli.choices import BackboneName, TaskKind, WeightingName
from mtlue_cli.devices import on_device
from mtlue_cli.networks.multitask import MultiTaskNetwork, build_network
from mtlue_cli.tasks.losses import task_losses
from mtlue_cli.tasks.spec import Task, TaskSet
from mtlue_cli.weightings import WEIGHTINGS, Weighting, build_weighting


def step_seconds(
    network: MultiTaskNetwork, weighting: Weighting, images: Tensor, labels: dict[str, Tensor]
) -> tuple[float, float]:
    """Seconds of one forward and backward pass, on the wall and of the processor."""
    wall, processor = time.perf_counter(), time.process_time()
    network.zero_grad(set_to_none=True)
    features, outputs = network.represent(images)
    weighting.backward(task_losses(outputs, labels, network.tasks), features)
    if images.is_cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - wall, time.process_time() - processor


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", default="3,40", help="numbers of tasks, comma separated")
    parser.add_argument("--weightings", default="", help="names, comma separated; unset: all")
    parser.add_argument("--backbone", type=BackboneName, default=BackboneName.SMALL)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"))
    arguments = parser.parse_args()
    wanted = {WeightingName(text) for text in arguments.weightings.split(",") if text} or set(WeightingName)
    names = [name for name in WEIGHTINGS if name in wanted | {WeightingName.LS}]
    for name in names:
        if WEIGHTINGS[name].missing():
            print(f"{name.value}: not measured, needs {', '.join(WEIGHTINGS[name].missing())}")
    names = [name for name in names if not WEIGHTINGS[name].missing()]
    rng = torch.Generator().manual_seed(0)
    images = torch.rand(arguments.batch, 3, arguments.size, arguments.size, generator=rng)
    images = images.to(arguments.device).contiguous(memory_format=torch.channels_last)
    print(f"{'tasks':>5} {'weighting':>12} {'ms a step':>10} {'to ls':>6} {'of the processor':>17} {'to ls':>6}")
    for count in (int(text) for text in arguments.tasks.split(",")):
        tasks = TaskSet(tuple(Task(f"task{index}", TaskKind.BINARY, ("0", "1")) for index in range(count)))
        labels = {task.name: torch.randint(2, (arguments.batch,), generator=rng).to(arguments.device) for task in tasks}
        network = on_device(build_network(arguments.backbone, tasks, 0), arguments.device).train()
        weightings = {name: build_weighting(name, count, 0).to(arguments.device) for name in names}
        spent: dict[WeightingName, list[tuple[float, float]]] = {name: [] for name in names}
        for step in range(arguments.steps + 1):
            for name, weighting in weightings.items():
                figures = step_seconds(network, weighting, images, labels)
                if step:  # the first one loads libraries
                    spent[name].append(figures)
        medians = {name: [median(column) for column in zip(*figures, strict=True)] for name, figures in spent.items()}
        plain = medians[WeightingName.LS]
        for name, (wall, processor) in medians.items():
            print(
                f"{count:>5} {name.value:>12} {wall * 1e3:>10.1f} {wall / plain[0]:>6.2f} "
                f"{processor * 1e3:>17.1f} {processor / plain[1]:>6.2f}"
            )


if __name__ == "__main__":
    main()
