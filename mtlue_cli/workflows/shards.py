"""Data sets and releases in shards, for commands that read images as files."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from mtlue_cli.choices import LabelFormat
from mtlue_cli.errors import InputError
from mtlue_cli.layouts.shards import FILE_COLUMN, Shards, find_shards
from mtlue_cli.release.packed import is_packed, unpack
from mtlue_cli.tasks.label_options import LabelOptions


def shards_of(images: Path, labels: Path, reading: LabelOptions) -> Shards | None:
    """The shards that hold images and labels; None where images are files, or the labels come from elsewhere.

    Raises:
        InputError: A shard cannot be read, or it is not clear which are meant.
    """
    return find_shards(images) if labels == images and reading.format is None else None


@contextmanager
def unpacked_images(images: Path, labels: Path, reading: LabelOptions) -> Iterator[tuple[Path, Path, LabelOptions]]:
    """Folder, labels and how they are read: those given, or what shards hold, unpacked within the context.

    Raises:
        InputError: A shard is damaged, or is not clear.
    """
    shards = shards_of(images, labels, reading)
    if shards is None:
        yield images, labels, reading
        return
    with tempfile.TemporaryDirectory(prefix="mtlue-") as folder:
        place, table = Path(folder) / images.resolve().name, Path(folder) / "labels.jsonl"
        shards.unpack(place, table)
        yield place, table, replace(reading, format=LabelFormat.JSONL, file_column=FILE_COLUMN)


@contextmanager
def unpacked_release(release: Path | None) -> Iterator[Path | None]:
    """The release, or the plain one that a release in shards was made of, unpacked within the context.

    Raises:
        InputError: The shards are not those of its records.
    """
    if release is None or not is_packed(release):
        yield release
        return
    with tempfile.TemporaryDirectory(prefix="mtlue-") as folder:
        place = Path(folder) / release.resolve().name
        faults = unpack(release, place)
        if faults:
            raise InputError(f"{release} is not as it was released", faults, "protect the originals into a new folder")
        yield place
