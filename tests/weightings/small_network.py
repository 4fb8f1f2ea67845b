"""A network of a thousand parameters with three conflicting tasks, and one step under a weighting."""

from collections.abc import Mapping

import pytest
import torch
from torch import Tensor, nn

from mtlue_cli.choices import TaskKind, WeightingName
from mtlue_cli.networks.backbones import Backbone
from mtlue_cli.networks.multitask import ImageLevelNetwork
from mtlue_cli.tasks.losses import task_losses
from mtlue_cli.tasks.spec import Task, TaskSet
from mtlue_cli.weightings import WEIGHTINGS, Weighting, build_weighting

TASKS = TaskSet(
    (
        Task("one", TaskKind.BINARY, ("0", "1")),
        Task("two", TaskKind.CATEGORICAL, ("a", "b", "c")),
        Task("three", TaskKind.BINARY, ("0", "1")),
    )
)
WIDTH = 4
Gradients = dict[str, Tensor]


def weighting(name: WeightingName, tasks: int = len(TASKS), seed: int = 0) -> Weighting:
    """Build it, or skip the test where what it needs is not installed."""
    missing = WEIGHTINGS[name].missing()
    if missing:
        pytest.skip(f"{', '.join(missing)} not installed")
    return build_weighting(name, tasks, seed)


def network(tasks: TaskSet = TASKS) -> ImageLevelNetwork:
    """The same weights at every call, whatever the tasks: heads of a smaller set are those of the larger."""
    rng = torch.Generator().manual_seed(5)
    with torch.random.fork_rng(devices=[]):
        built = ImageLevelNetwork(Backbone(nn.Sequential(nn.Flatten(), nn.Linear(12, WIDTH), nn.Tanh()), WIDTH), tasks)
    whole = {name: 0.1 * torch.randn(TASKS[name].num_classes, 256, generator=rng) for name in TASKS.names}
    with torch.no_grad():
        for parameter in (*built.backbone.parameters(), *built.shared.parameters()):
            parameter.copy_(torch.randn(parameter.shape, generator=rng))
        built.heads.weight.copy_(torch.cat([whole[name] for name in tasks.names]))
        built.heads.bias.zero_()
    return built


def draw(count: int = 12, tasks: TaskSet = TASKS) -> tuple[Tensor, dict[str, Tensor]]:
    """``(N, 3, 2, 2)`` float in [0, 1], and random labels."""
    rng = torch.Generator().manual_seed(1)
    images = torch.rand(count, 3, 2, 2, generator=rng)
    labels = {task.name: torch.randint(task.num_classes, (count,), generator=rng) for task in TASKS}
    return images, {name: labels[name] for name in tasks.names}


def step(
    weighting: Weighting, model: ImageLevelNetwork, images: Tensor, labels: Mapping[str, Tensor], scale: float = 1.0
) -> Gradients:
    """Gradients of all parameters after one ``backward``, with every loss multiplied by ``scale``."""
    model.zero_grad(set_to_none=True)
    features, outputs = model.represent(images)
    losses = task_losses(outputs, labels, model.tasks)
    weighting.backward({name: loss * scale for name, loss in losses.items()}, features)
    return {key: p.grad.clone() for key, p in model.named_parameters() if p.grad is not None}


def below_heads(gradients: Gradients) -> Tensor:
    """All gradients of what the tasks share, as one vector."""
    return torch.cat([grad.flatten() for key, grad in gradients.items() if not key.startswith("heads.")])


def cosine(first: Tensor, second: Tensor) -> float:
    return nn.functional.cosine_similarity(first.double(), second.double(), dim=0).item()
