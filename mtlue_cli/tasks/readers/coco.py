"""COCO's annotations: one JSON document with images, categories, and objects or segments.

Source: Lin et al., "Microsoft COCO", ECCV 2014; the data format of the published data set.
"""

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

from mtlue_cli.choices import LabelFormat
from mtlue_cli.errors import InputError
from mtlue_cli.tasks.readers.base import CANONICAL_FILE_COLUMN, LabelReader, LabelSource, RawTable
from mtlue_cli.tasks.readers.text import read_text
from mtlue_cli.tasks.wording import quoted

NOTE = "boxes and outlines are copied unchanged and are not protected; the tasks say which categories an image shows"


def read_coco(source: LabelSource) -> RawTable:
    """Read each category as a binary task: whether an object or a segment of it is in the image.

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
        images = [(entry["id"], str(entry["file_name"])) for entry in document["images"]]
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{source.path} is not COCO: {_fault(error)}",
            hint="expected images, annotations and categories, as instances_val2017.json has them",
        ) from error
    unknown = sorted({str(key) for found in shown.values() for key in found - categories.keys()})
    faults = tuple(f"annotations name the category {key}, which categories lacks" for key in unknown)
    rows = tuple((name, *(str(int(key in shown[image])) for key in categories)) for image, name in images)
    places = tuple(f"image {quoted(str(image))}" for image, _ in images)
    header = (CANONICAL_FILE_COLUMN, *categories.values())
    return RawTable(header, rows, places, faults, (NOTE,), CANONICAL_FILE_COLUMN)


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
