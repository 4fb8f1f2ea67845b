"""The options of ``demo``."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from mtlue_cli.options import OUTPUT, TRAINING, Device, Option, Seed, Workers, usable_threads


@dataclass(frozen=True)
class DemoConfig:
    """What the demo does.

    Attributes:
        out: Folder for everything; that of an earlier run is continued.
        minutes: Time limit for training the generator of the drawn images, in minutes.
        train_count: Drawn shapes.
        test_count: Drawn shapes.
        image_size: Their side in pixels.
        generator_size: Sides in pixels of what generator and victim see of them.
        victim_size: Sides in pixels of what generator and victim see of them.
        surrogate_epochs: Passes over them.
        victim_epochs: Passes over them.
        scene_count: Rendered scenes.
        scene_test_count: Rendered scenes.
        scene_size: Their side in pixels; a victim sees nine tenths of it, unscaled.
        scene_epochs: Passes of a victim over them.
        judge_scenes: Also verify the rendered scenes. Takes some minutes more.
    """

    out: Annotated[Path, Option(flags="--out -o", panel=OUTPUT, metavar="DIR")] = Path("mtlue-demo")
    minutes: Annotated[float, Option(panel=TRAINING, metavar="M", minimum=0.05, maximum=60.0)] = 1.5
    train_count: int = 1500
    test_count: int = 400
    image_size: int = 64
    generator_size: int = 48
    victim_size: int = 48
    surrogate_epochs: int = 5
    victim_epochs: int = 8
    scene_count: int = 600
    scene_test_count: int = 250
    scene_size: int = 64
    scene_epochs: int = 8
    judge_scenes: Annotated[bool, Option(panel=TRAINING)] = False
    seed: Seed = 0
    device: Device = "auto"
    workers: Workers = field(default_factory=usable_threads)
