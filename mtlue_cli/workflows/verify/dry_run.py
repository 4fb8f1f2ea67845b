"""What a verification would do, and about how long it would take; nothing is trained or written."""

import time
from dataclasses import replace
from typing import Literal

import torch

from mtlue_cli.choices import BackboneName, LearnerName, Tier
from mtlue_cli.devices import choose_device, describe_device
from mtlue_cli.documents import Document
from mtlue_cli.generator.checkpoint import read_card
from mtlue_cli.generator.shipped import resolve_weights
from mtlue_cli.images.labelled import read_folder_labels
from mtlue_cli.networks.backbones import BACKBONES
from mtlue_cli.release.seal import trust_of
from mtlue_cli.tasks.label_tensors import empty_maps
from mtlue_cli.tasks.labels import LabelFile
from mtlue_cli.tasks.spec import TaskSet
from mtlue_cli.training.multitask_loop import LearningSettings, steps_an_epoch, train_multitask
from mtlue_cli.verification.conditions import Condition, Material, Role
from mtlue_cli.verification.experiment import require_images
from mtlue_cli.verification.tiers import NotTested
from mtlue_cli.workflows.progress import Progress
from mtlue_cli.workflows.protect.keyed import key_for
from mtlue_cli.workflows.verify.config import VerifyConfig
from mtlue_cli.workflows.verify.images import checked_labels
from mtlue_cli.workflows.verify.plan import checked_plan, require_asked
from mtlue_cli.workflows.verify.starts import backbones_to_start, read_starts

TIMED_STEPS = 6
"""Training steps that the estimate is made from."""


class PlannedCondition(Document, frozen=True):
    """One row of a plan.

    Attributes:
        name, role: Of the condition.
        victims: Networks that are trained: one per seed, times the tasks where each has its own.
        seconds: Estimate for all of them, trained for all epochs.
    """

    name: str
    role: Role
    victims: int
    seconds: float


class PlannedStart(Document, frozen=True):
    """A backbone that is trained first, for fine-tuned victims.

    Attributes:
        backbone: Which.
        images: Other clean images that it is trained on.
        seconds: Estimate.
    """

    backbone: BackboneName
    images: int
    seconds: float


class DryRun(Document, frozen=True, kw_only=True, rename={"left_out": "not_tested", "images": "train_images"}):
    """A plan with its cost.

    Attributes:
        schema_version, command: Which document this is.
        starts: What is trained before the conditions.
        conditions: In order.
        left_out: What will not be tested.
        images: Training images, about: the split is drawn by content when it runs.
        epochs, steps: Of every victim; optimiser steps over all epochs, about.
        device: Where, in words.
        seconds: Estimate for everything, at most the time that ``--tier adaptive`` has; victims that are cached already
            cost nothing.
    """

    schema_version: Literal[1] = 1
    command: Literal["verify --dry-run"] = "verify --dry-run"
    starts: tuple[PlannedStart, ...]
    conditions: tuple[PlannedCondition, ...]
    left_out: tuple[NotTested, ...]
    images: int
    epochs: int
    steps: int
    device: str
    seconds: float


def dry_run(config: VerifyConfig, progress: Progress, given: LabelFile | None = None) -> DryRun:
    """Plan a verification and estimate its time from a few steps on noise.

    ``given`` is what the label file of the clean images holds; None: it is read now.

    Raises:
        InputError: The run would refuse it too before it trains anything; as to the number of images, about.
    """
    plan = checked_plan(config)
    read_starts(config, plan, fetch=False)
    given = given or read_folder_labels(config.clean, config.labels, config.reading, for_learning=False)
    trust_of(None if config.protected is None else config.key, config.signer)
    card = None if config.weights is None else read_card(resolve_weights(config.weights, given.table.tasks))
    _, table, own_test = checked_labels(config, plan, given, card)
    if card is not None:
        key_for(card, config.key, keep=False)
    available = len(table) if plan.limit is None else min(plan.limit, len(table))
    images = available if own_test is not None else round(available * (1 - config.test_fraction))
    require_asked(plan, lambda condition: require_images(condition, images))
    device = choose_device(config.device)
    for note in (f"device: {describe_device(device)}", *given.notes):
        progress.note(note)
    epochs = plan.epochs_with(images)
    settings = LearningSettings(epochs=epochs, batch_size=plan.batch_size, crop_size=config.size)
    an_image = seconds_per_image(table.tasks, settings, device)
    starts: list[PlannedStart] = []
    if config.pretrain_images is not None and config.pretrain_labels is not None:
        others = len(read_folder_labels(config.pretrain_images, config.pretrain_labels, config.whole_reading).table)
        for backbone in backbones_to_start(plan):
            seconds = an_image * others * epochs * BACKBONES[backbone].relative_cost
            starts.append(PlannedStart(backbone, others, round(seconds, 1)))
    rows: list[PlannedCondition] = []
    for condition in plan.conditions:
        networks = len(table.tasks) if condition.victim.learner is LearnerName.STL else 1
        seconds = an_image * images * condition.total_epochs(epochs) * config.seeds
        seconds *= relative_cost(condition, table.tasks)
        rows.append(PlannedCondition(condition.name, condition.role, networks * config.seeds, round(seconds, 1)))
    seconds = sum(start.seconds for start in starts) + sum(row.seconds for row in rows)
    if config.tier is Tier.ADAPTIVE:  # most conditions are run in part
        seconds = min(seconds, 60 * config.adaptive_minutes)
    return DryRun(
        starts=tuple(starts),
        conditions=tuple(rows),
        left_out=plan.left_out,
        images=images,
        epochs=epochs,
        steps=epochs * steps_an_epoch(images, plan.batch_size),
        device=describe_device(device),
        seconds=round(seconds, 1),
    )


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
    cost = BACKBONES[condition.victim.backbone].relative_cost * condition.attack.cost
    if condition.victim.learner is LearnerName.STL:
        cost *= len(tasks)
    if condition.material is Material.CLEAN_PART:
        cost *= 1 - condition.protected_fraction
    return cost
