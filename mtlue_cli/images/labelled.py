"""Where a folder's labels are, and the labels themselves."""

import functools
from collections.abc import Collection, Sequence
from pathlib import Path

from mtlue_cli.choices import LabelFormat
from mtlue_cli.errors import InputError
from mtlue_cli.images.folder import find_images
from mtlue_cli.images.map_columns import look_at_maps
from mtlue_cli.tasks.label_options import LabelOptions
from mtlue_cli.tasks.labels import LabelFile, read_label_file
from mtlue_cli.tasks.readers.registry import READERS

METADATA_NAMES = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
"""Label files that are found beside the images, as the ImageFolder of Hugging Face's ``datasets`` has them."""


def find_labels(folder: Path, wanted: LabelFormat | None = None) -> Path:
    """The label file beside the images; the folder itself for a format that reads file names.

    Args:
        folder: Image folder.
        wanted: Format that the user names, or None.

    Raises:
        InputError: There is none, or more than one.
    """
    if wanted is not None and READERS[wanted].reads_names:
        return folder
    found = [folder / name for name in METADATA_NAMES if (folder / name).is_file()]
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(path.name for path in found)
        raise InputError(f"{folder} holds several label files: {names}", hint="name one of them with --labels")
    beside = next((path for path in sorted(folder.glob("labels.*")) if path.is_file()), None)
    raise InputError(
        f"no labels: --labels is not given, and {folder} holds none of {', '.join(METADATA_NAMES)}",
        hint=f"give --labels {beside or 'FILE'}"
        + ("" if beside else f", or --label-format {LabelFormat.UTKFACE.value} if the labels are in the file names"),
    )


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
