"""Find weights: by path, by name, or the shipped ones that fit the labels."""

import shlex
from collections.abc import Callable, Sequence
from pathlib import Path

import mtlue_cli
from mtlue_cli.errors import InputError
from mtlue_cli.generator.checkpoint import CheckpointCard, read_card
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


def weights_named(name_or_path: str | Path) -> Path:
    """The checkpoint of a name of shipped weights, or of a file.

    Raises:
        InputError: There is none.
    """
    shipped = shipped_weights()
    path = shipped.get(str(name_or_path), Path(name_or_path))
    if not path.is_file():
        known = ", ".join(shipped) or "none"
        raise InputError(f"no weights called {str(name_or_path)!r}: not a file, and not shipped (shipped: {known})")
    return path


def training_command(images: Path | str, label_arguments: Sequence[str]) -> str:
    """The command that trains a generator for a folder and its labels, ready for a shell.

    Args:
        images: Folder.
        label_arguments: What says where its labels are and how they are read.
    """
    return shlex.join(["mtlue", "train-generator", str(images), *label_arguments, "--out", "weights.safetensors"])


def resolve_weights(
    name_or_path: str | None,
    labels: TaskSet,
    chosen: Callable[[TaskSet], TaskSet] | None = None,
    command: str = training_command("IMAGES", ("--labels", "FILE")),
) -> Path:
    """The checkpoint to protect with.

    Args:
        name_or_path: A file, the name of shipped weights, or None: :data:`DEFAULT` where it is shipped, else those
            shipped that fit.
        labels: The tasks that the label file holds.
        chosen: Picks, of a generator's tasks, those that are asked for; only their columns must be there. None: all.
            Universal weights have no tasks of their own and fit any labels.
        command: What to run when nothing fits.

    Raises:
        InputError: No such weights; or they do not fit the labels, with each column that differs.
    """
    shipped = shipped_weights()
    train = f"train a generator for these labels: {command}"
    name = DEFAULT if name_or_path is None and DEFAULT in shipped else name_or_path
    if name is not None:
        path = weights_named(name)
        differences = _differences(read_card(path), labels, chosen)
        if differences:
            raise InputError(f"the weights {name} do not fit the labels", differences, train)
        return path
    faults: list[str] = []
    fitting: list[tuple[int, Path]] = []
    for shipped_name, path in shipped.items():
        card = read_card(path)
        try:
            differences = _differences(card, labels, chosen)
        except InputError as error:
            differences = [str(error)]
        if differences:
            faults += [f"{shipped_name}: {difference}" for difference in differences]
        else:
            fitting.append((len(card.tasks), path))
    if not fitting:
        raise InputError("no shipped weights fit the labels, and --weights names none", faults, train)
    return max(fitting, key=lambda entry: entry[0])[1]


def _differences(card: CheckpointCard, labels: TaskSet, chosen: Callable[[TaskSet], TaskSet] | None) -> list[str]:
    """Why the weights cannot serve the labels, a line each; universal ones serve any."""
    if card.universal:
        return []
    return (card.tasks if chosen is None else chosen(card.tasks)).unmet_by(labels)
