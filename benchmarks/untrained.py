"""A generator with its initial weights: costs what a trained one of its shape costs."""

from dataclasses import asdict
from pathlib import Path

from mtlue_cli.choices import TaskKind
from mtlue_cli.generator.checkpoint import CheckpointCard, save_checkpoint
from mtlue_cli.generator.model import GeneratorConfig, PerturbationGenerator
from mtlue_cli.tasks.spec import Task, TaskSet

ONE_TASK = TaskSet((Task("t", TaskKind.BINARY, ("0", "1")),))
"""For images whose labels are of no matter."""


def write_untrained(path: Path, tasks: TaskSet = ONE_TASK, config: GeneratorConfig | None = None) -> Path:
    """Save it to ``path``; without a ``config`` it has the default shape."""
    config = config or GeneratorConfig()
    card = CheckpointCard(
        tasks, config.epsilon, config.image_size, "tap", {}, asdict(config), "", "Apache-2.0", {}, "1970-01-01"
    )
    save_checkpoint(path, PerturbationGenerator(config, tasks), card)
    return path
