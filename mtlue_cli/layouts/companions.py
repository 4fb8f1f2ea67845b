"""The files of a layout that stand in a release beside images, maps and ``labels.csv``."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from mtlue_cli.choices import LabelFormat
from mtlue_cli.errors import InputError, MtlueError
from mtlue_cli.files import MOST_RECORD, open_below
from mtlue_cli.layouts.find import LABEL_NAMES
from mtlue_cli.layouts.image_text import LEAST_TEXT, has_image, holds_image, image_text_error
from mtlue_cli.layouts.tables import COLUMN_OF_IMAGES, DELIMITED, REWRITERS, rewritten, rewritten_by_preset
from mtlue_cli.tasks.label_options import LabelOptions
from mtlue_cli.tasks.labels import LabelFile
from mtlue_cli.tasks.paths import json_text
from mtlue_cli.tasks.readers.json_members import read_members
from mtlue_cli.tasks.readers.mask_folders import MASK_FOLDERS
from mtlue_cli.tasks.readers.text import read_text
from mtlue_cli.tasks.wording import quoted

FOLDERS_ARE_CLASSES = frozenset({LabelFormat.IMAGEFOLDER})
"""Formats whose loaders take every folder of the release for a class."""

COPIED = {
    LabelFormat.VOC: r"\g<root>Annotations/\g<stem>.xml",
    LabelFormat.CITYSCAPES: r"\g<root>gtFine/\g<stem>_gtFine_polygons.json",
    LabelFormat.ADE20K: r"\g<root>objectInfo150.txt",
}
"""The file that goes with an image (boxes, outlines, names of the classes), as a template of the match of its path."""

LISTS = {LabelFormat.VOC: "ImageSets/**/*.txt", LabelFormat.ADE20K: "sceneCategories.txt"}
"""Lists below the root of a data set, each line of which begins with the name of an image."""


def companion_files(
    images: Path, labels: Path, options: LabelOptions, table: LabelFile, names: Mapping[str, str]
) -> dict[str, bytes]:
    """What a loader of this layout reads besides the images: path in the release to content.

    A label file that lies among the images is part of the data set: the release has it too, under the same name, with
    the released file names. ``labels.csv`` is what mtlue writes itself.

    Args:
        images: Folder of the originals.
        labels: Their label file, or the folder itself for a layout without one.
        options: How they were read.
        table: What was read.
        names: File of the originals to released file, for each released one.
    """
    if table.format is LabelFormat.COCO:
        return {labels.name: _coco_document(labels, names)}
    if table.format in MASK_FOLDERS:
        return dict(_files_beside_masks(images, table.format, names))
    place = _place_among(images, labels, table)
    if place is None:
        return {}
    if options.preset is not None:
        return {place: rewritten_by_preset(labels, options.preset, names, images)} if table.format in DELIMITED else {}
    return {place: rewritten(labels, table.format, table.header[table.file_index], names)}


def refuse_images_in_labels(images: Path, labels: Path, table: LabelFile) -> None:
    """Refuse labels that would bring images into the release: as cells of ``labels.csv``, or in a file that is copied.

    Copied are those of :func:`companion_files`.

    Raises:
        InputError: They hold images, or a file that is copied cannot be read or lies outside of ``images``.
    """
    for task in table.table.tasks:
        if task.name in table.header and any(len(text) >= LEAST_TEXT and has_image(text) for text in task.classes):
            raise image_text_error(labels, f"column {quoted(task.name)}", "write the labels without this column")
    if table.format in MASK_FOLDERS:
        everything = {name: name for name in table.table.file_names}
        try:
            holding = [
                name for name, text in _files_beside_masks(images, table.format, everything) if holds_image(text)
            ]
        except MtlueError as error:
            raise InputError(str(error)) from error
        if holding:
            raise image_text_error(images / holding[0], "its text (base64)", "write it without the images in it")
    if table.format is not LabelFormat.COCO and _place_among(images, labels, table) is None:
        return
    if table.format in COLUMN_OF_IMAGES:
        column = COLUMN_OF_IMAGES[table.format](labels)
        what = None if column is None else f"column {quoted(column)}"
    else:
        what = "its text (base64)" if holds_image(read_text(labels).encode()) else None
    if what is not None:
        raise image_text_error(labels, what, "write the label file without the images in it")


def _coco_document(labels: Path, names: Mapping[str, str]) -> bytes:
    """COCO's annotations with the released images and what belongs to them; boxes and outlines as they are."""

    def is_kept(image: Mapping[str, Any]) -> bool:
        return str(PurePosixPath(image["file_name"])) in names

    images = (entries for member, entries in read_members(labels) if member == "images")
    known = {entry["id"] for entries in images for entry in entries if is_kept(entry)}
    parts: list[str] = []
    for member, value in read_members(labels):
        if member == "images":
            kept = filter(is_kept, value)
            value = ({**entry, "file_name": names[str(PurePosixPath(entry["file_name"]))]} for entry in kept)
        elif member == "annotations":
            value = (entry for entry in value if entry["image_id"] in known)
        text = f"[{', '.join(map(json_text, value))}]" if isinstance(value, Iterator) else json_text(value)
        parts.append(f"{json_text(member)}: {text}")
    return f"{{{', '.join(parts)}}}".encode()


def _files_beside_masks(images: Path, form: LabelFormat, names: Mapping[str, str]) -> Iterator[tuple[str, bytes]]:
    """What a data set of folders of masks has besides: files of the released images, and lists without the others."""
    matches = [match for name in names if (match := MASK_FOLDERS[form].photo.fullmatch(name)) is not None]
    beside = sorted({match.expand(COPIED[form]) for match in matches})
    for name in beside:
        if (images / name).is_file():
            yield name, _content(images, name)
    for root in {match["root"] for match in matches} if form in LISTS else ():
        stems = {os.fsencode(PurePosixPath(match["stem"]).name) for match in matches if match["root"] == root}
        for path in (images / root).glob(LISTS[form]):
            name = path.relative_to(images).as_posix()
            lines = [line for line in _content(images, name).splitlines() if line.split() and line.split()[0] in stems]
            yield name, b"".join(line + b"\n" for line in lines)


def _content(images: Path, name: str) -> bytes:
    """A file among the images, which no link may lead out of."""
    try:
        with open_below(images, name, MOST_RECORD) as stream:
            return stream.readall()
    except OSError as error:
        raise MtlueError(f"{images / name} cannot be copied to the release: {error.strerror or error}") from error


def _place_among(images: Path, labels: Path, table: LabelFile) -> str | None:
    """Path of a label file among the images that the release has too; None: it has not."""
    if labels.is_dir() or images.resolve() not in labels.resolve().parents:
        return None
    place = labels.resolve().relative_to(images.resolve()).as_posix()
    return None if place == LABEL_NAMES[0] or table.format not in REWRITERS else place
