"""Find weights: by path, by name, or the shipped ones that fit the labels."""

import shlex
from collections.abc import Callable, Sequence
from pathlib import Path

import mtlue_cli
from mtlue_cli.errors import InputError
from mtlue_cli.generator.checkpoint import read_card
from mtlue_cli.tasks.spec import TaskSet

SUFFIX = ".safetensors"


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
        name_or_path: A file, the name of shipped weights, or None to look for shipped ones that fit ``labels``.
        labels: The tasks that the label file holds.
        chosen: Picks, of a generator's tasks, those that are asked for; only their columns must be there. None: all.
        command: What to run when nothing fits.

    Raises:
        InputError: No such weights; or they do not fit the labels, with each column that differs.
    """
    shipped = shipped_weights()
    train = f"train a generator for these labels: {command}"
    if name_or_path is not None:
        path = shipped.get(name_or_path, Path(name_or_path))
        if not path.is_file():
            known = ", ".join(shipped) or "none"
            raise InputError(f"no weights called {name_or_path!r}: not a file, and not shipped (shipped: {known})")
        offered = read_card(path).tasks
        differences = (offered if chosen is None else chosen(offered)).unmet_by(labels)
        if differences:
            raise InputError(f"the weights {name_or_path} do not fit the labels", differences, train)
        return path
    faults: list[str] = []
    fitting: list[tuple[int, Path]] = []
    for name, path in shipped.items():
        tasks = read_card(path).tasks
        try:
            tasks = tasks if chosen is None else chosen(tasks)
            differences = tasks.unmet_by(labels)
        except InputError as error:
            differences = [str(error)]
        if differences:
            faults += [f"{name}: {difference}" for difference in differences]
        else:
            fitting.append((len(tasks), path))
    if not fitting:
        raise InputError("no shipped weights fit the labels, and --weights names none", faults, train)
    return max(fitting, key=lambda entry: entry[0])[1]
