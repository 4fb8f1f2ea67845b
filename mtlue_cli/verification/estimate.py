"""How long a plan will take, from a few timed steps and the declared costs of its parts."""

import time
from dataclasses import replace

import torch

from mtlue_cli.choices import BackboneName, LearnerName
from mtlue_cli.networks.backbones.registry import BACKBONES
from mtlue_cli.tasks.dense import empty_maps
from mtlue_cli.tasks.spec import TaskSet
from mtlue_cli.training.multitask_loop import LearningSettings, train_multitask
from mtlue_cli.verification.conditions import Condition, Material

TIMED_STEPS = 6


def seconds_per_image(tasks: TaskSet, settings: LearningSettings, device: torch.device) -> float:
    """Seconds that the small backbone trains on one image here, over its relative cost: those of a ResNet-18.

    Timed on noise: what a step costs does not depend on what it sees. The first third of the steps does not count.
    """
    rng = torch.Generator().manual_seed(0)
    count, side = TIMED_STEPS * settings.batch_size, settings.crop_size
    images = torch.randint(256, (count, 3, side, side), generator=rng, dtype=torch.uint8)
    labels = {task.name: torch.randint(task.num_classes, (count,), generator=rng) for task in tasks.image_level}
    labels |= {task.name: empty_maps(task, count, side) for task in tasks.dense}
    marks: list[float] = []
    timed = replace(settings, epochs=1, backbone=BackboneName.SMALL)
    train_multitask(images, labels, tasks, timed, device, lambda _: marks.append(time.monotonic()))
    warm = marks[TIMED_STEPS // 3 :]
    a_step = (warm[-1] - warm[0]) / (len(warm) - 1)
    return a_step / settings.batch_size / BACKBONES[BackboneName.SMALL].relative_cost


def relative_cost(condition: Condition, tasks: TaskSet) -> float:
    """Time of one epoch of a condition's victim as a multiple of a ResNet-18's on the same images."""
    cost = BACKBONES[condition.victim.backbone].relative_cost
    if condition.victim.learner is LearnerName.STL:
        cost *= len(tasks)
    if condition.attack is not None:
        cost *= condition.attack.cost
    if condition.material is Material.CLEAN_PART:
        cost *= 1 - condition.protected_fraction
    return cost
