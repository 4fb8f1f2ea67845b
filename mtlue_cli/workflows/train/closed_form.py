"""The shipped weights ``default``: closed-form patterns for any labels, with nothing trained.

``python -m mtlue_cli.workflows.train.closed_form weights/default.safetensors`` writes them.
"""

import hashlib
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from mtlue_cli.generator.checkpoint import CheckpointCard, save_checkpoint
from mtlue_cli.generator.code_patterns import COARSEST_GRID
from mtlue_cli.generator.model import GeneratorConfig, PerturbationGenerator
from mtlue_cli.tasks.spec import TaskSet
from mtlue_cli.training.runtime import library_versions

SEED = 0
"""Of the network beside the patterns, which draws nothing until ``train-generator --from`` trains it."""


def write_closed_form(path: Path) -> CheckpointCard:
    """Write the weights to ``path``, replacing what is there; returns their card."""
    config = GeneratorConfig(pattern_grid=COARSEST_GRID)
    card = CheckpointCard(
        tasks=TaskSet(()),
        epsilon=config.epsilon,
        image_size=config.image_size,
        objective="none",
        settings={"seed": SEED, "steps": 0},
        generator=asdict(config),
        data_digest=hashlib.sha256(b"").hexdigest(),  # there are no training images
        licence="Apache-2.0",
        versions=library_versions(),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        universal=True,
    )
    return save_checkpoint(path, PerturbationGenerator(config, None, SEED), card)


if __name__ == "__main__":
    write_closed_form(Path(sys.argv[1]))
