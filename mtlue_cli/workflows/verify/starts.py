"""Pretrained backbones for victims that do not start from scratch."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import torch
from torch import Tensor

from mtlue_cli import __version__
from mtlue_cli.choices import BackboneName
from mtlue_cli.errors import InputError
from mtlue_cli.files import file_digest
from mtlue_cli.images.dataset import load_labels, load_square_images
from mtlue_cli.images.folder import match_labels
from mtlue_cli.images.labelled import read_folder_labels
from mtlue_cli.tasks.spans import with_spans
from mtlue_cli.training.multitask_loop import EpochRecord, LearningSettings
from mtlue_cli.training.named_settings import combined
from mtlue_cli.training.pretrained import (
    TIMM_PREFIX,
    PretrainedStart,
    load_start,
    pretrain_backbone,
    read_start,
    save_start,
)
from mtlue_cli.training.runtime import data_digest
from mtlue_cli.verification.result_cache import document_digest
from mtlue_cli.verification.split import Side
from mtlue_cli.workflows.progress import Progress
from mtlue_cli.workflows.verify.config import VerifyConfig
from mtlue_cli.workflows.verify.settings import VerifyPlan


def backbones_to_start(plan: VerifyPlan) -> tuple[BackboneName, ...]:
    """The backbones of the plan that some victim does not train from scratch, each once."""
    waiting = [found.victim.backbone for found in plan.conditions if found.victim.method.needs_start]
    return tuple(dict.fromkeys(waiting))


def read_starts(config: VerifyConfig, *, fetch: bool = True) -> dict[BackboneName, PretrainedStart]:
    """Open what ``--start`` names, for every backbone of the plan that needs it; nothing if it names nothing.

    Args:
        config: What was asked for.
        fetch: Whether timm may be asked for weights, which it may have to fetch; a file is opened in any case.

    Raises:
        InputError: It cannot be read, or is of another architecture than one of the backbones; lists all.
    """
    if config.start is None or (not fetch and config.start.startswith(TIMM_PREFIX)):
        return {}
    starts: dict[BackboneName, PretrainedStart] = {}
    faults: list[InputError] = []
    for backbone in backbones_to_start(config.plan):
        try:
            starts[backbone] = read_start(config.start, backbone)
        except InputError as error:
            faults.append(error)
    if len(faults) == 1:
        raise faults[0]
    if faults:
        raise combined(f"--start {config.start} does not fit every backbone", faults)
    return starts


def make_starts(
    config: VerifyConfig,
    settings: LearningSettings,
    judged: Sequence[Side],
    read: Mapping[BackboneName, PretrainedStart],
    device: torch.device,
    progress: Progress,
) -> dict[BackboneName, PretrainedStart]:
    """A start for every backbone of the plan that some victim does not train from scratch.

    One that is trained here is kept in the cache of finished victims.

    Args:
        config: What was asked for.
        settings: How a start is trained.
        judged: Training and test images of the verification, which a start must not have seen.
        read: What :func:`read_starts` opened before.
        device: Where.
        progress: Reports the training.

    Raises:
        InputError: The training images of a start are the judged ones, or cannot be read.
    """
    backbones = backbones_to_start(config.plan)
    if not backbones:
        return {}
    if config.start is not None:
        for start in read.values():
            progress.note(f"fine-tuned victims start from {start.source}")
        return dict(read)
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
    read = read_folder_labels(folder, labels, config.whole_reading)
    table = read.table.recoded(read.usual_tasks)
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
    columns = load_labels(table, config.side, workers=config.workers)
    tasks = with_spans(table.tasks, columns)
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

        starts[backbone] = pretrain_backbone(images, columns, tasks, own, device, progress.advance, on_epoch)
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
            "data": data_digest(images, labels),
            "settings": asdict(settings),
            "versions": [__version__, torch.__version__],
        }
    )
    return config.cache / f"start-{digest}.safetensors"
