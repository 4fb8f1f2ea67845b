"""The plan of ``protect``: everything that is checked and decided before the first file is written."""

import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path, PurePosixPath

from mtlue_cli import __version__
from mtlue_cli.choices import MAX_EPSILON, QUICK_EPSILON, ImageFormat, Quality, Unlabelled
from mtlue_cli.engines.engine import check_engine
from mtlue_cli.errors import CheckpointError, InputError
from mtlue_cli.generator.checkpoint import CheckpointCard, read_card
from mtlue_cli.generator.code_patterns import shares_for_codes
from mtlue_cli.generator.shipped import resolve_weights
from mtlue_cli.images.encode import released_suffix, writes_jxl
from mtlue_cli.images.folder import (
    FolderMatch,
    file_check,
    list_folder,
    match_labels,
    refuse_nesting,
    refuse_secret_inside,
    released_names,
)
from mtlue_cli.images.labelled import read_folder_labels
from mtlue_cli.keys import FoundKey, find_key
from mtlue_cli.layouts.companions import FOLDERS_ARE_CLASSES, refuse_images_in_labels
from mtlue_cli.options import launched_as, range_faults
from mtlue_cli.release.records import LABELS_NAME, KeyedPart, Manifest, RunRecord
from mtlue_cli.release.release import Contents, Release, Resumption, refuse_protected
from mtlue_cli.release.seal import Sealer
from mtlue_cli.release.signing import signing_key
from mtlue_cli.tasks.bins import Bins, edges_of
from mtlue_cli.tasks.classes import spelling_faults
from mtlue_cli.tasks.columns import ColumnKind
from mtlue_cli.tasks.labels import LabelFile, read_label_file, released_options
from mtlue_cli.tasks.names import resolved_names
from mtlue_cli.tasks.overview import ColumnUse, column_uses
from mtlue_cli.tasks.paths import folded
from mtlue_cli.tasks.spec import LabelTable, TaskSet
from mtlue_cli.tasks.spelling import respelled
from mtlue_cli.tasks.wording import counted, quoted
from mtlue_cli.workflows.protect.config import ProtectConfig
from mtlue_cli.workflows.protect.keyed import (
    in_code_order,
    key_for,
    offered_tasks,
    weights_of_codes,
    with_codes,
)

TRACEABLE_WARNING = (
    "the codes of --traceable weaken the perturbation of the weights: with the weights utkface, victims that trained "
    "briefly on grey images learned 0.81 of what clean images teach, and 0.21 without the codes. Check the release "
    "with mtlue verify"
)

_ONE_SPELLING = "use one spelling per class in the label file, or leave these columns out with --except"


@dataclass(frozen=True)
class ProtectInputs:
    """What a run reads before it decides anything.

    Attributes:
        labels: Label file, with a row for each image that is to be protected.
        left_out: Images without a row; they are not released.
        targets: Released path of each row.
        release: The release to come.
        contents: What its folder holds already.
    """

    labels: LabelFile
    left_out: tuple[str, ...]
    targets: tuple[str, ...]
    release: Release
    contents: Contents

    @property
    def earlier(self) -> RunRecord | None:
        """Settings of the release that is in the output folder."""
        return None if self.contents.manifest is None else self.contents.manifest.run

    def left_out_columns(self, *, overwrite: bool) -> Mapping[str, str]:
        """Columns that are no tasks unless the user names them, with the reason.

        Whatever more rows make of them, the columns that a release protects stay its tasks, and those that it left out
        stay left out, unless it is replaced.
        """
        if self.earlier is None or overwrite:
            return self.labels.left_out
        now = {name: reason for name, reason in self.labels.left_out.items() if name not in self.earlier.tasks}
        return now | self._left_out_then

    @cached_property
    def _left_out_then(self) -> dict[str, str]:
        """Columns that would be tasks by now, and were none when the release was made, with the reason of that time."""
        assert self.earlier is not None  # the caller saw to it
        new = [name for name in self.labels.usual_tasks.names if name not in self.earlier.tasks]
        if not new:
            return {}
        try:
            options = released_options(self.earlier.file_column)
            before = read_label_file(self.release.folder / LABELS_NAME, options, for_learning=False).left_out
        except InputError:  # none yet, or damaged: the check of the release reports it
            return {}
        return {name: before[name] for name in new if name in before}


@dataclass(frozen=True)
class Weights:
    """The weights of a run.

    Attributes:
        path: The checkpoint.
        card: What it says of itself.
        own: Whether ``protect`` itself trained them for these images.
        ready_made: Whether they are the patterns of ``--quick``, which that option or too few images chose.
        warnings: What the user must know of them.
    """

    path: Path
    card: CheckpointCard
    own: bool = False
    ready_made: bool = False
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class ProtectPlan:
    """A checked run: from here on, only single images can fail.

    Attributes:
        release: The release to come.
        weights: The checkpoint.
        card: What it says of itself; its tasks are all that it could protect here.
        warnings: What the user must know of the weights.
        training_command: Trains weights for these images.
        run: The settings, as the release will record them.
        labels: Label file, columns that are no tasks and all, with a row for each image that is to be protected.
        tasks: The protected tasks.
        key: The key, for weights that take one.
        table: Labels of those tasks, in the generator's class indices.
        targets: Released path of each row.
        unlabelled: Images without a row; they are not released.
        earlier: What is continued of the release in the output folder.
        force: Whether to protect what is protected already.
        draws: Whether an image without a label is protected as one of random classes.
        columns: What becomes of each column.
        sealer: What the records are sealed with.
        fast: As :func:`~mtlue_cli.images.encode.encode_image` takes it.
        notes: What to know of the seal, and of records that it does not vouch for.
    """

    release: Release
    weights: Path
    card: CheckpointCard
    warnings: tuple[str, ...]
    training_command: str
    run: RunRecord
    labels: LabelFile
    tasks: TaskSet
    key: FoundKey | None
    table: LabelTable
    targets: tuple[str, ...]
    unlabelled: tuple[str, ...]
    earlier: Resumption
    force: bool
    draws: bool
    columns: tuple[ColumnUse, ...]
    sealer: Sealer = field(default_factory=Sealer)
    notes: tuple[str, ...] = ()
    fast: bool = False

    def is_drawn(self, row: int) -> bool:
        """Whether the image of a row is protected as one of random classes."""
        return self.draws and len(self.tasks.image_level) > 0 and self.is_unlabelled(row)

    def is_unlabelled(self, row: int) -> bool:
        """Whether no protected task has a label in a row."""
        return not any(self.cells(row).values())

    def cells(self, row: int) -> dict[str, str | None]:
        """Class of each protected task in a row, of a dense task its map; None where unlabelled."""
        return {task.name: self.table.class_name(task.name, row) for task in self.tasks}


def refuse_keys_inside(config: ProtectConfig, release: Path) -> None:
    """Refuse a key or weights in the release that is to be handed on.

    Raises:
        InputError: One lies in it.
    """
    refuse_secret_inside(config.key, release, what="key")
    if config.weights is not None and Path(config.weights).is_file():
        refuse_secret_inside(Path(config.weights), release, what="file of weights")


def read_inputs(config: ProtectConfig) -> ProtectInputs:
    """Check the options, read the labels, both folders and the release that is there; writes nothing.

    Raises:
        InputError: They do not go together, the output folder cannot take the release, or the images are protected
            already.
        ImageError: A mask whose classes are counted cannot be read.
    """
    _check_options(config)
    refuse_nesting(config.images, config.release)
    refuse_secret_inside(config.sign, config.images, config.release)
    refuse_keys_inside(config, config.release)
    if config.release.resolve() in config.labels.resolve().parents:
        raise InputError(
            f"the label file {config.labels} lies in the output {config.release}, which would be written over it",
            hint="copy it to another folder, or give another --out",
        )
    files = list_folder(config.images)
    given = read_folder_labels(config.images, config.labels, config.reading, for_learning=False, found=files.images)
    refuse_images_in_labels(config.images, config.labels, given)
    match = match_labels(config.images, given.table, given.other_parts, files)
    given = replace(given, notes=(*given.notes, *match.notes))
    labels, left_out = _with_unlabelled(config, given, match)
    table, maps = labels.table, labels.table.all_map_files
    if any(folded(PurePosixPath(name).parts[0]) == LABELS_NAME for name in (*table.file_names, *maps)):
        raise InputError(
            f"{config.images / LABELS_NAME} is a folder, where the release has its label file",
            hint="rename that folder",
        )
    names = released_names(table.file_names, released_suffix(config.image_format), maps)
    release = Release(config.release, beside=labels.format in FOLDERS_ARE_CLASSES)
    contents = release.look(maps.union(names.values()))
    if not config.force:
        refuse_protected(config.images, table.file_names)
    return ProtectInputs(labels, left_out, tuple(names[source] for source in table.file_names), release, contents)


def named_weights(config: ProtectConfig, inputs: ProtectInputs, name: str) -> Weights:
    """The weights called ``name``, a file or shipped ones.

    Raises:
        InputError: There are none, or they do not fit the labels.
    """
    columns = inputs.labels.table.tasks

    def chosen(known: TaskSet) -> TaskSet:
        return select_tasks(known, config.tasks, config.exclude, columns)

    path = resolve_weights(name, columns, chosen, config.training_command)
    return Weights(path, read_card(path))


def plan_protection(
    config: ProtectConfig, inputs: ProtectInputs, weights: Weights, *, keep_key: bool = True
) -> ProtectPlan:
    """Decide what the run does; writes nothing but a user's first key.

    Args:
        config: What the user asks for.
        inputs: What :func:`read_inputs` gave.
        weights: To protect with.
        keep_key: Whether a key that is made is kept; else nothing at all is written.

    Raises:
        InputError: Weights, labels, key and the release that is there do not go together.
        ImageError: A mask whose classes are counted cannot be read.
    """
    card, labels, earlier = weights.card, inputs.labels, inputs.earlier
    _check_bound(weights.path, card)
    left_out = inputs.left_out_columns(overwrite=config.overwrite)
    offered = offered_tasks(card, labels.table.tasks, config.tasks, left_out)
    tasks = select_tasks(offered.tasks, config.tasks, config.exclude, labels.table.tasks)
    usual = QUICK_EPSILON if weights.ready_made and tasks.few_labels else card.epsilon
    epsilon = usual if config.epsilon is None else config.epsilon
    coding = weights_of_codes(card, config.traceable, epsilon, tasks)
    key = key_for(card, config.key, traceable=coding is not None, keep=keep_key)
    fingerprint = None if key is None else key.key.fingerprint
    # A release that is replaced decides nothing: the new one is what it would be in a new folder.
    sealer, notes = sealer_of(config.sign, key, keep=keep_key)
    found = inputs.contents.manifest
    vouched = None if found is None else sealer.vouched(inputs.release.folder, found)
    alike = earlier is not None and (earlier.weights_sha256, earlier.key_fingerprint) == (card.digest, fingerprint)
    continued = earlier if alike and vouched is not None and not config.overwrite else None
    if card.universal:
        refuse_spellings(tasks, inputs, overwrite=config.overwrite)
        tasks = in_code_order(tasks, {} if continued is None else continued.classes)
    table = labels.table.recoded(tasks)
    part = None
    if coding is not None and coding is not card:
        assert config.traceable is not None  # which is why there are codes
        part = KeyedPart(config.traceable, coding.digest)
    run = RunRecord(
        epsilon=epsilon,
        weights_name=card.name,
        weights_sha256=card.digest,
        tasks=tasks.names,
        image_format=config.image_format,
        quality=config.quality,
        keep=tuple(name for name in card.kept if name in labels.table.tasks),
        keep_metadata=config.metadata,
        versions=_versions(),
        file_column=labels.header[labels.file_index],
        key_fingerprint=fingerprint,
        traceable=part,
    )
    if coding is not None:
        cells = coding.generator["pattern_grid"]
        run = with_codes(run, tasks, continued, cells, lambda: shares_for_codes(table, tasks, card.image_size))
    return ProtectPlan(
        release=inputs.release,
        weights=weights.path,
        card=replace(card, tasks=offered.tasks),
        warnings=(*weights.warnings, *_epsilon_warnings(run, card, usual), *((TRACEABLE_WARNING,) if part else ())),
        training_command=config.retraining_command if weights.own else config.training_command,
        run=run,
        labels=labels,
        tasks=tasks,
        key=key,
        table=table,
        targets=inputs.targets,
        unlabelled=inputs.left_out,
        earlier=inputs.release.resume(inputs.contents, run, vouched, overwrite=config.overwrite),
        force=config.force,
        draws=config.unlabelled is Unlabelled.PROTECT,
        columns=column_uses(
            labels,
            tasks.names,
            reasons_against(config, labels.table.tasks, offered.unfit, card.tasks.names)
            | dict.fromkeys(card.kept, "is kept useful by the weights"),
        ),
        sealer=sealer,
        notes=(*notes, *_unvouched(inputs, vouched, overwrite=config.overwrite)),
        fast=config.fast,
    )


def sealer_of(sign: Path | None, key: FoundKey | None, *, keep: bool = True) -> tuple[Sealer, tuple[str, ...]]:
    """What a release is sealed with, and what the user must know of it.

    Args:
        sign: The signing key that ``--sign`` names.
        key: The key of the weights; None: they take none, and the user's own key seals.
        keep: Whether keys that are made are kept.

    Raises:
        InputError: The signing key cannot be used.
    """
    signer = None if sign is None else signing_key(sign, keep=keep)
    notes = () if signer is None else (signer.described(),)
    if key is not None:
        return Sealer(key.key, signer), notes
    try:
        own = find_key(None, keep=keep)
    except InputError as error:
        return Sealer(None, signer), (*notes, f"the records are not sealed: {error}")
    return Sealer(own.key, signer), (*notes, *(own.announced("seals your releases") if keep else ()))


def _unvouched(inputs: ProtectInputs, vouched: Manifest | None, *, overwrite: bool) -> tuple[str, ...]:
    """A line if records are not authenticated."""
    found = inputs.contents.manifest
    if found is None or not found.files or overwrite:
        return ()
    lost = len(found.files) - (0 if vouched is None else len(vouched.files))
    if not lost:
        return ()
    return (
        f"{counted(lost, 'record')} of {inputs.release.folder} without a seal of this key: an older version, another "
        "key or someone else wrote them; these images are protected again",
    )


def reasons_against(
    config: ProtectConfig, columns: TaskSet, unfit: Mapping[str, str], known: Sequence[str] | None = None
) -> dict[str, str]:
    """Why columns are not protected, by name, as said after the name; nothing of those for which nothing speaks.

    Args:
        config: What the user asks for.
        columns: Those of the labels.
        unfit: Why columns cannot be protected, or are no tasks unless they are named.
        known: The tasks of the weights, if they have any of their own.
    """
    excluded = resolved_names(config.exclude or (), columns.names)
    reasons = {name: "is not known to the weights" for name in columns.names if known and name not in known}
    reasons |= unfit
    if config.tasks is not None:
        wanted = resolved_names(config.tasks, columns.names)
        reasons |= {name: "is not named by --tasks" for name in columns.names if name not in wanted}
    return reasons | dict.fromkeys(excluded, "is named by --except")


def refuse_spellings(tasks: TaskSet, inputs: ProtectInputs, *, overwrite: bool) -> None:
    """Refuse classes that are likely to be another spelling of one in the labels, or in the release that is continued.

    Args:
        tasks: What is to be protected.
        inputs: The labels, and the release.
        overwrite: Whether the release is replaced, so that its classes decide nothing.

    Raises:
        InputError: Names every such class, with what to do.
    """
    before = {} if inputs.earlier is None or overwrite else inputs.earlier.classes
    bins = {bins.column for bins in inputs.labels.bins}
    faults: list[str] = []
    respelled_ones: list[str] = []
    for task in inputs.labels.table.tasks.subset(tasks.names).image_level:
        known = before.get(task.name, ())
        new = [name for name in task.classes if name not in known]
        if new:
            faults += spelling_faults(task)
        respelled_ones += [
            f"column {quoted(task.name)} has the class {quoted(name)}{task.place_of(name)}, which the release spells "
            f"{quoted(old)}"
            for name, old in respelled(new, known).items()
        ]
        if known and task.name in bins and new and (edges := edges_of(known)):
            respelled_ones.append(
                f"column {quoted(task.name)} is sorted into other bins than in the release: give its edges, "
                f"--bins {shlex.quote(str(Bins(task.name, edges)))}"
            )
    if respelled_ones:
        raise InputError(
            f"{inputs.release.folder} was made with other spellings of these labels",
            respelled_ones,
            "spell them as before, or replace the release with --overwrite",
        )
    if faults:
        raise InputError("protected columns spell a class in several ways", faults, _ONE_SPELLING)


def _with_unlabelled(config: ProtectConfig, labels: LabelFile, match: FolderMatch) -> tuple[LabelFile, tuple[str, ...]]:
    """The labels, with a row for each image without one if they are to be protected; and the images left out."""
    unlabelled = match.unlabelled
    if config.unlabelled is Unlabelled.FAIL and (unlabelled or match.unread):
        raise InputError(
            f"{len(unlabelled) + len(match.unread)} images of {config.images} have no row in the labels",
            [*map(quoted, unlabelled), *(f"{quoted(name)} (in a format that is not read)" for name in match.unread)],
            "--unlabelled protect protects them as images of random classes, --unlabelled skip leaves them out",
        )
    if not unlabelled or config.unlabelled is Unlabelled.SKIP:
        return labels, unlabelled
    fault_of = file_check(config.images, unlabelled)
    faults = [fault for name in unlabelled if (fault := fault_of(name)) is not None]
    if faults:
        raise InputError("images without a row cannot all be protected", faults, "rename or move these files")
    for column in labels.columns:
        if column.kind == ColumnKind.PATH and column.name in labels.left_out:
            stems = {_stem(name) for name in labels.table.tasks[column.name].classes}
            faults += [f"{quoted(name)}: column {quoted(column.name)}" for name in unlabelled if _stem(name) in stems]
    if faults:
        raise InputError(
            "images without a row have the names that a column of paths holds, so they may be masks or maps",
            faults,
            "correct the paths in that column, which lead to no file, or move these images; --unlabelled skip leaves "
            "them out",
        )
    return replace(labels, table=labels.table.with_unlabelled(unlabelled)), ()


def _stem(path: str) -> str:
    return PurePosixPath(path.replace("\\", "/")).stem.casefold()


def select_tasks(
    known: TaskSet, only: Sequence[str] | None, exclude: Sequence[str] | None, columns: TaskSet
) -> TaskSet:
    """The tasks to protect out of those that the generator knows.

    Args:
        known: Those.
        only: No others; None: all but those of ``exclude``.
        exclude: Not these.
        columns: Those of the labels: what is excluded may be one that the generator does not know.

    Raises:
        InputError: A name is unknown, or no task is left.
    """
    every = (*known.names, *columns.names)
    only = None if only is None else resolved_names(only, every)
    exclude = None if exclude is None else resolved_names(exclude, every)
    unknown = [name for name in only or () if name not in known]
    unknown += [name for name in exclude or () if name not in known and name not in columns]
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
    check_engine(config.engine, config.ray_address)
    if launched_as()[1] > 1:
        raise InputError("protect cannot run under a launcher", hint="leave it out; --engine ray shares the work")
    faults = range_faults(config)
    _ = config.metadata  # raises where a group is unknown
    if config.tasks is not None and config.exclude is not None:
        faults.append("--tasks and --except cannot be used together; give one of them")
    minutes = config.train_minutes
    if minutes is not None and not (minutes > 0 and math.isfinite(minutes)):
        faults.append(f"--train is {minutes:g}, expected minutes above 0")
    given = {"--weights": config.weights, "--quick": config.quick, "--train": config.train_minutes}
    named = [name for name, value in given.items() if value not in (None, False)]
    if len(named) > 1:
        faults.append(f"{' and '.join(named)} cannot be used together; give one of them")
    if config.visibility is not None and (config.weights is not None or config.quick):
        faults.append("--visibility is for training weights: leave out --weights and --quick")
    if config.key is not None and config.weights is None and not config.quick and config.traceable is None:
        faults.append("--key needs weights that take a key, or codes beside them: add --quick or --traceable")
    if config.quality is not Quality.HIGH and config.image_format is not ImageFormat.KEEP:
        faults.append("--quality is for JPEG files that stay JPEG: add --format keep")
    if config.fast and config.image_format is not ImageFormat.PNG:
        faults.append("--fast is for PNG: leave out --format, or give --format png")
    if config.image_format is ImageFormat.JXL and config.metadata:
        faults.append("--format jxl keeps no metadata: leave out --keep-metadata, or take another --format")
    if faults:
        raise InputError("these options cannot be used together", faults)
    if config.image_format is ImageFormat.JXL and not writes_jxl():
        raise InputError("--format jxl needs an extra", hint="pip install 'mtlue[jxl]'")


def _check_bound(weights: Path, card: CheckpointCard) -> None:
    if type(card.epsilon) is not int or not 1 <= card.epsilon <= MAX_EPSILON:
        raise CheckpointError(
            f"{weights} has the epsilon {card.epsilon!r}, expected a whole number from 1 to {MAX_EPSILON}"
        )


def _epsilon_warnings(run: RunRecord, card: CheckpointCard, usual: int) -> tuple[str, ...]:
    """What to know of a release whose perturbation is weaker than the ``usual`` one of these weights."""
    if run.epsilon >= usual:
        return ()
    return (
        f"epsilon {run.epsilon} is below the {card.epsilon} that the weights {card.name} were trained for: how much of "
        "the protection is left was not measured; check it with mtlue verify",
    )


@cache
def _versions() -> Mapping[str, str]:
    found = {"mtlue": __version__}
    for package in ("torch", "numpy", "pillow"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "unknown"
    return found
