"""Train universal weights: no images and no labels in, a checkpoint for any labels out; stops and goes on."""

import hashlib
import json
import shutil
import time
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from mtlue_cli.choices import Precision
from mtlue_cli.devices import choose_device, describe_device, on_device
from mtlue_cli.errors import InputError
from mtlue_cli.generator.checkpoint import CheckpointCard, save_checkpoint
from mtlue_cli.generator.code_embedding import COARSEST_GRID
from mtlue_cli.generator.model import GeneratorConfig, PerturbationGenerator
from mtlue_cli.images.procedural import draw_procedural
from mtlue_cli.tasks.spec import TaskSet
from mtlue_cli.training.runtime import flush_denormals
from mtlue_cli.training.universal_episode import UniversalSettings, draw_episode
from mtlue_cli.training.universal_loop import UniversalLoop, UniversalRecord
from mtlue_cli.workflows.progress import Progress
from mtlue_cli.workflows.resumable_run import ResumableRun, steps_within
from mtlue_cli.workflows.train_settings import TrainResult, generator_size
from mtlue_cli.workflows.training_files import (
    SHEET_IMAGES,
    draw_sheet,
    made_with,
    output_faults,
    sheet_beside,
    state_folder,
)

OBJECTIVE = "em"
UNTRAINED = "none"
SAVE_SECONDS = 300.0
"""A state holds every surrogate with its optimiser: hundreds of megabytes."""
SHEET_SEED = 2**31


@dataclass(frozen=True)
class UniversalConfig:
    """What ``train-generator --universal`` was told; units as in its help.

    Attributes:
        training: Everything about the training itself but what the fields below say: steps, sizes, rates, seed and
            precision of it are replaced.
    """

    out: Path
    size: int = 64
    epsilon: int = 8
    epochs: int | None = None
    max_minutes: float | None = None
    batch_size: int = 64
    learning_rate: float = 2e-3
    seed: int = 0
    device: str = "auto"
    precision: Precision = Precision.AUTO
    licence: str = "unspecified"
    contact_sheet: Path | None = None
    overwrite: bool = False
    training: UniversalSettings = UniversalSettings(steps=1)  # noqa: RUF009 - frozen

    @property
    def state_folder(self) -> Path:
        """Where an unfinished run keeps what it needs to go on."""
        return state_folder(self.out)

    @property
    def sheet_path(self) -> Path:
        """Where the contact sheet goes."""
        return sheet_beside(self.out, self.contact_sheet)

    def settings(self, steps: int) -> UniversalSettings:
        """How the loop is to train."""
        return replace(
            self.training,
            steps=steps,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            view_size=self.size,
            seed=self.seed,
            precision=self.precision,
        )

    def recorded_settings(self) -> dict[str, Any]:
        """Everything that decides the weights, without paths and the number of steps."""
        recorded = json.loads(json.dumps(asdict(self.settings(1)), default=str))
        del recorded["steps"]
        lengths = {"epsilon": self.epsilon, "epochs": self.epochs, "max_minutes": self.max_minutes}
        return {**recorded, **lengths}


def train_universal(config: UniversalConfig, progress: Progress) -> TrainResult:
    """Train, checkpoint, draw a contact sheet of drawn images under a random key.

    An interrupted run (KeyboardInterrupt passes through) keeps its state beside ``config.out``; the same configuration
    goes on there and, on a CPU, ends with the weights of an undisturbed run.

    Raises:
        InputError: Faults in the options; nothing was written.
    """
    started = time.monotonic()
    device = choose_device(config.device)
    length = config.epochs, config.max_minutes
    faults = output_faults(config.out, config.sheet_path, config.overwrite, *length, images=None)
    if faults:
        raise InputError("the training cannot start", faults)
    progress.note(f"device: {describe_device(device)}")
    size = generator_size(config.size)
    shape = GeneratorConfig(epsilon=config.epsilon, image_size=size, pattern_grid=COARSEST_GRID)
    disk: ResumableRun[UniversalRecord] = ResumableRun(
        config.state_folder, ["universal", asdict(shape), config.recorded_settings()], config.overwrite, progress
    )
    disk.take_up_or_plan()

    def fresh(steps: int) -> UniversalLoop:
        generator = on_device(PerturbationGenerator(shape, None, config.seed), device)
        return UniversalLoop(generator, config.settings(steps), device)

    def decide() -> int:
        if config.epochs is not None:
            return -(-config.epochs * config.training.pool // config.batch_size)
        minutes = config.max_minutes or 0.0
        return steps_within(lambda: minutes * 60 - (time.monotonic() - started), fresh(10**6))

    with flush_denormals():
        loop = fresh(disk.planned_steps(decide))
        history = disk.finish(loop, "generator (universal)", UniversalRecord, _figures, SAVE_SECONDS)
    settings = {**config.recorded_settings(), "steps": loop.steps}
    card = CheckpointCard(
        tasks=TaskSet(()),
        epsilon=config.epsilon,
        image_size=shape.image_size,
        objective=OBJECTIVE if loop.steps else UNTRAINED,
        settings=settings,
        generator=asdict(shape),
        # The images are a function of these settings.
        data_digest=hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest(),
        licence=config.licence,
        versions=made_with(),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        universal=True,
    )
    card = save_checkpoint(config.out, loop.generator, card)
    _draw_example(loop, config.sheet_path)
    shutil.rmtree(config.state_folder, ignore_errors=True)
    return TrainResult(config.out, config.sheet_path, card, history, time.monotonic() - started, loop.step)


def _figures(mean: UniversalRecord) -> dict[str, float]:
    return {"loss": mean.guessing, "surrogate accuracy": mean.agreement, "rms change": mean.rms}


def _draw_example(loop: UniversalLoop, path: Path) -> None:
    """A contact sheet of drawn images with random labels under a random key."""
    generator = loop.generator
    episode = draw_episode(SHEET_SEED, generator.codes, loop.settings)
    generator.bind(episode.bound_to(generator.codes))
    images = draw_procedural(SHEET_IMAGES, generator.config.image_size, SHEET_SEED, loop.settings.images)
    rng = torch.Generator().manual_seed(SHEET_SEED)
    labels = {task.name: torch.randint(task.num_classes, (SHEET_IMAGES,), generator=rng) for task in episode.tasks}
    draw_sheet(generator, images, labels, path)
