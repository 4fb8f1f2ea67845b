"""The whole product on drawn images: train generators, protect, verify. Needs no data."""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mtlue_cli.choices import BackboneName, ExitCode, ObjectiveName
from mtlue_cli.errors import InputError
from mtlue_cli.files import read_regular, write_atomically
from mtlue_cli.images.rendered_scenes import SCENE_TASKS, write_scenes
from mtlue_cli.images.synthetic import LABELS_FILE, draw_set
from mtlue_cli.tasks.declared import parse_declarations
from mtlue_cli.tasks.label_options import LabelOptions
from mtlue_cli.verification.report import VerifyResult
from mtlue_cli.workflows.demo_config import DemoConfig
from mtlue_cli.workflows.progress import Progress
from mtlue_cli.workflows.protect.config import ProtectConfig
from mtlue_cli.workflows.protect.run import ProtectResult, protect_folder
from mtlue_cli.workflows.train.config import TrainConfig
from mtlue_cli.workflows.train.generator import train_generator
from mtlue_cli.workflows.verify.config import MARGIN, VerifyConfig
from mtlue_cli.workflows.verify.run import verify_release

SCHEMA_VERSION = 1

MARKER = ".mtlue-demo.json"
"""File that tells a folder of the demo from any other, with the settings that it was made with."""

SCENES = "scenes"
"""Folder of the second set: scenes whose labels are maps."""

EPSILON = 8
LICENCE = "Apache-2.0"
CHECKPOINT, CONTACT_SHEET, RELEASE = "generator.safetensors", "contact-sheet.png", "train-protected"
CACHE = "verify-cache"
TRAIN, TEST = "train", "test"


_REMEMBERED = (
    *("seed", "minutes", "train_count", "test_count", "image_size", "generator_size", "surrogate_epochs"),
    *("scene_count", "scene_test_count", "scene_size"),
)
"""Settings with which the content of a demo's folder was made."""


@dataclass(frozen=True)
class DemoSet:
    """A set, from the originals to the verdict.

    Attributes:
        images, labels: The originals.
        checkpoint, contact_sheet: The generator, and its picture.
        release: The protected folder.
        protection: What ``protect`` answered.
        verification: What ``verify`` did; None if it was not asked.
    """

    images: Path
    labels: Path
    checkpoint: Path
    contact_sheet: Path
    release: Path
    protection: ProtectResult
    verification: VerifyResult | None

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready document."""
        paths = ("images", "labels", "checkpoint", "contact_sheet", "release")
        verification = None if self.verification is None else self.verification.to_json()
        return {name: str(getattr(self, name)) for name in paths} | {
            "protection": self.protection.to_json(),
            "verification": verification,
        }


@dataclass(frozen=True)
class DemoResult:
    """What came out.

    Attributes:
        shapes: Drawn shapes, with three labels per image.
        scenes: Rendered scenes, with classes, depth and normals of every pixel.
        seconds: In all, of this run.
    """

    shapes: DemoSet
    scenes: DemoSet
    seconds: float

    @property
    def exit_code(self) -> ExitCode:
        """The worst that was found: no protection, then no verdict, then images that were left out."""
        answers = (self.shapes.protection, self.scenes.protection, self.shapes.verification, self.scenes.verification)
        codes = {answer.exit_code for answer in answers if answer is not None}
        worst = (ExitCode.NOT_PROTECTED, ExitCode.INCONCLUSIVE, ExitCode.QUARANTINE)
        return next((code for code in worst if code in codes), ExitCode.SUCCESS)

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready document."""
        return {
            "schema_version": SCHEMA_VERSION,
            "command": "demo",
            **self.shapes.to_json(),
            "scenes": self.scenes.to_json(),
            "seconds": round(self.seconds, 3),
        }


def run_demo(config: DemoConfig, progress: Progress) -> DemoResult:
    """Draw, train, protect and verify in ``config.out``, set after set; a second run continues with what is missing.

    Raises:
        InputError: ``config.out`` holds something else, or a demo with other settings.
    """
    began = time.monotonic()
    claim_folder(config)
    shapes = _shapes(config, progress)
    scenes = _scenes(config, progress)
    return DemoResult(shapes, scenes, time.monotonic() - began)


def claim_folder(config: DemoConfig) -> None:
    """Make ``config.out`` this demo's own, or find that it already is.

    Raises:
        InputError: It is a file, holds something else, or a demo with other settings.
    """
    fresh = f"choose another --out, or delete {config.out}"
    settings = {name: getattr(config, name) for name in _REMEMBERED}
    marker = config.out / MARKER
    if config.out.exists() and not config.out.is_dir():
        raise InputError(f"{config.out} is a file, expected a folder of the demo", hint=fresh)
    if marker.is_file():
        try:
            found = json.loads(read_regular(marker))
        except (OSError, ValueError, RecursionError):
            found = None
        if found != settings:
            raise InputError(f"{config.out} holds a demo with other settings", hint=fresh)
        return
    if config.out.is_dir() and any(config.out.iterdir()):
        raise InputError(f"{config.out} is not empty and not a folder of the demo", hint=fresh)
    write_atomically(marker, (json.dumps(settings, indent=2) + "\n").encode())


def _shapes(config: DemoConfig, progress: Progress) -> DemoSet:
    folder = config.out
    train = _drawn("shapes", draw_set, folder / TRAIN, config.train_count, config.image_size, config.seed, progress)
    test = _drawn("shapes", draw_set, folder / TEST, config.test_count, config.image_size, config.seed, progress)
    training = replace(
        _training(config, folder, train, config.generator_size),
        max_minutes=config.minutes,
        surrogate_epochs=config.surrogate_epochs,
    )
    judging = replace(
        _judging(config, training, test),
        epochs=config.victim_epochs,
        size=config.victim_size,
        batch_size=32,
        learning_rate=5e-4,
    )
    return _finished(training, judging, progress)


def _scenes(config: DemoConfig, progress: Progress) -> DemoSet:
    folder = config.out / SCENES
    size, seed = config.scene_size, config.seed
    train = _drawn("scenes", write_scenes, folder / TRAIN, config.scene_count, size, seed, progress)
    training = replace(
        _training(config, folder, train, round(size / MARGIN)),
        reading=LabelOptions(declarations=parse_declarations(SCENE_TASKS)),
        # What is painted of such labels is the closed form: one pass makes the checkpoint.
        epochs=1,
    )
    if not config.judge_scenes:
        return _finished(training, None, progress)
    test = _drawn("scenes", write_scenes, folder / TEST, config.scene_test_count, size, seed, progress)
    judging = replace(
        _judging(config, training, test), epochs=config.scene_epochs, batch_size=16, control=False, probes=False
    )
    return _finished(training, judging, progress)


def _training(config: DemoConfig, folder: Path, labels: Path, size: int) -> TrainConfig:
    """What the generators of both sets have in common."""
    return TrainConfig(
        images=labels.parent,
        labels=labels,
        out=folder / CHECKPOINT,
        objective=ObjectiveName.EM,
        size=size,
        epsilon=EPSILON,
        surrogate=BackboneName.SMALL,
        contact_sheet=folder / CONTACT_SHEET,
        seed=config.seed,
        device=config.device,
        licence=LICENCE,
        overwrite=True,
        workers=config.workers,
    )


def _judging(config: DemoConfig, training: TrainConfig, test: Path) -> VerifyConfig:
    """What the verifications of both sets have in common: that of the release beside the generator's checkpoint."""
    return VerifyConfig(
        clean=training.images,
        labels=training.labels,
        reading=training.reading,
        protected=training.out.with_name(RELEASE),
        test=test.parent,
        test_labels=test,
        backbones=(BackboneName.SMALL,),
        size=training.size,
        cache=config.out / CACHE,
        seed=config.seed,
        device=config.device,
        workers=config.workers,
    )


def _drawn(
    what: str, draw: Callable[..., Path], folder: Path, count: int, size: int, seed: int, progress: Progress
) -> Path:
    """The label file of a set; it is written last, so if it exists the set is complete."""
    labels = folder / LABELS_FILE
    if not labels.is_file():
        progress.start(f"draw {what}: {folder.name}", count)
        draw(folder, count, size=size, seed=2 * seed + (folder.name == TEST), on_image=progress.advance)
        progress.finish()
    return labels


def _finished(training: TrainConfig, judging: VerifyConfig | None, progress: Progress) -> DemoSet:
    """Train unless the generator is there, protect, and verify if asked."""
    release = training.out.with_name(RELEASE)
    if not (training.out.is_file() and training.sheet_path.is_file()):
        train_generator(training, progress)
    protection = protect_folder(
        ProtectConfig(
            images=training.images,
            labels=training.labels,
            reading=training.reading,
            out=release,
            weights=str(training.out),
            device=training.device,
            workers=training.workers,
        ),
        progress,
    )
    verification = None if judging is None else verify_release(judging, progress)
    return DemoSet(
        training.images, training.labels, training.out, training.sheet_path, release, protection, verification
    )
