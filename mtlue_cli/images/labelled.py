"""The labels of a folder."""

import functools
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

from mtlue_cli.choices import LabelFormat
from mtlue_cli.images.decode import upright_frame
from mtlue_cli.images.folder import find_images
from mtlue_cli.images.map_columns import look_at_maps
from mtlue_cli.tasks.label_options import LabelOptions
from mtlue_cli.tasks.labels import LabelFile, read_label_file
from mtlue_cli.tasks.wording import counted, listed

WITH_BOXES = frozenset({LabelFormat.COCO, LabelFormat.VOC})
"""Formats whose boxes and outlines are copied to a release."""


def read_folder_labels(
    folder: Path,
    labels: Path,
    options: LabelOptions | None = None,
    *,
    for_learning: bool = True,
    learned: Collection[str] | None = None,
    found: Sequence[str] | None = None,
) -> LabelFile:
    """The labels of a folder: those of a label file, or, if ``labels`` is a folder, those in its images' names.

    Columns of maps are understood by their files, each of which is read and checked. ``found`` are the images of the
    folder, if they are known; None: they are searched for if need be.

    Other arguments and errors are those of :func:`~mtlue_cli.tasks.labels.read_label_file`.
    """
    names = () if not labels.is_dir() else find_images(folder) if found is None else found
    read = read_label_file(
        labels,
        options,
        for_learning=for_learning,
        learned=learned,
        image_names=names,
        look=functools.partial(look_at_maps, folder),
        folder=folder,
    )
    return replace(read, notes=(*read.notes, *_turned(folder, read))) if read.format in WITH_BOXES else read


def _turned(folder: Path, labels: LabelFile) -> list[str]:
    """That photos with boxes are turned upright, a line if so."""
    frames = ((name, upright_frame(folder / name)) for name in labels.table.file_names)
    turned = [name for name, frame in frames if frame is not None and frame[2] != 1]
    if not turned:
        return []
    return [
        f"{counted(len(turned), 'photo')} turned upright by an EXIF orientation, their boxes and outlines are not: "
        f"{listed(turned, 3)}; if these fit the photos as they are stored, save photos and boxes upright first"
    ]
