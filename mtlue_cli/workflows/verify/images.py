"""The images of a verification: divided, loaded, protected in memory."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from mtlue_cli.choices import SplitPart
from mtlue_cli.errors import InputError
from mtlue_cli.files import file_digest
from mtlue_cli.generator.checkpoint import CheckpointCard, LoadedGenerator
from mtlue_cli.generator.code_patterns import shares_for_codes
from mtlue_cli.generator.generator import Generator
from mtlue_cli.images.dataset import load_labels, load_square_images
from mtlue_cli.images.folder import find_images, match_labels
from mtlue_cli.images.labelled import read_folder_labels
from mtlue_cli.keys import FoundKey
from mtlue_cli.metrics.flip import MeanFlip, mean_flip, sampled
from mtlue_cli.perturbation.effect import Shortfall
from mtlue_cli.tasks.bins import Bins
from mtlue_cli.tasks.labels import LabelFile
from mtlue_cli.tasks.spec import LabelTable
from mtlue_cli.tasks.wording import counted
from mtlue_cli.verification.audit import Audit
from mtlue_cli.verification.in_memory import protect_in_memory
from mtlue_cli.verification.promise import Promise, promised, promised_by_release, refuse_unkept
from mtlue_cli.verification.split import Side
from mtlue_cli.workflows.progress import Progress
from mtlue_cli.workflows.protect.flip import release_flip
from mtlue_cli.workflows.protect.keyed import key_for, offered_tasks
from mtlue_cli.workflows.verify.config import VerifyConfig
from mtlue_cli.workflows.verify.plan import VerifyPlan, require_fit

FEWEST_OWN_IMAGES = 8
"""Clean images of his own that an attacker needs to train on."""


@dataclass
class Sources:
    """The released version of the training images: read from the release, or made with the generator.

    Attributes:
        config: What was asked for.
        train: The training side.
        clean: The training images as victims see them.
        made: What a generator that is judged makes of them, ``(N, 3, S, S)`` uint8; None if a release is judged.
        audit: Of that release.
        progress: Reports the loading.
    """

    config: VerifyConfig
    train: Side
    clean: Tensor
    made: Tensor | None
    audit: Audit | None
    progress: Progress

    @cached_property
    def release(self) -> Tensor:
        """``(N, 3, S, S)`` uint8, in the order of the training images; loaded once."""
        if self.made is not None:
            return self.made
        assert self.audit is not None and self.config.protected is not None  # noqa: PT018 - one of the two is there
        names = [self.audit.released[name] for name in self.train.table.file_names]
        return load_images(self.config.protected, names, "released images", self.config, self.progress)

    def flip(self) -> MeanFlip | None:
        """Mean FLIP: of a sample of the released files, or of the training images as victims see them."""
        if self.audit is not None and self.config.protected is not None:
            sources = {released: name for name, released in self.audit.released.items()}
            return release_flip(self.config.clean, self.config.protected, sources, self.progress)
        row_of = {name: row for row, name in enumerate(self.train.table.file_names)}
        rows = [row_of[name] for name in sampled(row_of)]
        before, after = (images[rows].permute(0, 2, 3, 1).numpy() for images in (self.clean, self.release))
        return mean_flip(zip(before, after, strict=True))


def checked_labels(
    config: VerifyConfig, plan: VerifyPlan, given: LabelFile, card: CheckpointCard | None
) -> tuple[Promise, LabelTable, Side | None]:
    """What is judged, the labels of its tasks, and own test images; refuses what labels and options decide.

    ``card`` is that of the weights that are judged; None: a release is.

    Raises:
        InputError: Labels, images, weights, ``--keep`` or requested conditions do not fit together.
    """
    labels = given.table
    match_labels(config.clean, labels)
    if card is not None:
        offered = offered_tasks(card, labels.tasks, None, given.left_out)
        useful = card.kept if config.keep is None else config.keep
        promise = promised(card.epsilon, offered.tasks.names, labels.tasks, useful)
    else:
        assert config.protected is not None  # checked with the options
        promise = promised_by_release(config.protected, labels.tasks, given.usual_tasks.names, config.keep)
    refuse_unkept(config.keep or (), promise, labels.tasks)
    table = labels.recoded(labels.tasks.subset((*promise.tasks, *promise.kept)))
    require_fit(config, plan, table.tasks)
    return promise, table, read_test_side(config, table, given.bins)


def bound_to_key(
    loaded: LoadedGenerator, key: Path | None, given: LabelFile
) -> tuple[LoadedGenerator, FoundKey | None, Sequence[str]]:
    """A generator for these labels, bound to its key if it takes one.

    Returns:
        The generator, whose card holds the tasks that it protects; its key; what a reader should know.

    Raises:
        InputError: It does not fit, or its key cannot be read.
    """
    labels = given.table
    offered = offered_tasks(loaded.card, labels.tasks, None, given.left_out)
    found = key_for(loaded.card, key)
    if found is None:
        return loaded, None, ()
    shares = shares_for_codes(labels, offered.tasks, loaded.card.image_size)
    return loaded.bound(found.key, offered.tasks, shares), found, found.described()


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


def load_images(folder: Path, names: Sequence[str], what: str, config: VerifyConfig, progress: Progress) -> Tensor:
    """Images as victims see them, ``(N, 3, S, S)`` uint8; ``what`` names them for the progress."""
    progress.start(f"loading {what}", len(names))
    images = load_square_images(folder, names, config.side, workers=config.workers, on_image=progress.advance)
    progress.finish()
    return images


def refuse_judged(folder: Path, names: Sequence[str], judged: Sequence[Side], release: Path | None = None) -> None:
    """Refuse images of an attacker's own that are among the judged ones, or released ones, by content.

    Raises:
        InputError: Lists them.
    """
    known = {file_digest(side.folder / name) for side in judged for name in side.table.file_names}
    if release is not None:
        known |= {file_digest(release / name) for name in find_images(release)}
    common = [name for name in names if file_digest(folder / name) in known]
    if common:
        raise InputError(
            f"{len(common)} of the {len(names)} images in {folder} are among those that are judged, or in the release",
            common,
            "what an attacker has of his own must be other images; remove these, and their rows if they are labelled",
        )


def load_own_images(config: VerifyConfig, judged: Sequence[Side], progress: Progress) -> Tensor | None:
    """The attacker's clean images, ``(K, 3, S, S)`` uint8; None if he has none.

    Raises:
        InputError: There are too few, they are among the judged ones, or one cannot be read.
    """
    folder = config.attacker_images
    if folder is None:
        return None
    names = find_images(folder)
    if len(names) < FEWEST_OWN_IMAGES:
        raise InputError(f"{folder} holds {counted(len(names), 'image')}, expected at least {FEWEST_OWN_IMAGES}")
    refuse_judged(folder, names, judged, config.protected)
    return load_images(folder, names, "the attacker's images", config, progress)


def service_pairs(
    loaded: LoadedGenerator, train: Side, labels: LabelTable, own: Tensor, count: int, seed: int, device: torch.device
) -> tuple[Tensor, Tensor, Tensor]:
    """What an attacker gets who has his own images protected by the owner, under labels of released images.

    Args:
        loaded: The generator, bound to its key; he never sees either.
        train: The training side, of which the release is made.
        labels: Those of all images in every column.
        own: His clean images, ``(K, 3, S, S)`` uint8.
        count: Most images that he gives.
        seed: Of whose labels he gives them.
        device: Where they are protected.

    Returns:
        Images as they were and protected, ``(P, 3, S, S)`` uint8 each, and of each the row of ``train`` whose labels it
        has, ``(P,)`` int64. What lacks the least effect is left out, as in a release.
    """
    rows = torch.randint(len(train.table), (min(count, len(own)),), generator=torch.Generator().manual_seed(seed))
    names = (train.table.file_names[row] for row in rows.tolist())
    given = _labels_of(names, labels).recoded(loaded.card.tasks.image_level)
    columns = {name: [int(cell) if cell >= 0 else None for cell in column] for name, column in given.columns.items()}
    columns |= {task.name: [None] * len(rows) for task in loaded.card.tasks.dense}
    lacking: dict[int, Shortfall] = {}
    protected = Generator(loaded, device).protect(own[: len(rows)], columns, lacking=lacking)
    kept = [row for row in range(len(rows)) if row not in lacking]
    return own[kept], protected[kept], rows[kept]


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

    ``labels`` are those of all images in every column, for a generator that knows more tasks than are measured;
    ``clean`` is ``(N, 3, S, S)`` uint8, the training images as victims see them.

    Returns:
        The side, its clean images and its protected images without those that are left out, and what to note.

    Raises:
        InputError: A photo cannot be read, or fewer than two are left.
    """
    # The generator takes all its tasks, also those that these labels cannot measure.
    given = _labels_of(train.table.file_names, labels).recoded(loaded.card.tasks)
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


def _labels_of(names: Iterable[str], labels: LabelTable) -> LabelTable:
    """The rows of the images called ``names``, in their order."""
    row_of = {name: row for row, name in enumerate(labels.file_names)}
    return labels.take(row_of[name] for name in names)
