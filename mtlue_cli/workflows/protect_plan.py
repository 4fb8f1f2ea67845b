"""What ``protect`` is asked, and everything that is checked before the first file is written."""

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from mtlue_cli import __version__
from mtlue_cli.choices import MAX_EPSILON, Unlabelled
from mtlue_cli.errors import CheckpointError, InputError
from mtlue_cli.generator.checkpoint import CheckpointCard, read_card
from mtlue_cli.generator.code_embedding import coded_tasks
from mtlue_cli.generator.codebook import CODE_VERSION
from mtlue_cli.generator.shipped import resolve_weights
from mtlue_cli.images.encode import released_suffix
from mtlue_cli.images.folder import file_check, match_labels, refuse_nesting, released_names
from mtlue_cli.images.labelled import read_folder_labels
from mtlue_cli.keys import FoundKey
from mtlue_cli.manifest import RunRecord
from mtlue_cli.options import range_faults
from mtlue_cli.tasks.labels import LabelFile
from mtlue_cli.tasks.spec import LabelTable, TaskSet
from mtlue_cli.tasks.wording import quoted
from mtlue_cli.workflows.code_shares import shares_for_codes
from mtlue_cli.workflows.earlier_release import EarlierRelease, read_earlier_release, refuse_protected
from mtlue_cli.workflows.keyed import earlier_run, in_code_order, key_for, offered_tasks, with_codes
from mtlue_cli.workflows.protect_config import ProtectConfig
from mtlue_cli.workflows.random_classes import random_classes


@dataclass(frozen=True)
class ProtectPlan:
    """A sound run: nothing but single images can fail now.

    Attributes:
        release: Output folder.
        weights: The checkpoint.
        card: What it says of itself; its tasks are all that it could protect here.
        run: The settings, as the release will record them.
        labels: Label file, columns that are no tasks and all, with a row for each image that is to be protected.
        tasks: The protected tasks.
        key: The key, for weights that take one.
        table: Labels of those tasks, in the generator's class indices.
        targets: Released path of each row.
        unlabelled: Images without a row; they are not released.
        earlier: What the output folder holds already.
        force: Whether to protect what is protected already.
        draws: Whether an image that no label says anything about is protected as one of random classes.
    """

    release: Path
    weights: Path
    card: CheckpointCard
    run: RunRecord
    labels: LabelFile
    tasks: TaskSet
    key: FoundKey | None
    table: LabelTable
    targets: tuple[str, ...]
    unlabelled: tuple[str, ...]
    earlier: EarlierRelease = field(default_factory=EarlierRelease)
    force: bool = False
    draws: bool = False

    def classes(self, row: int, digest: str) -> dict[str, int]:
        """Class index of each image-level task that the image of a row is protected as.

        Args:
            row: The row.
            digest: Of the original's bytes.
        """
        if self.is_drawn(row):
            return random_classes(self.tasks, digest, self.run.weights_sha256, self.key.key if self.key else None)
        return {name: int(column[row]) for name, column in self.table.columns.items()}

    def is_drawn(self, row: int) -> bool:
        """Whether the image of a row is protected as one of random classes."""
        return self.draws and len(self.tasks.image_level) > 0 and self.is_unlabelled(row)

    def is_unlabelled(self, row: int) -> bool:
        """Whether no protected task has a label in a row."""
        return not any(self.cells(row).values())

    def cells(self, row: int) -> dict[str, str | None]:
        """Class of each protected task in a row, of a dense task its map; None where unlabelled."""
        return {task.name: self.table.class_name(task.name, row) for task in self.tasks}


@dataclass(frozen=True)
class ProtectInputs:
    """Labels and files that go together.

    Attributes:
        labels: Label file, with a row for each image that is to be protected.
        left_out: Images without a row; they are not released.
    """

    labels: LabelFile
    left_out: tuple[str, ...]


def read_inputs(config: ProtectConfig) -> ProtectInputs:
    """Check the options, and the labels against the files; writes nothing.

    Raises:
        InputError: They do not go together.
        ImageError: A mask whose classes are counted cannot be read.
    """
    _check_options(config)
    refuse_nesting(config.images, config.release)
    given = read_folder_labels(config.images, config.labels, config.reading, for_learning=False)
    match = match_labels(config.images, given.table, given.other_parts)
    return ProtectInputs(*_with_unlabelled(config, given, match.unlabelled))


def check_output(config: ProtectConfig, inputs: ProtectInputs) -> None:
    """Refuse, before weights are trained, what would be refused after it; writes nothing.

    Raises:
        InputError: The output folder cannot take the release, or the images are protected already.
    """
    release, table = config.release, inputs.labels.table
    names = released_names(table.file_names, released_suffix(config.image_format), table.all_map_files)
    nothing = RunRecord(0, "", "", (), config.image_format.value, config.keep_metadata)
    read_earlier_release(release, nothing, True, table.all_map_files.union(names.values()))
    if not config.force:
        refuse_protected(config.images, table.file_names)
    parent = next(folder for folder in (release, *release.resolve().parents) if folder.exists())
    if not os.access(parent, os.W_OK | os.X_OK):
        raise InputError(f"the output {release} cannot be written: {parent} is not writable", hint="give another --out")


def plan_protection(config: ProtectConfig, inputs: ProtectInputs | None = None) -> ProtectPlan:
    """Check everything that can be checked without decoding a photo; writes nothing but a user's first key.

    Args:
        config: What the user asks for.
        inputs: What :func:`read_inputs` gave; None: read now.

    Raises:
        InputError: Options, labels, files, weights and output folder do not go together.
        ImageError: A mask whose classes are counted cannot be read.
    """
    release = config.release
    inputs = inputs or read_inputs(config)
    labels, left_out = inputs.labels, inputs.left_out

    def chosen(known: TaskSet) -> TaskSet:
        return select_tasks(known, config.tasks, config.exclude, labels.table.tasks)

    weights = resolve_weights(config.weights, labels.table.tasks, chosen, config.training_command)
    card = read_card(weights)
    _check_bound(weights, card)
    offered = offered_tasks(card, labels.table.tasks, config.tasks)
    tasks = chosen(offered.tasks)
    key = key_for(card, config.key)
    run = RunRecord(
        epsilon=card.epsilon if config.epsilon is None else config.epsilon,
        weights_name=card.name,
        weights_sha256=card.digest,
        tasks=tasks.names,
        image_format=config.image_format.value,
        keep_metadata=config.keep_metadata,
        versions=_versions(),
        file_column=labels.header[labels.file_index],
        key_fingerprint=None if key is None else key.key.fingerprint,
        code_version=0 if key is None or not len(coded_tasks(tasks)) else CODE_VERSION,
    )
    before = None if key is None else earlier_run(release, run)
    if key is not None:
        tasks = in_code_order(tasks, {} if before is None else before.classes)
        labels = replace(labels, notes=(*labels.notes, *offered.notes))
    maps = labels.table.all_map_files
    names = released_names(labels.table.file_names, released_suffix(config.image_format), maps)
    earlier = read_earlier_release(release, run, config.overwrite, maps.union(names.values()))
    if not config.force:
        refuse_protected(config.images, labels.table.file_names)
    table = labels.table.recoded(tasks)
    if key is not None:
        cells = card.generator["pattern_grid"]
        run = with_codes(run, tasks, before, cells, lambda: shares_for_codes(table, tasks, card.image_size))
    return ProtectPlan(
        release,
        weights,
        replace(card, tasks=offered.tasks),
        run,
        labels,
        tasks,
        key,
        table,
        tuple(names[source] for source in labels.table.file_names),
        left_out,
        earlier,
        config.force,
        config.unlabelled is Unlabelled.PROTECT,
    )


def _with_unlabelled(
    config: ProtectConfig, labels: LabelFile, unlabelled: tuple[str, ...]
) -> tuple[LabelFile, tuple[str, ...]]:
    """The labels, with a row for each image without one if they are to be protected; and the images left out."""
    if not unlabelled or config.unlabelled is Unlabelled.SKIP:
        return labels, unlabelled
    if config.unlabelled is Unlabelled.FAIL:
        raise InputError(
            f"{len(unlabelled)} images of {config.images} have no row in the labels",
            [quoted(name) for name in unlabelled],
            "--unlabelled protect protects them as images of random classes, --unlabelled skip leaves them out",
        )
    fault_of = file_check(config.images, unlabelled)
    faults = [fault for name in unlabelled if (fault := fault_of(name)) is not None]
    if faults:
        raise InputError("images without a row cannot all be protected", faults, "rename or move these files")
    return replace(labels, table=labels.table.with_unlabelled(unlabelled)), ()


def select_tasks(
    known: TaskSet, only: Sequence[str] | None, exclude: Sequence[str] | None, columns: TaskSet | None = None
) -> TaskSet:
    """The tasks to protect out of those that the generator knows.

    Args:
        known: Those.
        only: No others; None: all but those of ``exclude``.
        exclude: Not these.
        columns: Those of the labels: what is excluded may be one that the generator does not know.

    Raises:
        InputError: Both choices are given, a name is unknown, or no task is left.
    """
    if only is not None and exclude is not None:
        raise InputError("--tasks and --except exclude each other", hint="give one of them")
    unknown = [name for name in only or () if name not in known]
    unknown += [name for name in exclude or () if name not in known and name not in (columns or ())]
    if unknown:
        raise InputError(
            f"the generator has no task {', '.join(repr(name) for name in unknown)}",
            hint=f"it has {', '.join(known.names)}",
        )
    if only is not None:
        wanted = known.subset(only)
    else:
        wanted = known.subset(name for name in known.names if name not in (exclude or ()))
    if not len(wanted):
        raise InputError("no task is left to protect", hint=f"the generator has {', '.join(known.names)}")
    return wanted


def _check_options(config: ProtectConfig) -> None:
    faults = range_faults(config)
    if config.tasks is not None and config.exclude is not None:
        faults.append("--tasks and --except exclude each other, give one of them")
    minutes = config.train_minutes
    if minutes is not None and not (minutes > 0 and math.isfinite(minutes)):
        faults.append(f"--train is {minutes:g}, expected minutes above 0")
    given = {"--weights": config.weights, "--quick": config.quick, "--train": config.train_minutes}
    named = [name for name, value in given.items() if value not in (None, False)]
    if len(named) > 1:
        faults.append(f"{' and '.join(named)} exclude each other, give one of them")
    if config.key is not None and config.weights is None and not config.quick:
        faults.append("--key needs weights that take a key: add --quick or --weights default")
    if faults:
        raise InputError("the options do not go together", faults)


def _check_bound(weights: Path, card: CheckpointCard) -> None:
    if type(card.epsilon) is not int or not 1 <= card.epsilon <= MAX_EPSILON:
        raise CheckpointError(
            f"{weights} has the epsilon {card.epsilon!r}, expected a whole number from 1 to {MAX_EPSILON}"
        )


def _versions() -> dict[str, str]:
    found = {"mtlue": __version__}
    for package in ("torch", "numpy", "pillow"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "unknown"
    return found
