"""Train a generator: images and labels in, checkpoint and contact sheet out; stops and goes on."""

import hashlib
import json
import platform
import shutil
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import mtlue_cli
from mtlue_cli.choices import BackboneName, ObjectiveName, Precision
from mtlue_cli.errors import InputError
from mtlue_cli.generator.checkpoint import CheckpointCard, save_checkpoint
from mtlue_cli.generator.model import GeneratorConfig, PerturbationGenerator
from mtlue_cli.images.contact_sheet import draw_contact_sheet
from mtlue_cli.images.dataset import load_square_images
from mtlue_cli.networks.multitask import build_network
from mtlue_cli.objectives.base import Objective
from mtlue_cli.objectives.registry import OBJECTIVES, Ingredients
from mtlue_cli.perturbation.bound import add_bounded
from mtlue_cli.tasks.labels import read_labels
from mtlue_cli.tasks.spec import LabelTable, TaskSet
from mtlue_cli.training.generator_loop import GeneratorLoop, GeneratorSettings, StepRecord, mean_record
from mtlue_cli.training.multitask_loop import EpochRecord, LearningSettings
from mtlue_cli.training.runtime import choose_device, describe_device, flush_denormals, tensor_digest
from mtlue_cli.training.state import load_state, save_state
from mtlue_cli.training.surrogate import SurrogateRun, epochs_within, train_surrogate
from mtlue_cli.workflows.progress import Progress

SURROGATE_SHARE = 0.4
"""Largest share of ``max_minutes`` that a clean surrogate may take."""
SURROGATE_SEED_OFFSET = 1000
SAVE_SECONDS = 30.0
HISTORY_STEPS = 50
SHEET_IMAGES = 8


@dataclass(frozen=True)
class TrainConfig:
    """What ``train-generator`` was told; units as in its help."""

    images: Path
    labels: Path
    out: Path
    file_column: str | None = None
    tasks: tuple[str, ...] | None = None
    objective: ObjectiveName = ObjectiveName.TAP
    size: int = 64
    epsilon: int = 8
    epochs: int | None = None
    max_minutes: float | None = None
    surrogate: BackboneName = BackboneName.SMALL
    surrogate_epochs: int = 8
    intra_weight: float = 10.0
    inter_weight: float = 200.0
    batch_size: int = 64
    learning_rate: float = 2e-3
    seed: int = 0
    device: str = "auto"
    precision: Precision = Precision.AUTO
    licence: str = "unspecified"
    contact_sheet: Path | None = None
    overwrite: bool = False
    workers: int = 2
    limit: int | None = None

    @property
    def state_folder(self) -> Path:
        """Where an unfinished run keeps what it needs to go on."""
        return self.out.with_name(self.out.name + ".training")

    @property
    def sheet_path(self) -> Path:
        """Where the contact sheet goes."""
        return self.contact_sheet or self.out.with_suffix(".png")

    def recorded_settings(self) -> dict[str, Any]:
        """Everything that decides the weights, without paths."""
        aside = {"images", "labels", "out", "device", "licence", "contact_sheet", "overwrite", "workers", "file_column"}
        return {
            name: value
            for name, value in json.loads(json.dumps(asdict(self), default=str)).items()
            if name not in aside
        }


@dataclass(frozen=True)
class TrainResult:
    """What a finished run left.

    Attributes:
        checkpoint, contact_sheet: The files written.
        card: What the checkpoint says of itself.
        history: Mean figures of each stretch of 50 generator steps.
        seconds: Time of this process, reading included.
        steps: Generator steps in all.
    """

    checkpoint: Path
    contact_sheet: Path
    card: CheckpointCard
    history: list[dict[str, float]]
    seconds: float
    steps: int


@dataclass(frozen=True)
class _Data:
    images: Tensor
    labels: Mapping[str, Tensor]
    tasks: TaskSet
    digest: str


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
    table = read_labels(config.labels, file_column=config.file_column)
    table = _chosen(table, config)
    progress.note(f"device: {describe_device(device)}")
    data = _load(table, config, progress)
    with flush_denormals():
        run = _Run(config, data, device, progress, started)
        run.take_up_or_plan()
        loop, history = run.train()
    card = _card(config, data, loop.settings)
    card = save_checkpoint(config.out, loop.generator, card)
    _draw_sheet(loop.generator, data, device, config)
    shutil.rmtree(config.state_folder, ignore_errors=True)
    return TrainResult(config.out, config.sheet_path, card, history, time.monotonic() - started, loop.step)


class _Run:
    """The two stages of one run, surrogate then generator, each kept on disk as it goes."""

    def __init__(self, config: TrainConfig, data: _Data, device: torch.device, progress: Progress, started: float) -> None:
        self.config, self.data, self.device, self.progress, self.started = config, data, device, progress, started
        self.folder = config.state_folder
        self.spec = OBJECTIVES[config.objective]
        identity = json.dumps([config.recorded_settings(), data.digest, torch.__version__], sort_keys=True)
        self.fingerprint = hashlib.sha256(identity.encode()).hexdigest()
        self.plan: dict[str, Any] = {"fingerprint": self.fingerprint}

    def take_up_or_plan(self) -> None:
        """Go on with the plan on disk if it is of the same run; else drop what is there."""
        path = self.folder / "plan.json"
        try:
            found = json.loads(path.read_text())
        except (OSError, ValueError):
            found = {}
        if found.get("fingerprint") == self.fingerprint:
            self.plan = found
            self.progress.note(f"going on with the unfinished run in {self.folder}")
            return
        if self.folder.exists():
            self.progress.note(f"the unfinished run in {self.folder} had other settings or data: starting anew")
            shutil.rmtree(self.folder)
        self.folder.mkdir(parents=True)
        self._write_plan()

    def train(self) -> tuple[GeneratorLoop, list[dict[str, float]]]:
        clean = self._surrogate().networks(self.data.tasks, self.device) if self.spec.clean_checkpoints else []
        generator = self._fresh_generator()
        if "steps" not in self.plan:
            self.plan["steps"] = self._planned_steps(clean)
            self._write_plan()
        loop = self._loop(generator, self._objective(clean), int(self.plan["steps"]))
        return loop, self._train_generator(loop)

    def _write_plan(self) -> None:
        temporary = self.folder / "plan.json.tmp"
        temporary.write_text(json.dumps(self.plan))
        temporary.replace(self.folder / "plan.json")

    def _remaining(self) -> float:
        assert self.config.max_minutes is not None
        return self.config.max_minutes * 60 - (time.monotonic() - self.started)

    def _surrogate(self) -> SurrogateRun:
        config, data = self.config, self.data
        settings = LearningSettings(
            epochs=config.surrogate_epochs,
            batch_size=config.batch_size,
            crop_size=config.size,
            backbone=config.surrogate,
            seed=config.seed + SURROGATE_SEED_OFFSET,
            precision=config.precision,
        )
        path = self.folder / "surrogate.safetensors"
        if path.exists():
            state = load_state(path)
            settings = replace(settings, epochs=int(state["epochs"]))
            return SurrogateRun(tuple(state["checkpoints"]), state["accuracy"], settings)
        if "surrogate_epochs" not in self.plan:
            epochs = settings.epochs
            if config.max_minutes is not None:
                budget = self._remaining() * SURROGATE_SHARE
                epochs = epochs_within(budget, data.images, data.labels, data.tasks, settings, self.device)
            self.plan["surrogate_epochs"] = epochs
            self._write_plan()
        settings = replace(settings, epochs=int(self.plan["surrogate_epochs"]))
        self.progress.start(f"clean surrogate ({config.surrogate.value})", settings.epochs * len(data.images))
        figures: dict[str, float] = {}

        def on_epoch(record: EpochRecord) -> None:
            figures.update(loss=record.loss, accuracy=sum(record.accuracy.values()) / len(record.accuracy))

        run = train_surrogate(
            data.images,
            data.labels,
            data.tasks,
            settings,
            self.spec.clean_checkpoints,
            self.device,
            lambda count: self.progress.advance(count, figures),
            on_epoch,
        )
        self.progress.finish()
        save_state(
            path,
            {"checkpoints": list(run.checkpoints), "accuracy": dict(run.accuracy), "epochs": settings.epochs},
        )
        return run

    def _fresh_generator(self) -> PerturbationGenerator:
        shape = GeneratorConfig(epsilon=self.config.epsilon, image_size=generator_size(self.config.size))
        generator = PerturbationGenerator(shape, self.data.tasks, self.config.seed)
        return generator.to(self.device, memory_format=torch.channels_last)

    def _objective(self, clean: list[Any]) -> Objective:
        def fresh(seed: int) -> torch.nn.Module:
            network = build_network(self.config.surrogate, self.data.tasks, seed)
            return network.to(self.device, memory_format=torch.channels_last)

        return self.spec.build(Ingredients(self.data.tasks, clean, fresh, self.config.seed))

    def _loop(self, generator: PerturbationGenerator, objective: Objective, steps: int) -> GeneratorLoop:
        config, data = self.config, self.data
        settings = GeneratorSettings(
            steps=steps,
            batch_size=config.batch_size,
            learning_rate=config.learning_rate,
            intra_weight=config.intra_weight,
            inter_weight=config.inter_weight,
            view_size=config.size,
            seed=config.seed,
            precision=config.precision,
        )
        return GeneratorLoop(generator, objective, data.images, data.labels, settings, self.device)

    def _planned_steps(self, clean: list[Any]) -> int:
        """Steps of ``epochs``, or as many as a few timed ones say will fit into what is left of ``max_minutes``."""
        if self.config.epochs is not None:
            return -(-self.config.epochs * len(self.data.images) // self.config.batch_size)
        trial = self._loop(self._fresh_generator(), self._objective(clean), 10**6)
        marks = [time.monotonic()]
        trial.run(until=12, on_step=lambda _: marks.append(time.monotonic()))
        seconds = (marks[-1] - marks[2]) / (len(marks) - 3)
        return max(10, int(self._remaining() * 0.97 / seconds))

    def _train_generator(self, loop: GeneratorLoop) -> list[dict[str, float]]:
        path = self.folder / "generator.safetensors"
        history: list[dict[str, float]] = []
        if path.exists():
            state = load_state(path)
            loop.load_state_dict(state["loop"])
            history = state["history"]
        recent: list[StepRecord] = []
        saved = time.monotonic()
        self.progress.start(f"generator ({self.config.objective.value})", loop.settings.steps - loop.step)

        def keep() -> None:
            save_state(path, {"loop": loop.state_dict(), "history": history})

        def on_step(record: StepRecord) -> None:
            nonlocal saved
            recent.append(record)
            mean = mean_record(recent[-HISTORY_STEPS:])
            self.progress.advance(
                1, {"loss": mean.base, loop.objective.follows: mean.agreement, "mean change": mean.mean_change}
            )
            if record.step % HISTORY_STEPS == 0 or record.step == loop.settings.steps:
                history.append({name: float(value) for name, value in asdict(mean).items()})
                recent.clear()
                if time.monotonic() - saved > SAVE_SECONDS:
                    keep()
                    saved = time.monotonic()

        loop.run(on_step=on_step)
        self.progress.finish()
        keep()
        return history


def generator_size(view_size: int) -> int:
    """Side of the whole images whose 90 % crops are ``view_size`` wide, in multiples of four."""
    return 4 * round(view_size * 1.125 / 4)


def _check(config: TrainConfig) -> None:
    faults: list[str] = []
    if config.out.suffix != ".safetensors":
        faults.append(f"--out {config.out}: checkpoints are safetensors files; end the name in .safetensors")
    if config.out.exists() and not config.overwrite:
        faults.append(f"--out {config.out} exists; --overwrite replaces it")
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
    missing = [name for name in table.file_names if not (config.images / name).is_file()]
    if missing:
        raise InputError(
            f"{len(missing)} of {len(table)} labelled files are not in {config.images}",
            missing,
            "file names in the label file are relative to IMAGES",
        )
    if len(table) < 2:
        raise InputError(f"{config.labels} has {len(table)} images; a generator needs at least two to learn from")
    return table


def _load(table: LabelTable, config: TrainConfig, progress: Progress) -> _Data:
    progress.start("reading images", len(table))
    images = load_square_images(
        config.images,
        table.file_names,
        generator_size(config.size),
        workers=config.workers,
        on_image=progress.advance,
    )
    progress.finish()
    labels = {name: torch.from_numpy(column.copy()) for name, column in table.columns.items()}
    return _Data(images, labels, table.tasks, tensor_digest(images, labels))


def _card(config: TrainConfig, data: _Data, settings: GeneratorSettings) -> CheckpointCard:
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


def _draw_sheet(generator: PerturbationGenerator, data: _Data, device: torch.device, config: TrainConfig) -> None:
    generator.eval()
    rows = torch.linspace(0, len(data.images) - 1, min(SHEET_IMAGES, len(data.images))).long()
    pixels = data.images[rows]
    labels = {name: column[rows].to(device) for name, column in data.labels.items()}
    delta = generator.perturb(pixels.to(device).float() / 255, labels).cpu()
    originals = pixels.permute(0, 2, 3, 1).contiguous().numpy()
    protected = add_bounded(originals, delta.permute(0, 2, 3, 1).contiguous().numpy(), config.epsilon)
    draw_contact_sheet(originals, protected.astype("uint8"), config.sheet_path)
