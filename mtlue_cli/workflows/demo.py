"""The whole product on drawn images: train a generator, protect, verify. Needs no data."""

import json
import time
from dataclasses import dataclass
from pathlib import Path

from mtlue_cli.choices import BackboneName, ObjectiveName
from mtlue_cli.errors import InputError
from mtlue_cli.files import write_atomically
from mtlue_cli.images.synthetic import LABELS_FILE, draw_set
from mtlue_cli.verification.report import VerifyResult
from mtlue_cli.workflows.progress import Progress
from mtlue_cli.workflows.protect import ProtectConfig, ProtectResult, protect_folder
from mtlue_cli.workflows.train_generator import TrainConfig, train_generator
from mtlue_cli.workflows.verify import VerifyConfig, verify_release

MARKER = ".mtlue-demo.json"
"""File that tells a folder of the demo from any other, with the settings that it was made with."""

EPSILON = 8


@dataclass(frozen=True)
class DemoConfig:
    """What the demo does.

    Attributes:
        out: Folder of everything that the demo makes.
        seed: Of the drawings and of all training.
        minutes: For surrogate and generator together.
        train_count, test_count: Drawn images.
        image_size: Their side in pixels.
        generator_size, victim_size: Sides in pixels of what generator and victim see.
        surrogate_epochs, victim_epochs: Passes over the images.
        device: Where networks run.
        workers: Threads that decode and encode.
    """

    out: Path
    seed: int = 0
    minutes: float = 1.5
    train_count: int = 1500
    test_count: int = 400
    image_size: int = 64
    generator_size: int = 48
    victim_size: int = 48
    surrogate_epochs: int = 5
    victim_epochs: int = 8
    device: str = "auto"
    workers: int = 2


@dataclass(frozen=True)
class DemoResult:
    """Where everything lies and what came out.

    Attributes:
        images, labels: The originals.
        checkpoint, contact_sheet: The generator, and its picture.
        release: The protected folder.
        protection, verification: What ``protect`` and ``verify`` answered.
        seconds: In all, of this run.
    """

    images: Path
    labels: Path
    checkpoint: Path
    contact_sheet: Path
    release: Path
    protection: ProtectResult
    verification: VerifyResult
    seconds: float


def run_demo(config: DemoConfig, progress: Progress) -> DemoResult:
    """Draw, train, protect and verify in ``config.out``; run again, go on with what is missing.

    Raises:
        InputError: ``config.out`` holds something else, or a demo with other settings.
    """
    began = time.monotonic()
    claim_folder(config)
    train, test = config.out / "train", config.out / "test"
    drawn = _drawn(train, config.train_count, config, 2 * config.seed, progress)
    held_back = _drawn(test, config.test_count, config, 2 * config.seed + 1, progress)

    checkpoint = config.out / "generator.safetensors"
    contact_sheet = config.out / "contact-sheet.png"
    if not (checkpoint.is_file() and contact_sheet.is_file()):
        train_generator(_training(config, train, drawn, checkpoint, contact_sheet), progress)
    release = config.out / "train-protected"
    protection = protect_folder(
        ProtectConfig(
            images=train,
            labels=drawn,
            out=release,
            weights=str(checkpoint),
            device=config.device,
            workers=config.workers,
        ),
        progress,
    )
    verification = verify_release(
        VerifyConfig(
            clean=train,
            labels=drawn,
            protected=release,
            test=test,
            test_labels=held_back,
            backbones=(BackboneName.SMALL,),
            epochs=config.victim_epochs,
            size=config.victim_size,
            batch_size=32,
            learning_rate=5e-4,
            cache=config.out / "verify-cache",
            seed=config.seed,
            device=config.device,
            workers=config.workers,
        ),
        progress,
    )
    return DemoResult(
        train, drawn, checkpoint, contact_sheet, release, protection, verification, time.monotonic() - began
    )


def claim_folder(config: DemoConfig) -> None:
    """Make ``config.out`` this demo's own, or find that it already is.

    Raises:
        InputError: It is a file, holds something else, or a demo with other settings.
    """
    fresh = f"choose another --out, or delete {config.out}"
    settings = {
        "seed": config.seed,
        "minutes": config.minutes,
        "train_count": config.train_count,
        "test_count": config.test_count,
        "image_size": config.image_size,
        "generator_size": config.generator_size,
        "surrogate_epochs": config.surrogate_epochs,
    }
    marker = config.out / MARKER
    if config.out.exists() and not config.out.is_dir():
        raise InputError(f"{config.out} is a file, expected a folder of the demo", hint=fresh)
    if marker.is_file():
        try:
            found = json.loads(marker.read_text(encoding="utf-8"))
        except ValueError:
            found = None
        if found != settings:
            raise InputError(f"{config.out} holds a demo with other settings", hint=fresh)
        return
    if config.out.is_dir() and any(config.out.iterdir()):
        raise InputError(f"{config.out} is not empty and not a folder of the demo", hint=fresh)
    write_atomically(marker, (json.dumps(settings, indent=2) + "\n").encode())


def _drawn(folder: Path, count: int, config: DemoConfig, seed: int, progress: Progress) -> Path:
    """The label file of a drawn set; it is written last, so where it stands the set is whole."""
    labels = folder / LABELS_FILE
    if not labels.is_file():
        progress.start(f"draw {folder.name}", count)
        draw_set(folder, count, size=config.image_size, seed=seed, on_image=progress.advance)
        progress.finish()
    return labels


def _training(config: DemoConfig, images: Path, labels: Path, checkpoint: Path, contact_sheet: Path) -> TrainConfig:
    return TrainConfig(
        images=images,
        labels=labels,
        out=checkpoint,
        objective=ObjectiveName.EM,
        size=config.generator_size,
        epsilon=EPSILON,
        epochs=None,
        max_minutes=config.minutes,
        surrogate=BackboneName.SMALL,
        surrogate_epochs=config.surrogate_epochs,
        contact_sheet=contact_sheet,
        seed=config.seed,
        device=config.device,
        licence="Apache-2.0",
        overwrite=True,
        workers=config.workers,
    )
