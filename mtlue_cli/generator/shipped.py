"""Find weights by path or by name."""

from collections.abc import Callable
from pathlib import Path

import mtlue_cli
from mtlue_cli.errors import InputError
from mtlue_cli.generator.checkpoint import read_card
from mtlue_cli.tasks.spec import TaskSet

SUFFIX = ".safetensors"
DEFAULT = "default"
"""Name of the shipped weights that fit any labels: universal ones, which take a key."""


def weights_folder() -> Path:
    """Where shipped weights lie: inside an installed wheel, or ``weights/`` beside the package in a checkout."""
    package = Path(mtlue_cli.__file__).parent
    installed = package / "_weights"
    return installed if installed.is_dir() else package.parent / "weights"


def shipped_weights() -> dict[str, Path]:
    """Name to path of all shipped checkpoints, sorted by name."""
    return {path.stem: path for path in sorted(weights_folder().glob(f"*{SUFFIX}"))}


def is_shipped(path: Path) -> bool:
    """Whether a checkpoint is one that comes with the program, and so is public."""
    return path.resolve() in {shipped.resolve() for shipped in shipped_weights().values()}


def find_weights(name: str | Path) -> Path:
    """The checkpoint called ``name``: a file, or shipped weights.

    Raises:
        InputError: There is none.
    """
    shipped = shipped_weights()
    path = shipped.get(str(name), Path(name))
    if not path.is_file():
        known = ", ".join(shipped) or "none"
        raise InputError(f"no weights called {str(name)!r}: not a file, and not shipped (shipped: {known})")
    return path


def resolve_weights(
    name: str,
    labels: TaskSet,
    chosen: Callable[[TaskSet], TaskSet] | None = None,
    command: str = "mtlue train-generator IMAGES --labels FILE --out weights.safetensors",
) -> Path:
    """The checkpoint called ``name``, a file or shipped weights, that fits the tasks of a label file.

    Args:
        name: Universal weights fit any labels.
        labels: The tasks that the label file holds.
        chosen: Picks, of a generator's tasks, those that are asked for; only their columns must be there. None: all.
        command: Trains weights that fit.

    Raises:
        InputError: No such weights; or they do not fit the labels, with each column that differs.
    """
    path = find_weights(name)
    card = read_card(path)
    differences = [] if card.universal else (chosen(card.tasks) if chosen else card.tasks).unmet_by(labels)
    if differences:
        raise InputError(
            f"the weights {name} do not fit the labels", differences, f"train a generator for these labels: {command}"
        )
    return path
