"""Pretrained backbones for victims that do not start from scratch."""

from dataclasses import replace

import torch

from mtlue_cli.choices import BackboneName
from mtlue_cli.errors import InputError
from mtlue_cli.images.dataset import load_square_images
from mtlue_cli.images.folder import match_labels
from mtlue_cli.tasks.labels import read_label_file
from mtlue_cli.training.methods.registry import METHODS
from mtlue_cli.training.multitask_loop import EpochRecord, LearningSettings
from mtlue_cli.training.pretrained import PretrainedStart, pretrain_backbone, read_start
from mtlue_cli.workflows.progress import Progress
from mtlue_cli.workflows.verify_settings import VerifyConfig, VerifyPlan


def make_starts(
    config: VerifyConfig, plan: VerifyPlan, settings: LearningSettings, device: torch.device, progress: Progress
) -> dict[BackboneName, PretrainedStart]:
    """A start for every backbone of the plan that some victim does not train from scratch.

    Raises:
        InputError: A start cannot be read, is of another architecture, or its training images are the judged ones.
    """
    waiting = [found.victim for found in plan.conditions if METHODS[found.victim.method].needs_start]
    backbones = tuple(dict.fromkeys(victim.backbone for victim in waiting))
    if not backbones:
        return {}
    if config.start is not None:
        starts = {backbone: read_start(config.start, backbone) for backbone in backbones}
        for start in starts.values():
            progress.note(f"fine-tuned victims start from {start.source}")
        return starts
    return _pretrained(config, backbones, settings, device, progress)


def _pretrained(
    config: VerifyConfig,
    backbones: tuple[BackboneName, ...],
    settings: LearningSettings,
    device: torch.device,
    progress: Progress,
) -> dict[BackboneName, PretrainedStart]:
    """Train each backbone on the other clean images that the user named."""
    folder, labels = config.pretrain_images, config.pretrain_labels
    assert folder is not None and labels is not None  # noqa: PT018 - check_usage saw to it
    judged = {config.clean.resolve(), *([config.test.resolve()] if config.test is not None else [])}
    if folder.resolve() in judged:
        raise InputError(
            f"--pretrain-images {folder} are the images that are judged; a start must come from other images"
        )
    table = read_label_file(labels).table
    match_labels(folder, table)
    progress.start("loading images for the start", len(table))
    images = load_square_images(
        folder, table.file_names, config.side, workers=config.workers, on_image=progress.advance
    )
    progress.finish()
    columns = {name: torch.from_numpy(column) for name, column in table.columns.items()}
    starts: dict[BackboneName, PretrainedStart] = {}
    for backbone in backbones:
        progress.start(f"start for {backbone.value}", settings.epochs * len(images))

        def on_epoch(record: EpochRecord) -> None:
            progress.advance(0, {"loss": record.loss})

        starts[backbone] = pretrain_backbone(
            images, columns, table.tasks, replace(settings, backbone=backbone), device, progress.advance, on_epoch
        )
        progress.finish()
    return starts
