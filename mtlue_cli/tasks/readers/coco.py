"""COCO's annotations: one JSON document with images, categories, and objects or segments; masks in a folder beside it.

Sources: Lin et al., "Microsoft COCO", ECCV 2014; Kirillov et al., "Panoptic Segmentation", CVPR 2019; Caesar et al.,
"COCO-Stuff", CVPR 2018; the data formats of the published data sets.
"""

import json
import os
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from mtlue_cli.budget import check_table
from mtlue_cli.choices import LabelFormat, TaskKind
from mtlue_cli.errors import InputError
from mtlue_cli.tasks.declared import Declaration
from mtlue_cli.tasks.readers.base import LabelReader, LabelSource, RawTable, image_table
from mtlue_cli.tasks.readers.mask_folders import COLUMN
from mtlue_cli.tasks.readers.text import read_text
from mtlue_cli.tasks.spec import UNLABELLED, Task
from mtlue_cli.tasks.wording import quoted

NOTE = "boxes and outlines are copied unchanged and are not protected; the tasks say which categories an image shows"

Mask = tuple[Any, str, Mapping[int, int]]
"""Key of its image, its path from the folder of the document, and the number that stands for each id in it."""


def read_coco(source: LabelSource) -> RawTable:
    """Read each category as a binary task: whether an object or a segment of it is in the image.

    If a folder with the masks of panoptic annotations or with pixel maps lies beside the document, these are a
    segmentation task.

    Raises:
        InputError: It is no such document.
    """
    document = read_document(source.path)
    try:
        categories = {entry["id"]: str(entry["name"]).strip() for entry in document["categories"]}
        shown: dict[Any, set[Any]] = defaultdict(set)
        for entry in document["annotations"]:
            parts = entry.get("segments_info", (entry,))
            shown[entry["image_id"]].update(part["category_id"] for part in parts)
        check_table(source.path, len(document["images"]), 2 + len(categories))
        images = [(entry["id"], str(entry["file_name"])) for entry in document["images"]]
        classes = tuple(categories.values())
        numbers = dict(zip(categories, Task(COLUMN, TaskKind.SEGMENTATION, classes).numbers, strict=True))
        masks = _panoptic(source.path, document, numbers) or _pixel_maps(source.path, images, shown.keys(), numbers)
    except (KeyError, TypeError, AttributeError, ValueError, OverflowError) as error:
        raise InputError(
            f"{source.path} is not COCO: {_fault(error)}",
            hint="expected images, annotations and categories, as instances_val2017.json has them",
        ) from error
    unknown = sorted({str(key) for found in shown.values() for key in found - categories.keys()})
    faults = [f"annotations name the category {key}, which categories lacks" for key in unknown]
    masks = [] if unknown else masks
    for at, what, others in ((0, "image", "masks"), (1, "mask", "images")):
        repeated = [key for key, count in Counter(mask[at] for mask in masks).items() if count > 1]
        faults += [f"{what} {quoted(str(key))} has several {others}" for key in repeated]
    file_of = {image: file for image, file, _ in masks}
    ids_of = {file: ids for _, file, ids in masks}
    return image_table(
        (*classes, COLUMN) if masks else classes,
        (
            (name, *(str(int(key in shown[image])) for key in categories), *([file_of.get(image)] if masks else []))
            for image, name in images
        ),
        (f"image {quoted(str(image))}" for image, _ in images),
        faults=tuple(faults),
        notes=(NOTE,),
        declarations=(Declaration(COLUMN, TaskKind.SEGMENTATION, classes, ids=ids_of),) if masks else (),
    )


def _panoptic(path: Path, document: Mapping[str, Any], numbers: Mapping[Any, int]) -> list[Mask]:
    """Masks that hold ids of segments, in the folder of the document's name; 0 is no segment."""
    folder = path.with_suffix("")
    masks: list[Mask] = []
    for entry in document["annotations"] if folder.is_dir() else ():
        if "segments_info" in entry:
            parts = {int(part["id"]): part["category_id"] for part in entry["segments_info"]}
            ids = {key: numbers.get(category, UNLABELLED) for key, category in parts.items()} | {0: UNLABELLED}
            masks.append((entry["image_id"], str(PurePosixPath(folder.name, entry["file_name"])), ids))
    return masks


def _pixel_maps(
    path: Path, images: list[tuple[Any, str]], annotated: Collection[Any], numbers: Mapping[Any, int]
) -> list[Mask]:
    """Masks that hold ids of categories, in ``NAME_pixelmaps`` beside ``NAME.json``; 0 and 255 are none.

    An image with neither annotations nor a mask is unlabelled.
    """
    folder = path.with_name(f"{path.stem}_pixelmaps")
    if not folder.is_dir():
        return []
    ids = {0: UNLABELLED, 255: UNLABELLED} | {int(key): number for key, number in numbers.items()}
    files = [(image, PurePosixPath(folder.name, name).with_suffix(".png")) for image, name in images]
    return [
        (image, str(file), ids) for image, file in files if image in annotated or os.path.isfile(path.parent / file)
    ]


def _fault(error: Exception) -> str:
    return f"an entry lacks {error}" if isinstance(error, KeyError) else f"an entry has another form ({error})"


def read_document(path: Path) -> dict[str, Any]:
    """The whole document.

    Raises:
        InputError: It is no JSON object.
    """
    try:
        document = json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise InputError(f"{path} is not COCO: expected an object with images, annotations and categories")
    return document


COCO = LabelReader(LabelFormat.COCO, "COCO's annotations", read_coco, (".json",))
