"""COCO's annotations: one JSON document with images, categories, and objects or segments; masks in a folder beside it.

Sources: Lin et al., "Microsoft COCO", ECCV 2014; Kirillov et al., "Panoptic Segmentation", CVPR 2019; Caesar et al.,
"COCO-Stuff", CVPR 2018; the data formats of the published data sets.
"""

import os
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from mtlue_cli.budget import budget, check_table
from mtlue_cli.choices import LabelFormat, TaskKind
from mtlue_cli.errors import InputError
from mtlue_cli.tasks.declared import Declaration
from mtlue_cli.tasks.readers.base import LabelReader, LabelSource, RawTable, image_table
from mtlue_cli.tasks.readers.json_members import read_members
from mtlue_cli.tasks.readers.mask_folders import COLUMN
from mtlue_cli.tasks.spec import UNLABELLED, Task
from mtlue_cli.tasks.wording import counted, quoted

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
    found: dict[str, Any] = {}
    place: list[str] = []
    panoptic: list[_Segments] | None = [] if source.path.with_suffix("").is_dir() else None
    try:
        for name, entries in read_members(source.path):
            entries = _numbered(name, entries, place)
            if name == "images":
                images = found[name] = []
                for entry in entries:
                    images.append((_key(entry, "id"), str(entry["file_name"])))
                    if len(images) > budget().max_rows:
                        check_table(source.path, len(images), 2)
            elif name == "categories":
                categories = found[name] = {}
                for entry in entries:
                    if _key(entry, "id") in categories:
                        raise ValueError(f"two categories have the id {entry['id']}")
                    categories[entry["id"]] = entry["name"].strip()
                    check_table(source.path, 0, 2 + len(categories))
            elif name == "annotations":
                found[name] = _shown(source.path, entries, panoptic)
        place.clear()
        categories, shown, images = found["categories"], found["annotations"], found["images"]
        check_table(source.path, len(images), 2 + len(categories))
        classes = tuple(categories.values())
        numbers = dict(zip(categories, Task(COLUMN, TaskKind.SEGMENTATION, classes).numbers, strict=True))
        masks = _panoptic(source.path, panoptic or (), numbers)
        masks = masks or _pixel_maps(source.path, images, shown.keys(), numbers)
    except (KeyError, TypeError, AttributeError, ValueError, OverflowError) as error:
        raise InputError(
            f"{source.path} is not COCO: {_fault(error, ''.join(place))}",
            hint="expected images, annotations and categories, as instances_val2017.json has them",
        ) from error
    unknown = sorted({str(key) for keys in shown.values() for key in keys - categories.keys()})
    faults = [f"annotations name the category {key}, which categories lacks" for key in unknown]
    masks = [] if unknown else masks
    ids = {key for key, _ in images}
    strangers = [key for key in shown if key not in ids]
    as_text = {str(key) for key in ids}
    faults += [
        f"annotations name the image {key!r}, and images have {str(key)!r} as another type"
        for key in strangers
        if str(key) in as_text
    ]
    lost = f"{counted(len(strangers), 'image')} of annotations not among images"
    faults += [f"several images have the id {quoted(str(key))}" for key in _repeated(key for key, _ in images)]
    for at, what, others in ((0, "image", "masks"), (1, "mask", "images")):
        repeated = _repeated(mask[at] for mask in masks)
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
        notes=(NOTE, lost) if strangers else (NOTE,),
        declarations=(Declaration(COLUMN, TaskKind.SEGMENTATION, classes, ids=ids_of),) if masks else (),
    )


_Segments = tuple[Any, str, Mapping[int, Any]]
"""Key of an image, its mask, and the category of each id in it."""


def _shown(path: Path, annotations: Iterable[Any], panoptic: list[_Segments] | None) -> dict[Any, set[Any]]:
    """The categories that each image shows; those of panoptic masks are added to ``panoptic`` too, if it is a list.

    Raises:
        InputError: They are more than a label file may hold.
    """
    shown: dict[Any, set[Any]] = defaultdict(set)
    kept, most = 0, budget().max_cells
    for entry in annotations:
        parts, categories = entry.get("segments_info", (entry,)), shown[_key(entry, "image_id")]
        kept -= len(categories)
        categories.update(_key(part, "category_id") for part in parts)
        kept += len(categories)
        if panoptic is not None and "segments_info" in entry:
            ids = {int(_key(part, "id")): part["category_id"] for part in parts}
            panoptic.append((entry["image_id"], str(entry["file_name"]), ids))
            kept += len(ids)
        if kept > most:
            raise InputError(
                f"{path} has more than {most:,} annotations of categories", hint="set another limit with --max-cells"
            )
        if len(shown) > budget().max_rows:
            check_table(path, len(shown), 2)
    return shown


def _panoptic(path: Path, entries: Iterable[_Segments], numbers: Mapping[Any, int]) -> list[Mask]:
    """Masks that hold ids of segments, in the folder of the document's name; 0 is no segment."""
    masks: list[Mask] = []
    for image, file, parts in entries:
        ids = {key: numbers.get(category, UNLABELLED) for key, category in parts.items()} | {0: UNLABELLED}
        masks.append((image, str(PurePosixPath(path.stem, file)), ids))
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


def _repeated(keys: Iterable[Any]) -> list[Any]:
    return [key for key, count in Counter(keys).items() if count > 1]


def _numbered(name: str, entries: Any, place: list[str]) -> Iterator[Any]:  # noqa: ANN401 - whatever the document holds
    """The entries of a member; ``place`` says which one is looked at."""
    place.clear()
    for number, entry in enumerate(entries, 1):
        place[:] = [f"entry {number:,} of {name}"]
        yield entry


def _key(entry: Any, name: str) -> int | str:  # noqa: ANN401 - whatever the document holds
    """What identifies an image, a category or a segment in an entry.

    Raises:
        TypeError: It is of another kind.
        ValueError: It is larger than any id.
    """
    value = entry[name]
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise TypeError(f"{name} is neither a whole number nor text")
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise ValueError(f"{name} is beyond 64 bits: {str(value)[:9]}..., {len(str(abs(value))):,} digits")
    return value


def _fault(error: Exception, place: str) -> str:
    place = place or "an entry"
    return f"{place} lacks {error}" if isinstance(error, KeyError) else f"{place} has another form ({error})"


COCO = LabelReader(LabelFormat.COCO, "COCO's annotations", read_coco, (".json",))
