"""Train a generator: images and labels in, checkpoint and contact sheet out; stops and goes on."""

import platform
import shutil
import time
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version

import torch

import mtlue_cli
from mtlue_cli.errors import InputError
from mtlue_cli.generator.checkpoint import CheckpointCard, save_checkpoint
from mtlue_cli.generator.model import GeneratorConfig, PerturbationGenerator
from mtlue_cli.images.colouring import coloured_all
from mtlue_cli.images.contact_sheet import draw_contact_sheet
from mtlue_cli.images.dataset import load_labels, load_square_images
from mtlue_cli.images.folder import match_labels
from mtlue_cli.images.labelled import read_folder_labels
from mtlue_cli.perturbation.bound import add_bounded
from mtlue_cli.tasks.dense import as_labels
from mtlue_cli.tasks.spans import with_spans
from mtlue_cli.tasks.spec import LabelTable
from mtlue_cli.training.generator_loop import GeneratorSettings
from mtlue_cli.training.runtime import choose_device, data_digest, describe_device, flush_denormals
from mtlue_cli.workflows.progress import Progress
from mtlue_cli.workflows.train_settings import TrainConfig, TrainingData, TrainResult, generator_size
from mtlue_cli.workflows.training_run import TrainingRun

__all__ = ["TrainConfig", "TrainResult", "generator_size", "train_generator"]

SHEET_IMAGES = 8


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
    data = _load(table, config, progress)
    with flush_denormals():
        run = TrainingRun(config, data, device, progress, started)
        run.take_up_or_plan()
        loop, history = run.train()
    card = _card(config, data, loop.settings)
    card = save_checkpoint(config.out, loop.generator, card)
    _draw_sheet(loop.generator, data, device, config)
    shutil.rmtree(config.state_folder, ignore_errors=True)
    return TrainResult(config.out, config.sheet_path, card, history, time.monotonic() - started, loop.step)


def _check(config: TrainConfig) -> None:
    faults: list[str] = []
    if config.out.suffix != ".safetensors":
        faults.append(f"--out {config.out}: checkpoints are safetensors files; end the name in .safetensors")
    if config.out.exists() and not config.overwrite:
        faults.append(f"--out {config.out} exists; --overwrite replaces it")
    sheet = config.sheet_path
    if sheet.suffix != ".png":
        faults.append(f"--contact-sheet {sheet}: the sheet is a PNG; end the name in .png")
    if sheet.exists() and (not config.overwrite or sheet.resolve().is_relative_to(config.images.resolve())):
        faults.append(f"the contact sheet {sheet} would replace a file; name another with --contact-sheet")
    if config.epochs is not None and config.max_minutes is not None:
        faults.append("--epochs and --max-minutes exclude each other")
    if config.epochs is None and config.max_minutes is None:
        faults.append("one of --epochs and --max-minutes is needed")
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
    match_labels(config.images, table)
    if len(table) < 2:
        raise InputError(f"{config.labels} has {len(table)} images; a generator needs at least two to learn from")
    return table


def _load(table: LabelTable, config: TrainConfig, progress: Progress) -> TrainingData:
    progress.start("reading images", len(table))
    images = load_square_images(
        config.images,
        table.file_names,
        generator_size(config.size),
        workers=config.workers,
        on_image=progress.advance,
    )
    progress.finish()
    labels = load_labels(table, generator_size(config.size), workers=config.workers)
    return TrainingData(images, labels, with_spans(table.tasks, labels), data_digest(images, labels))


def _card(config: TrainConfig, data: TrainingData, settings: GeneratorSettings) -> CheckpointCard:
    shape = GeneratorConfig(epsilon=config.epsilon, image_size=generator_size(config.size))
    return CheckpointCard(
        tasks=data.tasks,
        epsilon=config.epsilon,
        image_size=shape.image_size,
        objective=config.objective.value,
        settings={**config.recorded_settings(), "steps": settings.steps, "images": len(data.images)},
        generator=asdict(shape),
        data_digest=data.digest,
        licence=config.licence or "unspecified",
        versions={
            "mtlue": mtlue_cli.__version__,
            "torch": torch.__version__,
            "torchvision": version("torchvision"),
            "python": platform.python_version(),
        },
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _draw_sheet(
    generator: PerturbationGenerator, data: TrainingData, device: torch.device, config: TrainConfig
) -> None:
    generator.eval()
    rows = torch.linspace(0, len(data.images) - 1, min(SHEET_IMAGES, len(data.images))).long()
    pixels = data.images[rows]
    labels = {name: as_labels(column[rows]).to(device) for name, column in data.labels.items()}
    delta = generator.perturb(pixels.to(device).float() / 255, labels).cpu()
    originals = pixels.permute(0, 2, 3, 1).contiguous().numpy()
    protected = add_bounded(originals, delta.permute(0, 2, 3, 1).contiguous().numpy(), config.epsilon)
    maps = [coloured_all(data.labels[task.name][rows].numpy(), task) for task in data.tasks.dense]
    draw_contact_sheet(originals, protected.astype("uint8"), config.sheet_path, maps=maps)
