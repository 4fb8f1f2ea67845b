"""What ``protect`` would do, and how its release would look; nothing is written but a preview that is asked for."""

from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np

from mtlue_cli.choices import ExitCode, Quality, metadata_groups
from mtlue_cli.documents import Document
from mtlue_cli.errors import ImageError, InputError
from mtlue_cli.images.decode import decode_bytes, read_content
from mtlue_cli.images.encode import encode_image
from mtlue_cli.images.square import to_square
from mtlue_cli.keys import find_key
from mtlue_cli.perturbation.bound import protect_pixels
from mtlue_cli.release.records import Record
from mtlue_cli.release.release import Resumption
from mtlue_cli.release.signing import signing_key
from mtlue_cli.tasks.overview import ColumnUse
from mtlue_cli.workflows.progress import Progress
from mtlue_cli.workflows.protect.config import ProtectConfig
from mtlue_cli.workflows.protect.own_weights import OwnWeights, find_weights
from mtlue_cli.workflows.protect.photos import PhotoSteps, Prepared, labels_of
from mtlue_cli.workflows.protect.plan import ProtectInputs, ProtectPlan, plan_protection
from mtlue_cli.workflows.protect.run import load_generator, show_columns
from mtlue_cli.workflows.train.config import TrainConfig

SAMPLE = 12
"""Photos that are encoded to estimate the size of a release."""

PATTERN_CELLS = 12
"""Side in cells of the pattern that stands for a perturbation there."""

PREVIEW_SIDE = 192
"""Side in pixels of a photo in a preview."""


class ProtectDryRun(
    Document,
    frozen=True,
    kw_only=True,
    rename={
        "kept": "already_protected",
        "unlabelled": "without_labels",
        "without_label": "rows_without_label",
        "minutes": "training_minutes",
        "size": "estimated_bytes",
    },
):
    """What a run would do.

    Attributes:
        schema_version, command: Which document this is.
        release: The output folder.
        columns: What becomes of each column.
        tasks: Those that would be protected.
        images: Images that would be in the release, as far as their labels tell.
        kept: Those of them that an earlier run has protected.
        unlabelled: Images without a row, which would be left out.
        without_label: Rows without a label in any protected column, which would be left out.
        weights: The weights, in words.
        minutes: Longest time that training them would take; None: they are there.
        epsilon: Bound in 255ths.
        key: Public name of the key that the weights take, and where it is; None: they take none.
        seal: That of the key that seals the records, likewise; None: there is none.
        signer: That of the signing key, likewise; None: nothing is signed.
        size: Estimate of the release in bytes, masks and maps included.
        notes: What else is to know of the labels.
        warnings: What the user must know of the weights.
        exit_code: Always success: a plan that does not fit ends with an error.
    """

    schema_version: Literal[1] = 1
    command: Literal["protect --dry-run"] = "protect --dry-run"
    release: Path
    columns: tuple[ColumnUse, ...]
    tasks: tuple[str, ...]
    images: int
    kept: int
    unlabelled: tuple[str, ...]
    without_label: int
    weights: str
    minutes: float | None
    epsilon: int
    key: str | None
    seal: str | None
    signer: str | None
    size: int
    notes: tuple[str, ...]
    warnings: tuple[str, ...]
    exit_code: ExitCode = ExitCode.SUCCESS


class Preview(Document, frozen=True, kw_only=True, rename={"path": "preview"}):
    """A picture of a few photos: original, protected, and the change ten times as strong.

    Attributes:
        schema_version, command: Which document this is.
        path: The picture, a PNG.
        files: The photos in it.
        weights: Name of the generator.
        columns: What becomes of each column.
        exit_code: Always success.
    """

    schema_version: Literal[1] = 1
    command: Literal["protect --preview"] = "protect --preview"
    path: Path
    files: tuple[str, ...]
    weights: str
    columns: tuple[ColumnUse, ...]
    exit_code: ExitCode = ExitCode.SUCCESS


def dry_run(config: ProtectConfig, progress: Progress, inputs: ProtectInputs) -> ProtectDryRun:
    """Plan a run and estimate the size of its release; writes nothing, not even a first key.

    Raises:
        InputError: Something does not fit, as in a real run.
    """
    found = find_weights(config, inputs, progress)
    plan: ProtectPlan | None = None
    if isinstance(found, OwnWeights):
        columns, epsilon, weights = found.columns, config.epsilon or TrainConfig.epsilon, found.in_words
    else:
        plan = plan_protection(config, inputs, found, keep_key=False)
        columns, epsilon, weights = plan.columns, plan.run.epsilon, f"{plan.card.name} ({plan.weights})"
    show_columns(columns, inputs.labels.notes, progress)
    key = seal = None if plan is None else plan.key
    if seal is None:
        with suppress(InputError):  # such a run leaves its records without a seal
            seal = find_key(None, keep=False)
    signer = None if config.sign is None else signing_key(config.sign, keep=False)
    table = inputs.labels.table
    if plan is not None:
        empty = sum(plan.is_unlabelled(row) and not plan.is_drawn(row) for row in range(len(table)))
    else:
        used = table.tasks.subset(column.name for column in columns if column.used)
        empty = len(table) - int(table.labelled(used).sum())
    return ProtectDryRun(
        release=config.release,
        columns=columns,
        tasks=tuple(column.name for column in columns if column.used),
        images=len(table) - empty,
        kept=0 if plan is None else sum(name in plan.earlier.records for name in table.file_names),
        unlabelled=inputs.left_out,
        without_label=empty,
        weights=weights,
        minutes=found.minutes if isinstance(found, OwnWeights) else None,
        epsilon=epsilon,
        key=None if key is None else key.in_words(),
        seal=None if seal is None else seal.in_words(),
        signer=None if signer is None else signer.in_words(),
        size=_estimated_size(config, inputs, epsilon, progress),
        notes=inputs.labels.notes,
        warnings=found.warnings if plan is None else plan.warnings,
    )


def _estimated_size(config: ProtectConfig, inputs: ProtectInputs, epsilon: int, progress: Progress) -> int:
    """Bytes of the release: the files as they are, times what a sample of them grows by; and the maps."""
    table = inputs.labels.table
    pattern = epsilon * np.sign(np.random.default_rng(0).standard_normal((3, PATTERN_CELLS, PATTERN_CELLS)))
    before = after = 0
    kept = metadata_groups(config.metadata)
    rows = np.unique(np.linspace(0, len(table) - 1, min(SAMPLE, len(table))).astype(int)).tolist()
    progress.start("estimating the size", len(rows))
    for row in rows:
        try:
            content = read_content(config.images / table.file_names[row])
            photo = decode_bytes(content, kept)
            changed = protect_pixels(photo.pixels, pattern.astype(np.float32), epsilon)
            after += len(
                encode_image(
                    changed,
                    photo,
                    config.image_format,
                    bool(kept),
                    fast=config.fast,
                    same_quality=config.quality is Quality.SAME,
                )
            )
            before += len(content)
        except ImageError:
            pass  # it will be in quarantine
        progress.advance()
    progress.finish()
    files = sum(_bytes(config.images / name) for name in table.file_names)
    maps = sum(_bytes(table.maps_folder / name) for name in table.all_map_files)
    return round(files * after / before) + maps if before else maps


def _bytes(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def draw_preview(config: ProtectConfig, count: int, progress: Progress, inputs: ProtectInputs) -> Preview:
    """Protect at most ``count`` photos, spread evenly over the rows, and draw them; writes that picture alone.

    Raises:
        InputError: As in a real run; or there are no weights yet, or no photo that can be shown.
    """
    from mtlue_cli.images.contact_sheet import draw_contact_sheet  # brings torchvision

    found = find_weights(config, inputs, progress)
    if isinstance(found, OwnWeights):
        raise InputError(
            "there are no weights for a preview yet: protect would train them first",
            hint="look at ready-made patterns with --quick, or run protect without --preview: it trains, "
            "and a preview of other images can follow",
        )
    plan = plan_protection(config, inputs, found, keep_key=False)
    show_columns(plan.columns, plan.labels.notes, progress)
    generator = load_generator(config, plan, config.device)
    progress.note(f"device: {generator.described_device}")
    generator.check_label_effect(plan.run.epsilon, f"train weights on these images: {plan.training_command}")
    rows = [row for row in range(len(plan.table)) if plan.is_drawn(row) or not plan.is_unlabelled(row)]
    rows = [rows[at] for at in np.unique(np.linspace(0, len(rows) - 1, min(count, len(rows))).astype(int))]
    # What a release holds already is shown as it would be made, too.
    shown = _prepared(replace(plan, force=True, earlier=Resumption()), config.images, rows, progress)
    if not shown:
        raise InputError("none of the photos can be protected, so there is nothing to show")
    deltas = generator.perturb([photo.square for photo in shown], labels_of(shown), plan.run.epsilon)
    squares = np.stack([to_square(photo.image, PREVIEW_SIDE) for photo in shown])
    originals = np.ascontiguousarray(squares.transpose(0, 2, 3, 1))
    protected = np.stack(
        [protect_pixels(pixels, delta, plan.run.epsilon) for pixels, delta in zip(originals, deltas, strict=True)]
    )
    release = config.release.resolve()
    path = release.with_name(f"{release.name}-preview.png")
    draw_contact_sheet(originals, protected, path, scale=1)
    files = tuple(plan.table.file_names[photo.row] for photo in shown)
    return Preview(path=path, files=files, weights=plan.card.name, columns=plan.columns)


def _prepared(plan: ProtectPlan, images: Path, rows: list[int], progress: Progress) -> list[Prepared]:
    """The photos of ``rows`` with their labels; those that cannot be protected are noted and left out."""
    steps, found = PhotoSteps(plan, images, writes=False), []
    for row in rows:
        content = steps.read(row)
        outcome: Prepared | Record = steps.prepare(row, content) if isinstance(content, bytes) else content
        if isinstance(outcome, Prepared):
            found.append(outcome)
        else:
            progress.note(f"not shown: {plan.table.file_names[row]}: {getattr(outcome, 'reason', '')}")
    return found
