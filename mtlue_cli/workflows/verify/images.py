"""The images of a verification: audited, divided, loaded, protected in memory."""

from collections import Counter
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mtlue_cli.choices import SplitPart
from mtlue_cli.errors import InputError
from mtlue_cli.generator.checkpoint import LoadedGenerator
from mtlue_cli.generator.generator import Generator
from mtlue_cli.images.dataset import load_labels, load_square_images
from mtlue_cli.images.folder import match_labels
from mtlue_cli.images.labelled import read_folder_labels
from mtlue_cli.metrics.flip import mean_flip, sampled
from mtlue_cli.tasks.bins import Bins
from mtlue_cli.tasks.spec import LabelTable
from mtlue_cli.verification.audit import Audit, audit_release
from mtlue_cli.verification.in_memory import protect_in_memory
from mtlue_cli.verification.split import Side, Sides, divide
from mtlue_cli.workflows.progress import Progress
from mtlue_cli.workflows.protect.flip import release_flip
from mtlue_cli.workflows.verify.config import VerifyConfig
from mtlue_cli.workflows.verify.settings import VerifyPlan


class Sources:
    """The released version of the training images: read from the release, or made with the generator.

    Args:
        config: What was asked for.
        train: The training side.
        clean: The training images as victims see them.
        made: What a generator that is judged makes of them, ``(N, 3, S, S)`` uint8; None if a release is judged.
        audit: Of that release.
        progress: Reports the loading.
    """

    def __init__(
        self,
        config: VerifyConfig,
        train: Side,
        clean: Tensor,
        made: Tensor | None,
        audit: Audit | None,
        progress: Progress,
    ) -> None:
        self._config, self._train, self._clean = config, train, clean
        self._made, self._audit, self._progress = made, audit, progress

    def release(self) -> Tensor:
        """``(N, 3, S, S)`` uint8, in the order of the training images; made once."""
        return self._release

    def flip(self) -> dict[str, Any] | None:
        """Mean FLIP, JSON-ready: of a sample of the released files, or of the training images as victims see them."""
        if self._audit is not None and self._config.protected is not None:
            sources = {released: name for name, released in self._audit.released.items()}
            found = release_flip(self._config.clean, self._config.protected, sources, self._progress)
        else:
            row_of = {name: row for row, name in enumerate(self._train.table.file_names)}
            rows = [row_of[name] for name in sampled(row_of)]
            before, after = (images[rows].permute(0, 2, 3, 1).numpy() for images in (self._clean, self._release))
            found = mean_flip(zip(before, after, strict=True))
        return None if found is None else found.to_json()

    @cached_property
    def _release(self) -> Tensor:
        if self._made is not None:
            return self._made
        assert self._audit is not None and self._config.protected is not None  # noqa: PT018 - one of the two is there
        names = tuple(self._audit.released[name] for name in self._train.table.file_names)
        released = replace(self._train.table, file_names=names)
        return load_side(Side(self._config.protected, released), "released images", self._config, self._progress)


def read_test_side(config: VerifyConfig, table: LabelTable, bins: tuple[Bins, ...] = ()) -> Side | None:
    """Separate test images in the class indices of ``table``; None if a share is held out instead.

    They are a folder of their own, or the test part of a data set that its authors divided. ``bins`` are those of
    ``table``, with quantiles as edges.
    """
    if config.test is not None and config.test_labels is not None:
        folder, labels, reading = config.test, config.test_labels, config.whole_reading
    elif config.reading.split_file is not None:
        folder, labels, reading = config.clean, config.labels, replace(config.reading, split=SplitPart.TEST)
    else:
        return None
    reading = replace(reading, bins=bins or reading.bins)
    found = read_folder_labels(folder, labels, reading, for_learning=False).table
    match_labels(folder, found)
    problems = table.tasks.unmet_by(found.tasks)
    if problems:
        raise InputError(f"the test labels {labels} do not fit {config.labels}", problems)
    return Side(folder, found.recoded(table.tasks))


def audit_files(config: VerifyConfig, release: Path, table: LabelTable, progress: Progress) -> Audit:
    """Check every file of the release, and tell the progress what a reader should know."""
    audit = audit_release(
        release,
        config.clean,
        table,
        file_column=config.reading.file_column,
        workers=config.workers,
        on_start=lambda files: progress.start("audit", files),
        on_file=progress.advance,
    )
    progress.finish()
    for note in audit.notes:
        progress.note(note)
    return audit


def divide_sides(
    config: VerifyConfig, plan: VerifyPlan, images: Side, test: Side | None, audit: Audit | None, progress: Progress
) -> Sides:
    """Training and test side: of the first ``--limit`` images, or of as many as the tier draws from all."""
    limit = plan.limit
    progress.start("reading files", None if limit is None else min(limit, len(images.table)))
    sides = divide(
        images,
        test,
        left_out=audit.quarantined if audit is not None else (),
        limit=limit,
        drawn=config.limit is None,
        fraction=config.test_fraction,
        seed=config.seed,
        on_file=progress.advance,
    )
    progress.finish()
    for note in sides.notes:
        progress.note(note)
    return sides


def load_side(side: Side, what: str, config: VerifyConfig, progress: Progress) -> Tensor:
    """The images of one side as victims see them, ``(N, 3, S, S)`` uint8; ``what`` names them for the progress."""
    progress.start(f"loading {what}", len(side.table))
    images = load_square_images(
        side.folder, side.table.file_names, config.side, workers=config.workers, on_image=progress.advance
    )
    progress.finish()
    return images


def protect_side(
    loaded: LoadedGenerator,
    train: Side,
    labels: LabelTable,
    clean: Tensor,
    config: VerifyConfig,
    device: torch.device,
    progress: Progress,
) -> tuple[Side, Tensor, Tensor, tuple[str, ...]]:
    """Protect the training images in memory, and leave out what ``protect`` would put into quarantine.

    Args:
        loaded: The generator.
        train: The training side.
        labels: Labels of all images in every column, for a generator that knows more tasks than are measured.
        clean: The training images as victims see them, ``(N, 3, S, S)`` uint8.
        config: What was asked for.
        device: Where the generator runs.
        progress: Reports the work.

    Returns:
        The side, its clean images and its protected images without those that are left out, and what to note.

    Raises:
        InputError: A photo cannot be read, or fewer than two are left.
    """
    # The generator takes all its tasks, also those that these labels cannot measure.
    row_of = {name: row for row, name in enumerate(labels.file_names)}
    given = labels.take(row_of[name] for name in train.table.file_names).recoded(loaded.card.tasks)
    kept = load_labels(given, loaded.card.image_size, workers=config.workers)
    progress.start("protecting in memory", len(clean))
    protected, lacking = protect_in_memory(
        Generator(loaded, device),
        train.folder,
        train.table.file_names,
        {name: values.numpy() for name, values in kept.items()},
        clean,
        workers=config.workers,
        on_images=progress.advance,
    )
    progress.finish()
    if not lacking:
        return train, clean, protected, ()
    reasons = Counter(lacking.values())
    note = f"{len(lacking)} of {len(clean)} training images are left out; protect would put them into quarantine: "
    note += ", ".join(f"{count} because {reason.value}" for reason, count in reasons.most_common())
    rows = [row for row in range(len(clean)) if row not in lacking]
    if len(rows) < 2:
        raise InputError(note, hint="train weights on these images: mtlue train-generator")
    return Side(train.folder, train.table.take(rows)), clean[rows], protected[rows], (note,)
