"""What a verification would do, and about how long it would take; nothing is trained or written."""

import time
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

from mtlue_cli.choices import BackboneName, LearnerName
from mtlue_cli.devices import choose_device, describe_device
from mtlue_cli.images.labelled import read_folder_labels
from mtlue_cli.networks.backbones import BACKBONES
from mtlue_cli.tasks.label_tensors import empty_maps
from mtlue_cli.tasks.labels import LabelFile
from mtlue_cli.tasks.spec import TaskSet
from mtlue_cli.training.multitask_loop import LearningSettings, steps_an_epoch, train_multitask
from mtlue_cli.verification.conditions import Condition, Material, Role
from mtlue_cli.verification.tiers import NotTested
from mtlue_cli.workflows.progress import Progress
from mtlue_cli.workflows.verify.config import VerifyConfig
from mtlue_cli.workflows.verify.plan import checked_plan, require_fit
from mtlue_cli.workflows.verify.starts import backbones_to_start, read_starts

SCHEMA_VERSION = 1

TIMED_STEPS = 6
"""Training steps that the estimate is made from."""


@dataclass(frozen=True)
class PlannedCondition:
    """One row of a plan.

    Attributes:
        name, role: Of the condition.
        victims: Networks that are trained: one a seed, times the tasks where each has its own.
        seconds: Estimate for all of them.
    """

    name: str
    role: Role
    victims: int
    seconds: float


@dataclass(frozen=True)
class PlannedStart:
    """A backbone that is trained first, for fine-tuned victims.

    Attributes:
        backbone: Which.
        images: Other clean images that it is trained on.
        seconds: Estimate.
    """

    backbone: BackboneName
    images: int
    seconds: float


@dataclass(frozen=True)
class DryRun:
    """A plan with its cost.

    Attributes:
        starts: What is trained before the conditions.
        conditions: In order.
        left_out: What will not be tested.
        images: Training images, about: the split is drawn by content when it runs.
        epochs, steps: Of every victim; optimiser steps over all epochs, about.
        device: Where, in words.
    """

    starts: tuple[PlannedStart, ...]
    conditions: tuple[PlannedCondition, ...]
    left_out: tuple[NotTested, ...]
    images: int
    epochs: int
    steps: int
    device: str

    @property
    def seconds(self) -> float:
        """Estimate for everything; victims that are cached already cost nothing."""
        return sum(start.seconds for start in self.starts) + sum(planned.seconds for planned in self.conditions)

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready document."""
        return {
            "schema_version": SCHEMA_VERSION,
            "command": "verify --dry-run",
            "starts": [asdict(start) | {"seconds": round(start.seconds, 1)} for start in self.starts],
            "conditions": [asdict(row) | {"seconds": round(row.seconds, 1)} for row in self.conditions],
            "not_tested": [left.to_json() for left in self.left_out],
            "train_images": self.images,
            "epochs": self.epochs,
            "steps": self.steps,
            "device": self.device,
            "seconds": round(self.seconds, 1),
        }


def dry_run(config: VerifyConfig, progress: Progress, given: LabelFile | None = None) -> DryRun:
    """Plan a verification and estimate its time from a few steps on noise.

    ``given`` is what the label file of the clean images holds; None: it is read now.

    Raises:
        InputError: The options or the labels are at fault.
    """
    plan = checked_plan(config)
    read_starts(config, plan, fetch=False)
    given = given or read_folder_labels(config.clean, config.labels, config.reading, for_learning=False)
    table = given.table.recoded(given.usual_tasks)
    require_fit(config, plan, table.tasks)
    available = len(table) if plan.limit is None else min(plan.limit, len(table))
    images = available if config.has_own_test else round(available * (1 - config.test_fraction))
    device = choose_device(config.device)
    for note in (f"device: {describe_device(device)}", *given.notes):
        progress.note(note)
    epochs = plan.epochs_with(images)
    settings = LearningSettings(epochs=epochs, batch_size=plan.batch_size, crop_size=config.size)
    an_image = seconds_per_image(table.tasks, settings, device)
    starts = []
    if config.pretrain_images is not None and config.pretrain_labels is not None:
        other = read_folder_labels(config.pretrain_images, config.pretrain_labels, config.whole_reading).table
        starts = [
            PlannedStart(backbone, len(other), an_image * len(other) * epochs * BACKBONES[backbone].relative_cost)
            for backbone in backbones_to_start(plan)
        ]
    rows, steps = [], epochs * steps_an_epoch(images, plan.batch_size)
    for condition in plan.conditions:
        networks = len(table.tasks) if condition.victim.learner is LearnerName.STL else 1
        seconds = an_image * images * epochs * relative_cost(condition, table.tasks) * config.seeds
        rows.append(PlannedCondition(condition.name, condition.role, networks * config.seeds, seconds))
    return DryRun(tuple(starts), tuple(rows), plan.left_out, images, epochs, steps, describe_device(device))


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
    if condition.countermeasure is not None:
        cost *= condition.countermeasure.cost
    if condition.material is Material.CLEAN_PART:
        cost *= 1 - condition.protected_fraction
    return cost
