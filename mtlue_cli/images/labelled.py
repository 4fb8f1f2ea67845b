"""The labels of a folder."""

import functools
from collections.abc import Collection, Sequence
from pathlib import Path

from mtlue_cli.images.folder import find_images
from mtlue_cli.images.map_columns import look_at_maps
from mtlue_cli.tasks.label_options import LabelOptions
from mtlue_cli.tasks.labels import LabelFile, read_label_file


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
    return read_label_file(
        labels,
        options,
        for_learning=for_learning,
        learned=learned,
        image_names=names,
        look=functools.partial(look_at_maps, folder),
        folder=folder,
    )
