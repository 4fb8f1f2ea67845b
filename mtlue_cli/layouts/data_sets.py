"""What a release of a known data set holds beside images and masks: lists, boxes and outlines, as far as they fit."""

import json
import os
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path, PurePosixPath

from mtlue_cli.choices import LabelFormat
from mtlue_cli.tasks.readers.coco import read_document
from mtlue_cli.tasks.readers.mask_folders import MASK_FOLDERS, annotation_of


def voc_files(images: Path, matches: Mapping[str, re.Match[str]]) -> dict[str, bytes]:
    """The boxes of the released images, and the lists of ``ImageSets`` without the others."""
    found = _copied(images, (annotation_of(match) for match in matches.values()))
    for root in {match["root"] for match in matches.values()}:
        stems = {match["stem"] for match in matches.values() if match["root"] == root}
        for path in sorted((images / root / "ImageSets").rglob("*.txt")):
            found[path.relative_to(images).as_posix()] = _lines_of(path, stems)
    return found


def cityscapes_files(images: Path, matches: Mapping[str, re.Match[str]]) -> dict[str, bytes]:
    """The outlines of the released images."""
    return _copied(
        images, (match.expand(r"\g<root>gtFine/\g<stem>_gtFine_polygons.json") for match in matches.values())
    )


def ade20k_files(images: Path, matches: Mapping[str, re.Match[str]]) -> dict[str, bytes]:
    """The names of the classes, and the scenes of the released images."""
    stems = {PurePosixPath(match["stem"]).name for match in matches.values()}
    found: dict[str, bytes] = {}
    for root in {match["root"] for match in matches.values()}:
        found |= _copied(images, (f"{root}objectInfo150.txt",))
        scenes = images / root / "sceneCategories.txt"
        if scenes.is_file():
            found[f"{root}sceneCategories.txt"] = _lines_of(scenes, stems)
    return found


def coco_document(labels: Path, names: Mapping[str, str]) -> bytes:
    """COCO's annotations with the released images and what belongs to them; boxes and outlines as they are."""
    document = read_document(labels)
    kept = [
        {**entry, "file_name": names[name]}
        for entry in document["images"]
        if (name := str(PurePosixPath(entry["file_name"]))) in names
    ]
    known = {entry["id"] for entry in kept}
    annotations = [entry for entry in document["annotations"] if entry["image_id"] in known]
    return json.dumps({**document, "images": kept, "annotations": annotations}, ensure_ascii=False).encode()


FILES: Mapping[LabelFormat, Callable[[Path, Mapping[str, re.Match[str]]], dict[str, bytes]]] = {
    LabelFormat.VOC: voc_files,
    LabelFormat.CITYSCAPES: cityscapes_files,
    LabelFormat.ADE20K: ade20k_files,
}


def files_of(images: Path, form: LabelFormat, names: Mapping[str, str]) -> dict[str, bytes]:
    """What a data set of folders of masks has besides: path in the release to content.

    Args:
        images: Folder of the originals.
        form: The data set.
        names: File of the originals to released file, for each released one.
    """
    found = {name: MASK_FOLDERS[form].photo.fullmatch(name) for name in names}
    return FILES[form](images, {name: match for name, match in found.items() if match is not None})


def _lines_of(path: Path, stems: Collection[str]) -> bytes:
    """The lines of a list that begin with one of the names, in whatever encoding they are."""
    first = {os.fsencode(stem) for stem in stems}
    lines = [line for line in path.read_bytes().splitlines() if line.split() and line.split()[0] in first]
    return b"".join(line + b"\n" for line in lines)


def _copied(images: Path, names: Iterator[str] | tuple[str, ...]) -> dict[str, bytes]:
    return {name: (images / name).read_bytes() for name in names if (images / name).is_file()}
