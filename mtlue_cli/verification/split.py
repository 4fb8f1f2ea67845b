"""The two sides of a verification: images to train on and clean images to test on.

What is drawn is drawn by content, so that file order and the size of the set decide nothing.
"""

import hashlib
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from mtlue_cli.errors import InputError
from mtlue_cli.files import file_digest
from mtlue_cli.tasks.spec import LabelTable

MOST_COMMON = 0.05
"""Share of the test images that may be training images too. A victim knows these by heart, if they are clean."""

FEW_TEST_IMAGES = 200
"""Below this many test images the figures are called coarse."""


@dataclass(frozen=True)
class Side:
    """Images by name below one folder, with their labels."""

    folder: Path
    table: LabelTable


@dataclass(frozen=True)
class Sides:
    """Training and test images, and what a reader should know about them."""

    train: Side
    test: Side
    notes: tuple[str, ...]


def draw(purpose: str, seed: int, content: bytes) -> bytes:
    """What is drawn for ``content`` (of a file or an image, or a name): 32 bytes that look random.

    Draws for different purposes or seeds are independent of each other.
    """
    return hashlib.sha256(f"mtlue {purpose} {seed} ".encode() + content).digest()


def draw_share(images: Tensor, fraction: float, seed: int, purpose: str) -> Tensor:
    """Draw an exact share of ``(N, ...)`` uint8 images on the CPU; a larger share holds every smaller one.

    Returns:
        ``(N,)`` bool, True for ``round(fraction * N)`` images.

    Raises:
        ValueError: ``fraction`` lies outside [0, 1].
    """
    if not 0 <= fraction <= 1:
        raise ValueError(f"the fraction is {fraction:g}, expected a share in [0, 1]")
    drawn = [draw(purpose, seed, image.numpy().tobytes()) for image in images]
    order = sorted(range(len(images)), key=lambda row: drawn[row])
    share = torch.zeros(len(images), dtype=torch.bool)
    share[order[: round(fraction * len(images))]] = True
    return share


def is_held_out(content: str, fraction: float, seed: int) -> bool:
    """Whether the file whose content hashes to ``content`` is one of the share of test images, in (0, 1)."""
    return int.from_bytes(draw("split", seed, content.encode())[:8], "big") < fraction * 2**64


def split_by_content(contents: Sequence[str], fraction: float, seed: int) -> tuple[list[int], list[int]]:
    """Rows of the training and of the test side; a file's side depends on nothing but its content and the seed."""
    sides: tuple[list[int], list[int]] = ([], [])
    for row, content in enumerate(contents):
        sides[is_held_out(content, fraction, seed)].append(row)
    return sides


def divide(
    images: Side,
    test: Side | None,
    *,
    left_out: Collection[str] = (),
    limit: int | None = None,
    drawn: bool = False,
    fraction: float = 0.2,
    seed: int = 0,
    on_file: Callable[[], None] | None = None,
) -> Sides:
    """Take the training side and, if there are no test images of their own, hold a fraction in (0, 1) of it out.

    Images that are ``left_out`` by name are not used. The ``limit`` keeps the first so many of the others or, with
    ``drawn``, so many by name and seed, so that a sorted label file gives no lopsided sample. ``on_file`` is called
    after each image is read.

    Raises:
        InputError: A file cannot be read, too few images on a side, a task without any label on the test side, or more
            than :data:`MOST_COMMON` of the test images are training images.
    """
    unwanted = set(left_out)
    names = images.table.file_names
    rows = [row for row, name in enumerate(names) if name not in unwanted]
    if drawn and limit is not None:
        rows.sort(key=lambda row: draw("sample", seed, names[row].encode()))
        rows = sorted(rows[:limit])
    rows = rows[:limit]
    contents = _digests(images.folder, [names[row] for row in rows], on_file)
    notes: list[str] = []
    if test is not None:
        train = Side(images.folder, images.table.take(rows))
        known = set(contents)
        contents_there = _digests(test.folder, test.table.file_names)
        common = [name for name, content in zip(test.table.file_names, contents_there, strict=True) if content in known]
        found = f"{len(common)} of {len(test.table)} test images are training images too"
        if len(common) > MOST_COMMON * len(test.table):
            raise InputError(found, common, "test on other images: remove these from the test images")
        if common:
            notes.append(f"{found}: what victims of clean images learn is slightly overestimated")
    else:
        kept, held_out = split_by_content(contents, fraction, seed)
        train = Side(images.folder, images.table.take(rows[index] for index in kept))
        test = Side(images.folder, images.table.take(rows[index] for index in held_out))
    _check(train, test)
    if len(test.table) < FEW_TEST_IMAGES:
        notes.append(f"only {len(test.table)} test images: the figures are coarse")
    return Sides(train, test, tuple(notes))


def _digests(folder: Path, names: Sequence[str], on_file: Callable[[], None] | None = None) -> list[str]:
    """Content of every file, hashed; all that cannot be read are reported together."""
    contents: list[str] = []
    faults: list[str] = []
    for name in names:
        try:
            contents.append(file_digest(folder / name))
        except OSError as error:
            faults.append(f"{name}: cannot be read: {error.strerror or error}")
        if on_file is not None:
            on_file()
    if faults:
        raise InputError(f"{len(faults)} of {len(names)} images in {folder} cannot be read", faults)
    return contents


def _check(train: Side, test: Side) -> None:
    hint = "give more images, or test images of their own with --test and --test-labels"
    if len(train.table) < 2 or len(test.table) < 1:
        counts = f"{len(train.table)} training and {len(test.table)} test images"
        raise InputError(f"{counts} are too few to train and test a victim", hint=hint)
    unlabelled = [name for name, column in test.table.columns.items() if not bool((column >= 0).any())]
    unlabelled += [name for name, files in test.table.maps.items() if not any(file is not None for file in files)]
    if unlabelled:
        faults = [f"task {name!r}: no test image has a label" for name in unlabelled]
        raise InputError("some tasks cannot be tested", faults, hint)
