"""Train a generator: images and labels in, checkpoint and contact sheet out; stops and goes on."""

import json
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import numpy as np

from mtlue_cli.devices import choose_device, describe_device
from mtlue_cli.errors import InputError, MtlueError
from mtlue_cli.generator.checkpoint import CheckpointCard, save_checkpoint
from mtlue_cli.images.dataset import load_labels, load_square_images
from mtlue_cli.images.folder import match_labels
from mtlue_cli.images.labelled import read_folder_labels
from mtlue_cli.tasks.spans import with_spans
from mtlue_cli.tasks.spec import LabelTable
from mtlue_cli.training.generator_loop import GeneratorLoop
from mtlue_cli.training.runtime import data_digest, flush_denormals
from mtlue_cli.workflows.progress import Progress
from mtlue_cli.workflows.train_settings import Recipe, TrainConfig, TrainingData, TrainResult, generator_size
from mtlue_cli.workflows.training_files import draw_sheet, made_with, output_faults
from mtlue_cli.workflows.training_run import TrainingRun
from mtlue_cli.workflows.training_start import TrainingStart, read_start

__all__ = ["TrainConfig", "TrainResult", "generator_size", "train_generator"]


def train_generator(config: TrainConfig, progress: Progress) -> TrainResult:
    """Train, checkpoint, draw the contact sheet.

    An interrupted run (KeyboardInterrupt passes through) keeps its state beside ``config.out``; the same configuration
    goes on there and, on a CPU, ends with the weights of an undisturbed run.

    Raises:
        InputError: Faults in labels, images or options; nothing was written.
    """
    started = time.monotonic()
    device = choose_device(config.device)
    _check(config)
    labels = read_folder_labels(config.images, config.labels, config.reading, learned=config.tasks)
    table = _chosen(labels.table, config)
    progress.note(f"device: {describe_device(device)}")
    for note in labels.notes:
        progress.note(note)
    start = None if config.start is None else read_start(config.start, config.key, table)
    for note in () if start is None or start.key is None else start.key.described():
        progress.note(note)
    data = _load(table, config, progress)
    if config.private:
        started = time.monotonic()  # what is asked for is time for training
    with flush_denormals():
        run = TrainingRun(config, data, device, progress, started, start)
        run.take_up_or_plan()
        loop, history = run.train()
    card = _card(config, data, loop, start, history)
    try:
        card = save_checkpoint(config.out, loop.generator, card, private=config.private)
    except MtlueError:  # it has diverged: to continue it would be of no use
        shutil.rmtree(config.state_folder, ignore_errors=True)
        raise
    draw_sheet(loop.generator, data.images, data.labels, config.sheet_path)
    shutil.rmtree(config.state_folder, ignore_errors=True)
    return TrainResult(config.out, config.sheet_path, card, history, time.monotonic() - started, loop.step)


def _check(config: TrainConfig) -> None:
    length = config.epochs, config.max_minutes
    faults = output_faults(config.out, config.sheet_path, config.overwrite, *length, images=config.images)
    if config.key is not None and config.start is None:
        faults.append("--key goes with --from: training from scratch takes none")
    if not config.images.is_dir():
        faults.append(f"{config.images} is not a folder")
    if faults:
        raise InputError("the training cannot start", faults)


def _chosen(table: LabelTable, config: TrainConfig) -> LabelTable:
    """The rows of ``limit`` and the columns of ``tasks``; every file must be there."""
    if config.tasks is not None:
        unknown = [name for name in config.tasks if name not in table.tasks]
        if unknown:
            columns = ", ".join(table.tasks.names)
            raise InputError("--tasks names columns that are not there", unknown, f"columns: {columns}")
        table = table.recoded(table.tasks.subset(config.tasks))
    if config.limit is not None:
        table = table.take(range(min(config.limit, len(table))))
    if config.most_images is not None and len(table) > config.most_images:
        table = table.take(np.linspace(0, len(table) - 1, config.most_images).astype(int).tolist())
    match_labels(config.images, table)
    if len(table) < 2:
        raise InputError(f"{config.labels} has {len(table)} images; a generator needs at least two to learn from")
    return table


def _load(table: LabelTable, config: TrainConfig, progress: Progress) -> TrainingData:
    unread: dict[int, str] = {}
    progress.start("reading images", len(table))
    images = load_square_images(
        config.images,
        table.file_names,
        generator_size(config.size),
        workers=config.workers,
        on_image=progress.advance,
        unread=unread if config.private else None,
    )
    progress.finish()
    if unread:
        progress.note(
            f"training leaves out {len(unread)} images that cannot be read, such as {next(iter(unread.values()))}"
        )
        rows = [row for row in range(len(table)) if row not in unread]
        if len(rows) < 2:
            raise InputError(f"only {len(rows)} images can be read; training needs at least two", list(unread.values()))
        table, images = table.take(rows), images[rows]
    labels = load_labels(table, generator_size(config.size), workers=config.workers)
    return TrainingData(images, labels, with_spans(table.tasks, labels), data_digest(images, labels))


def _resolved(recipe: Recipe) -> dict[str, Any]:
    settings: dict[str, Any] = json.loads(json.dumps(asdict(recipe)))
    return settings


def _card(
    config: TrainConfig,
    data: TrainingData,
    loop: GeneratorLoop,
    start: TrainingStart | None,
    history: Sequence[Mapping[str, float]],
) -> CheckpointCard:
    shape = loop.generator.config
    begun = {} if start is None else {"start": start.to_json()}
    return CheckpointCard(
        tasks=data.tasks,
        epsilon=config.epsilon,
        image_size=shape.image_size,
        objective=config.objective.value,
        settings={
            **config.recorded_settings(),
            "learnability_weight": config.learnability(len(data.tasks)),
            **_resolved(config.recipe_for(data.tasks, data.images)),
            "steps": loop.steps,
            "images": len(data.images),
            **({"follows": round(history[-1]["agreement"], 4)} if history else {}),
            **begun,
        },
        generator=asdict(shape),
        data_digest=data.digest,
        licence=config.licence or "unspecified",
        versions=made_with(),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )
