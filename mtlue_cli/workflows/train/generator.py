"""Train a generator: images and labels in, checkpoint and contact sheet out; an interrupted run resumes."""

import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mtlue_cli.choices import ObjectiveName
from mtlue_cli.devices import ALONE, Processes, choose_device, describe_device
from mtlue_cli.errors import DivergedError, InputError
from mtlue_cli.generator.checkpoint import CheckpointCard, save_checkpoint
from mtlue_cli.generator.model import PerturbationGenerator
from mtlue_cli.images.colouring import coloured
from mtlue_cli.images.contact_sheet import draw_contact_sheet
from mtlue_cli.images.dataset import load_labels, load_square_images
from mtlue_cli.images.folder import match_labels
from mtlue_cli.images.labelled import read_folder_labels
from mtlue_cli.networks.backbones import BACKBONES
from mtlue_cli.tasks.label_tensors import as_labels, with_spans
from mtlue_cli.tasks.labels import LabelFile
from mtlue_cli.tasks.names import resolved_names
from mtlue_cli.tasks.overview import column_uses, overview_lines
from mtlue_cli.tasks.paths import names_below
from mtlue_cli.tasks.spec import LabelTable, TaskSet
from mtlue_cli.tasks.wording import counted
from mtlue_cli.training.generator_loop import GeneratorLoop
from mtlue_cli.training.pretrained import load_packaged
from mtlue_cli.training.runtime import data_digest, flush_denormals, library_versions
from mtlue_cli.workflows.progress import Progress
from mtlue_cli.workflows.train.config import (
    IMAGENET_SURROGATES,
    TrainConfig,
    check_usage,
    surrogates_named,
)
from mtlue_cli.workflows.train.run import TrainingRun
from mtlue_cli.workflows.train.settings import (
    THROUGH_ATTACKS,
    Recipe,
    TrainingData,
    TrainResult,
    generator_size,
    recipe_for,
)
from mtlue_cli.workflows.train.start import TrainingStart, read_start

SHEET_IMAGES = 8


def train_generator(
    config: TrainConfig, progress: Progress, labels: LabelFile | None = None, processes: Processes = ALONE
) -> TrainResult:
    """Train, checkpoint, draw the contact sheet.

    An interrupted run (KeyboardInterrupt passes through) keeps its state beside ``config.out``; the same configuration
    resumes it and, on a CPU, ends with the weights of an undisturbed run.

    ``labels`` are what the label file holds; None: they are read now. ``processes`` train together; the main one alone
    writes, and messages of the others belong nowhere.

    Raises:
        InputError: Faults in labels, images or options; nothing was written.
    """
    started = time.monotonic()
    own = processes.device if config.device in ("auto", "cuda") else None
    device = own or choose_device(config.device)
    check_usage(config)
    labels = labels or read_folder_labels(config.images, config.labels, config.reading, learned=config.named_columns)
    table, kept, notes = _chosen(labels, config)
    protected = table.tasks.subset(name for name in table.tasks.names if name not in kept)
    named = config.tasks is not None
    why_not = dict.fromkeys(labels.table.tasks.names, "is not named by --tasks") if named else {}
    columns = column_uses(labels, protected.names, why_not | dict.fromkeys(kept, "is kept useful (--keep)"))
    if not config.private:
        for line in (*overview_lines(columns, "learned"), *notes, *labels.notes):
            progress.note(line)
    progress.note(f"device: {describe_device(device)}")
    start = None if config.start is None else read_start(config.start, config.key, table.recoded(protected))
    for note in () if start is None or start.key is None else start.key.described():
        progress.note(note)
    asked = () if config.surrogate is None else surrogates_named(config.surrogate)
    large = [one.name for one in asked if BACKBONES[one.backbone].smallest_side > config.size]
    if large:
        raise InputError(f"--size {config.size} is too small for the surrogate {large[0]}", hint="give a larger --size")
    imagenet = [one.backbone for one in asked or THROUGH_ATTACKS.surrogates if one.name in IMAGENET_SURROGATES]
    pretrained = load_packaged(imagenet[0]) if imagenet else None  # before images, which take long to read
    data = _load(table, kept, config, progress)
    recipe = recipe_for(config, data, trained=start is not None and start.is_trained)
    batch, parts = recipe.batch_size, processes.count * config.accumulate
    if batch % parts or len(data.images) < parts:
        raise InputError(
            f"a step of {batch} images cannot be divided into {parts} equal parts, "
            f"--accumulate {config.accumulate} in each of {processes.count} processes",
            hint=f"give a --batch-size that {parts} divides, and at least as many images",
        )
    if parts > 1 and min(batch, len(data.images)) // parts < 2 and _learns_beside(config, recipe):
        raise InputError(
            f"{parts} parts of a step of {batch} images have one image each, and a surrogate that learns beside the "
            "generator needs two",
            hint="give a larger --batch-size, or --learnability-weight 0",
        )
    read = time.monotonic()  # the minutes are for training alone
    try:
        with flush_denormals():
            run = TrainingRun(config, data, recipe, device, progress, read, start, pretrained, processes)
            loop, history = run.train()
        card = _card(config, data, loop, start, history, recipe)
        save = partial(save_checkpoint, config.out, loop.generator, card, private=config.private)
        card = processes.on_main(save)
    except DivergedError:  # resuming would not help
        shutil.rmtree(config.state_folder, ignore_errors=True)
        raise
    if config.private:
        config.sheet_path.touch(mode=0o600)  # a file that is there keeps its mode when it is written
    if processes.is_main:
        _draw_sheet(loop.generator, data.images, data.labels, config.sheet_path)
        shutil.rmtree(config.state_folder, ignore_errors=True)
    seconds = time.monotonic() - started
    return TrainResult(config.out, config.sheet_path, card, history, seconds, loop.step, config.size, columns)


def _chosen(labels: LabelFile, config: TrainConfig) -> tuple[LabelTable, tuple[str, ...], tuple[str, ...]]:
    """The rows of ``limit`` and the columns of ``tasks`` and ``keep``, every file of which must be there.

    Returns:
        The table, the names of the kept columns, and notes on other files.
    """
    table, wanted = labels.table, labels.usual_tasks
    maps = names_below(config.images, table.all_map_files, table.maps_folder)
    others = {*table.file_names, *maps, *labels.other_parts}
    if config.tasks is not None:
        wanted = table.tasks.subset(_existing("--tasks", config.tasks, table.tasks))
    kept = _kept(config, labels, wanted)
    table = table.recoded(table.tasks.subset((*wanted.names, *kept)))
    if config.limit is not None:
        table = table.take(range(min(config.limit, len(table))))
    labelled = table.labelled(table.tasks)
    unlabelled = len(table) - int(labelled.sum())
    if unlabelled:
        table = table.take(np.flatnonzero(labelled))
    if config.most_images is not None and len(table) > config.most_images:
        table = table.take(np.linspace(0, len(table) - 1, config.most_images).astype(int).tolist())
    match = match_labels(config.images, table, others)
    if len(table) < 2:
        number = counted(len(table), "image") + (" with a label in these columns" if unlabelled else "")
        raise InputError(f"{config.labels} has {number}; a generator needs at least two to learn from")
    notes = match.notes
    if unlabelled:
        notes = (*notes, f"training leaves out {counted(unlabelled, 'image')} without a label in these columns")
    return table, kept, notes


def _learns_beside(config: TrainConfig, recipe: Recipe) -> bool:
    """Whether a surrogate is trained together with the generator."""
    return config.objective is ObjectiveName.EM or bool(recipe.learnability_weight)


def _kept(config: TrainConfig, labels: LabelFile, wanted: TaskSet) -> tuple[str, ...]:
    """The columns of ``--keep``; ``wanted`` are those of ``--tasks``, or all that are tasks by default.

    Raises:
        InputError: One is no column, no task, or is to be protected too; or nothing is left to protect.
    """
    kept = _existing("--keep", config.keep or (), labels.table.tasks)
    if config.tasks is not None:
        both = [name for name in kept if name in wanted]
        if both:
            raise InputError("columns are named by both --tasks and --keep", both, "name each in one of them")
        return kept
    no_tasks = [f"{name}: it {labels.left_out[name]}" for name in kept if name in labels.left_out]
    if no_tasks:
        raise InputError("--keep names columns that are no tasks", no_tasks, "list the columns to protect with --tasks")
    if all(name in kept for name in wanted.names):
        raise InputError("--keep leaves no column to protect", hint=f"columns: {', '.join(wanted.names)}")
    return kept


def _existing(option: str, listed: Sequence[str], tasks: TaskSet) -> tuple[str, ...]:
    """The columns that an option lists; InputError for those that do not exist."""
    named = resolved_names(listed, tasks.names)
    if unknown := [name for name in named if name not in tasks]:
        raise InputError(f"{option} names columns that do not exist", unknown, f"columns: {', '.join(tasks.names)}")
    return named


def _load(table: LabelTable, kept: tuple[str, ...], config: TrainConfig, progress: Progress) -> TrainingData:
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
        number, first = counted(len(unread), "image"), next(iter(unread.values()))
        progress.note(f"training leaves out {number} that cannot be read, such as {first}")
        rows = [row for row in range(len(table)) if row not in unread]
        if len(rows) < 2:
            number = counted(len(rows), "image")
            raise InputError(f"only {number} can be read; training needs at least two", list(unread.values()))
        table, images = table.take(rows), images[rows]
    labels = load_labels(table, generator_size(config.size), workers=config.workers)
    return TrainingData(images, labels, with_spans(table.tasks, labels), data_digest(images, labels), kept)


def _card(
    config: TrainConfig,
    data: TrainingData,
    loop: GeneratorLoop,
    start: TrainingStart | None,
    history: Sequence[Mapping[str, float]],
    recipe: Recipe,
) -> CheckpointCard:
    shape = loop.generator.config
    return CheckpointCard(
        tasks=data.protected,
        epsilon=config.epsilon,
        image_size=shape.image_size,
        objective=config.objective.value,
        settings={
            **config.recorded_settings(),
            **recipe.to_json(),
            "decoder_width": shape.decoder_width,  # with --from, those of the weights it starts from
            "chroma": shape.chroma,
            **({"keep": list(data.kept)} if data.kept else {}),
            "steps": loop.steps,
            "images": len(data.images),
            **({"follows": round(history[-1]["agreement"], 4)} if history else {}),
            **({} if loop.visibility is None else {"flip": round(loop.visibility.measure(loop.generator), 4)}),
            **({} if start is None else {"start": start.to_json()}),
        },
        generator=asdict(shape),
        data_digest=data.digest,
        licence=config.licence or "unspecified",
        versions=library_versions(),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _draw_sheet(generator: PerturbationGenerator, images: Tensor, labels: Mapping[str, Tensor], path: Path) -> None:
    """Picture of a few images, evenly from first to last: original, protected, perturbation, and label maps."""
    generator.eval()
    rows = torch.linspace(0, len(images) - 1, min(SHEET_IMAGES, len(images))).long()
    chosen = {name: as_labels(column[rows]) for name, column in labels.items()}
    pair = images[rows], generator.protected(images[rows], chosen)
    originals, protected = (pixels.permute(0, 2, 3, 1).contiguous().numpy() for pixels in pair)
    maps = [
        np.stack([coloured(target, task) for target in labels[task.name][rows].numpy()])
        for task in generator.tasks.dense
        if task.name in labels
    ]
    draw_contact_sheet(originals, protected, path, maps=maps)
