"""A tiny labelled folder and an untrained generator for it, shared by the tests of several layers."""

import csv
import tempfile
from dataclasses import asdict
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image

from mtlue_cli.choices import TaskKind
from mtlue_cli.generator.checkpoint import CheckpointCard, save_checkpoint
from mtlue_cli.generator.model import GeneratorConfig, PerturbationGenerator
from mtlue_cli.tasks.spec import Task, TaskSet

TASKS = TaskSet(
    (Task("colour", TaskKind.CATEGORICAL, ("red", "green", "blue")), Task("round", TaskKind.BINARY, ("0", "1")))
)
SHAPE = {
    "epsilon": 8,
    "image_size": 16,
    "encoder_width": 8,
    "encoder_depth": 1,
    "label_channels": 4,
    "label_grid": 4,
    "decoder_width": 8,
    "decoder_depth": 1,
    "pattern_grid": 3,
}


def write_checkpoint(path: Path, tasks: TaskSet | None = TASKS, seed: int = 0, keep: tuple[str, ...] = ()) -> Path:
    """An untrained generator: class patterns and random weights; a universal one without tasks."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(_checkpoint(tasks, seed, keep))
    return path


@cache
def _checkpoint(tasks: TaskSet | None, seed: int, keep: tuple[str, ...]) -> bytes:
    config = GeneratorConfig(**SHAPE)
    card = CheckpointCard(
        tasks=tasks or TaskSet(()),
        epsilon=config.epsilon,
        image_size=config.image_size,
        objective="tap",
        settings={"steps": 0, **({"keep": list(keep)} if keep else {})},
        generator=asdict(config),
        data_digest="0" * 64,
        licence="Apache-2.0",
        versions={"mtlue": "0"},
        created="2020-01-01T00:00:00+00:00",
        universal=tasks is None,
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "generator.safetensors")
        save_checkpoint(path, PerturbationGenerator(config, tasks, seed), card)
        return path.read_bytes()


def write_images(folder: Path, count: int = 7, side: int = 24) -> Path:
    """``count`` noisy JPEG and PNG photos in two folders, with ``labels.csv``; returns the label file."""
    rng = np.random.default_rng(7)
    rows: list[tuple[str, str, str]] = []
    for index in range(count):
        name = f"photo{index}.{'png' if index % 2 else 'jpg'}" if index % 3 else f"sub/photo{index}.jpg"
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 256, (side + index, side, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / name)
        rows.append((name, TASKS["colour"].classes[index % 3], "" if index == 4 else str(index % 2)))
    with (folder / "labels.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(("file_name", "colour", "round"))
        writer.writerows(rows)
    return folder / "labels.csv"
