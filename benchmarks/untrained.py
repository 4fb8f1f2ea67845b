"""A generator of the default shape with its initial weights: costs what a trained one costs."""

from dataclasses import asdict
from pathlib import Path

from mtlue_cli.generator.checkpoint import CheckpointCard, save_checkpoint
from mtlue_cli.generator.model import GeneratorConfig, PerturbationGenerator
from mtlue_cli.tasks.spec import TaskSet


def write_untrained(path: Path, tasks: TaskSet) -> Path:
    """Save it to ``path``."""
    config = GeneratorConfig()
    card = CheckpointCard(
        tasks, config.epsilon, config.image_size, "tap", {}, asdict(config), "", "Apache-2.0", {}, "1970-01-01"
    )
    save_checkpoint(path, PerturbationGenerator(config, tasks), card)
    return path
