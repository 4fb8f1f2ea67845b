"""What ``protect`` is asked, and everything that is checked before the first file is written."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from mtlue_cli import __version__
from mtlue_cli.choices import MAX_EPSILON, MAX_PIXELS, ImageFormat
from mtlue_cli.errors import CheckpointError, InputError
from mtlue_cli.generator.checkpoint import CheckpointCard, read_card
from mtlue_cli.generator.shipped import resolve_weights, training_command
from mtlue_cli.images.encode import released_suffix
from mtlue_cli.images.folder import find_images, match_labels, refuse_nesting, released_names
from mtlue_cli.manifest import FOLDER, FileRecord, RunRecord, is_release, read_manifest, read_planned
from mtlue_cli.tasks.labels import LabelFile, read_label_file
from mtlue_cli.tasks.spec import UNLABELLED, LabelTable, TaskSet


@dataclass(frozen=True)
class ProtectConfig:
    """What a user asks of ``protect``.

    Attributes:
        images: Folder of the originals; never changed.
        labels: Label file.
        out: Release folder; None: beside ``images``, with ``-protected`` after its name.
        file_column: Header of the file column; None: one of the usual names.
        weights: Name or path of a generator; None: the shipped one that fits.
        epsilon: Bound in 255ths; None: the generator's own. Another than its own scales the perturbation.
        tasks: Protect only these tasks.
        exclude: Protect all tasks but these; not together with ``tasks``.
        image_format: How files are written.
        batch_size: Images that are gathered before the network runs, and on a GPU its first call size (a CPU's is
            fixed); None: 64, on CUDA 256.
        device: ``auto``, ``cpu``, ``cuda`` and so on.
        workers: Threads that decode and encode.
        keep_metadata: Keep EXIF data, XMP and text.
        overwrite: Replace a release that was made with other settings.
        max_pixels: Larger photos are refused.
    """

    images: Path
    labels: Path
    out: Path | None = None
    file_column: str | None = None
    weights: str | None = None
    epsilon: int | None = None
    tasks: Sequence[str] | None = None
    exclude: Sequence[str] | None = None
    image_format: ImageFormat = ImageFormat.PNG
    batch_size: int | None = None
    device: str = "auto"
    workers: int = 2
    keep_metadata: bool = False
    overwrite: bool = False
    max_pixels: int = MAX_PIXELS

    @property
    def release(self) -> Path:
        """The output folder."""
        if self.out is not None:
            return self.out
        absolute = self.images.resolve()
        return absolute.with_name(absolute.name + "-protected")

    @property
    def training_command(self) -> str:
        """The command that trains a generator for this very folder."""
        return training_command(self.images, self.labels, self.file_column)


@dataclass(frozen=True)
class ProtectPlan:
    """A sound run: nothing but single images can fail now.

    Attributes:
        release: Output folder.
        weights: The checkpoint.
        card: What it says of itself.
        run: The settings, as the release will record them.
        labels: Label file, cells and all.
        tasks: The protected tasks.
        table: Labels of those tasks, in the generator's class indices.
        targets: Released path of each row.
        unlabelled: Images without a row; they are not released.
        earlier: Records of an earlier run with the same settings, by source.
        obsolete: Files to be removed before work starts: those of a release with other settings, and those that a
            killed run left without a record.
        ours: Every file that this run or an earlier one may have put into the release.
    """

    release: Path
    weights: Path
    card: CheckpointCard
    run: RunRecord
    labels: LabelFile
    tasks: TaskSet
    table: LabelTable
    targets: tuple[str, ...]
    unlabelled: tuple[str, ...]
    earlier: dict[str, FileRecord] = field(default_factory=dict)
    obsolete: frozenset[str] = frozenset()
    ours: frozenset[str] = frozenset()

    def cells(self, row: int) -> dict[str, str | None]:
        """Class of each protected task in a row, None where unlabelled."""
        found: dict[str, str | None] = {}
        for task in self.tasks:
            index = int(self.table.columns[task.name][row])
            found[task.name] = None if index == UNLABELLED else task.classes[index]
        return found


def plan_protection(config: ProtectConfig) -> ProtectPlan:
    """Check everything that can be checked without decoding an image; writes nothing.

    Raises:
        InputError: Options, labels, files, weights and output folder do not go together.
    """
    _check_options(config)
    release = config.release
    refuse_nesting(config.images, release)
    labels = read_label_file(config.labels, file_column=config.file_column, for_learning=False)
    match = match_labels(config.images, labels.table)

    def chosen(known: TaskSet) -> TaskSet:
        return select_tasks(known, config.tasks, config.exclude)

    weights = resolve_weights(config.weights, labels.table.tasks, chosen, config.training_command)
    card = read_card(weights)
    _check_bound(weights, card)
    tasks = chosen(card.tasks)
    run = RunRecord(
        epsilon=card.epsilon if config.epsilon is None else config.epsilon,
        weights_name=card.name,
        weights_sha256=card.digest,
        tasks=tasks.names,
        image_format=config.image_format.value,
        keep_metadata=config.keep_metadata,
        versions=_versions(),
        file_column=labels.header[labels.file_index],
    )
    names = released_names(labels.table.file_names, released_suffix(config.image_format))
    earlier, obsolete, ours = _earlier_release(release, run, config.overwrite, frozenset(names.values()))
    return ProtectPlan(
        release,
        weights,
        card,
        run,
        labels,
        tasks,
        labels.table.recoded(tasks),
        tuple(names[source] for source in labels.table.file_names),
        match.unlabelled,
        earlier,
        obsolete,
        ours,
    )


def select_tasks(known: TaskSet, only: Sequence[str] | None, exclude: Sequence[str] | None) -> TaskSet:
    """The tasks to protect out of those that the generator knows.

    Raises:
        InputError: Both choices are given, a name is unknown, or no task is left.
    """
    if only is not None and exclude is not None:
        raise InputError("--tasks and --except exclude each other", hint="give one of them")
    unknown = [name for name in (*(only or ()), *(exclude or ())) if name not in known]
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
    faults: list[str] = []
    if config.epsilon is not None and not 1 <= config.epsilon <= MAX_EPSILON:
        faults.append(f"--epsilon is {config.epsilon}, expected 1 to {MAX_EPSILON}")
    if config.batch_size is not None and config.batch_size < 1:
        faults.append(f"--batch-size is {config.batch_size}, expected at least 1")
    if config.workers < 1:
        faults.append(f"--workers is {config.workers}, expected at least 1")
    if config.max_pixels < 1:
        faults.append(f"--max-pixels is {config.max_pixels}, expected at least 1")
    if config.tasks is not None and config.exclude is not None:
        faults.append("--tasks and --except exclude each other, give one of them")
    if faults:
        raise InputError("the options do not go together", faults)


def _check_bound(weights: Path, card: CheckpointCard) -> None:
    if type(card.epsilon) is not int or not 1 <= card.epsilon <= MAX_EPSILON:
        raise CheckpointError(
            f"{weights} has the epsilon {card.epsilon!r}, expected a whole number from 1 to {MAX_EPSILON}"
        )


def _earlier_release(
    release: Path, run: RunRecord, overwrite: bool, targets: frozenset[str]
) -> tuple[dict[str, FileRecord], frozenset[str], frozenset[str]]:
    """Records to go on from, files to remove, and every file that may be ours."""
    if release.exists() and not release.is_dir():
        raise InputError(f"the output {release} is a file, expected a folder")
    if not release.is_dir() or not any(release.iterdir()):
        return {}, frozenset(), targets
    if not is_release(release):
        if all(entry.name == FOLDER for entry in release.iterdir()):
            return {}, frozenset(), targets  # a run that was killed before it wrote its settings
        raise InputError(
            f"the output folder {release} is not empty and holds no release of mtlue",
            hint="give another one with --out",
        )
    manifest = read_manifest(release)
    differences = run.differences(manifest.run)
    if differences and not overwrite:
        raise InputError(
            f"{release} was made with other settings",
            differences,
            "give another folder with --out, or --overwrite to replace it",
        )
    recorded = frozenset(record.file_name for record in manifest.files)
    ours = recorded | read_planned(release) | targets
    strangers = [name for name in find_images(release) if name not in ours]
    if strangers:
        raise InputError(
            f"{release} holds {len(strangers)} images that mtlue did not write there, they may be unprotected",
            strangers,
            "move them out of the release, or give another folder with --out",
        )
    if differences:
        return {}, ours, ours
    return {record.source: record for record in manifest.files}, ours - recorded, ours


TEMPORARY = re.compile(r"^\..+\.\d+\.tmp$")
"""Names of files that a killed run may leave half written."""


def _versions() -> dict[str, str]:
    found = {"mtlue": __version__}
    for package in ("torch", "numpy", "pillow"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "unknown"
    return found
