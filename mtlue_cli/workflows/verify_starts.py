"""Pretrained backbones for victims that do not start from scratch."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import torch
from torch import Tensor

from mtlue_cli import __version__
from mtlue_cli.choices import BackboneName
from mtlue_cli.errors import InputError
from mtlue_cli.images.dataset import load_square_images
from mtlue_cli.images.folder import match_labels
from mtlue_cli.images.labelled import read_folder_labels
from mtlue_cli.manifest import file_digest
from mtlue_cli.training.methods.registry import METHODS
from mtlue_cli.training.multitask_loop import EpochRecord, LearningSettings
from mtlue_cli.training.pretrained import PretrainedStart, load_start, pretrain_backbone, read_start, save_start
from mtlue_cli.verification.result_cache import document_digest, labels_digest, tensor_digest
from mtlue_cli.verification.split import Side
from mtlue_cli.workflows.progress import Progress
from mtlue_cli.workflows.verify_settings import VerifyConfig, VerifyPlan


def make_starts(
    config: VerifyConfig,
    plan: VerifyPlan,
    settings: LearningSettings,
    judged: Sequence[Side],
    device: torch.device,
    progress: Progress,
) -> dict[BackboneName, PretrainedStart]:
    """A start for every backbone of the plan that some victim does not train from scratch.

    One that is trained here is kept in the cache of finished victims.

    Args:
        config: What was asked for.
        plan: What is to be run.
        settings: How a start is trained.
        judged: Training and test images of the verification, which a start must not have seen.
        device: Where.
        progress: Whom it tells.

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
    return _pretrained(config, backbones, settings, judged, device, progress)


def _pretrained(
    config: VerifyConfig,
    backbones: tuple[BackboneName, ...],
    settings: LearningSettings,
    judged: Sequence[Side],
    device: torch.device,
    progress: Progress,
) -> dict[BackboneName, PretrainedStart]:
    """Train each backbone on the other clean images that the user named."""
    folder, labels = config.pretrain_images, config.pretrain_labels
    assert folder is not None and labels is not None  # noqa: PT018 - check_usage saw to it
    table = read_folder_labels(folder, labels, config.whole_reading).table
    match_labels(folder, table)
    known = {file_digest(side.folder / name) for side in judged for name in side.table.file_names}
    common = [name for name in table.file_names if file_digest(folder / name) in known]
    if common:
        raise InputError(
            f"{len(common)} of the {len(table)} images in {folder} are among those that are judged",
            common[:20],
            "a start must come from other images; remove these and their rows",
        )
    progress.start("loading images for the start", len(table))
    images = load_square_images(
        folder, table.file_names, config.side, workers=config.workers, on_image=progress.advance
    )
    progress.finish()
    columns = {name: torch.from_numpy(column) for name, column in table.columns.items()}
    starts: dict[BackboneName, PretrainedStart] = {}
    for backbone in backbones:
        own = replace(settings, backbone=backbone)
        kept = _kept(config, images, columns, own)
        if kept is not None and kept.exists():
            starts[backbone] = load_start(kept, backbone)
            progress.note(f"start for {backbone.value}: trained earlier, taken from the cache")
            continue
        progress.start(f"start for {backbone.value}", settings.epochs * len(images))

        def on_epoch(record: EpochRecord) -> None:
            progress.advance(0, {"loss": record.loss})

        starts[backbone] = pretrain_backbone(images, columns, table.tasks, own, device, progress.advance, on_epoch)
        progress.finish()
        if kept is not None:
            save_start(kept, starts[backbone])
    return starts


def _kept(
    config: VerifyConfig, images: Tensor, labels: Mapping[str, Tensor], settings: LearningSettings
) -> Path | None:
    """Where the cache keeps the start that these images, labels and settings give."""
    if config.cache is None:
        return None
    digest = document_digest(
        {
            "images": tensor_digest(images),
            "labels": labels_digest(labels),
            "settings": asdict(settings),
            "versions": [__version__, torch.__version__],
        }
    )
    return config.cache / f"start-{digest}.safetensors"
