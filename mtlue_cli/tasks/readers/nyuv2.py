"""NYUv2 as papers on learning several tasks share it: a folder of arrays for the images and one for each task.

Source: the preprocessed NYUv2 of Liu, Johns and Davison, "End-to-End Multi-Task Learning with Attention", CVPR 2019;
its layout, which later work has kept: ``image/0.npy``, ``label/0.npy``, ``depth/0.npy``, ``normal/0.npy``.
"""

import re
from collections.abc import Collection

from mtlue_cli.choices import LabelFormat, TaskKind
from mtlue_cli.errors import InputError
from mtlue_cli.tasks.declared import Declaration
from mtlue_cli.tasks.readers.base import CANONICAL_FILE_COLUMN, LabelReader, LabelSource, RawTable
from mtlue_cli.tasks.wording import listed, quoted

IMAGES = "image"
FOLDERS = {
    "label": Declaration("segmentation", TaskKind.SEGMENTATION),
    "depth": Declaration("depth", TaskKind.DEPTH, scale=1.0),
    "normal": Declaration("normals", TaskKind.NORMALS),
}
"""What each folder beside that of the images holds: 13 classes (-1 where there is none), metres, unit vectors."""

_LABELS = re.compile(r"label[_-](\w+)")
"""Folders of segmentation by the number of its classes, as the same papers share Cityscapes: ``label_7``."""


def read_nyuv2(source: LabelSource) -> RawTable:
    """Read a row for each ``image/*.npy``; what has no file of the same name in a task's folder is unlabelled there.

    The layout may lie in folders below that of the images, as ``train/image`` and ``val/image`` do. A task whose folder
    is not there is no column.

    Raises:
        InputError: There is no such image, or no folder of a task.
    """
    present = set(source.image_names)
    found = [(name, _with_folder(name, None)) for name in source.image_names]
    images = [name for name, inside in found if inside is not None]
    named = ", ".join(f"{folder}/" for folder in FOLDERS)
    if not images:
        raise InputError(
            f"{source.path} does not hold {IMAGES}/*.npy", hint=f"give the folder that holds {IMAGES}/, {named}"
        )
    others = {name.split("/")[-2] for name in present if name.count("/") and name.lower().endswith(".npy")} - {IMAGES}
    tasks = _tasks(others)
    if not tasks:
        raise InputError(
            f"{source.path} holds no arrays of a task beside {IMAGES}/", hint=f"expected {named} or label_7/"
        )
    cells = [[name if name in present else None for name in (_with_folder(image, folder) for image in images)]
             for folder in tasks]  # fmt: skip
    rows = tuple((name, *values) for name, values in zip(images, zip(*cells, strict=True), strict=True))
    unknown = sorted(others - tasks.keys())
    return RawTable(
        (CANONICAL_FILE_COLUMN, *(declaration.column for declaration in tasks.values())),
        rows,
        tuple(map(quoted, images)),
        notes=(f"folders of arrays that are read as no task: {listed(unknown)}",) if unknown else (),
        file_column=CANONICAL_FILE_COLUMN,
        declarations=tuple(tasks.values()),
    )


def _tasks(folders: Collection[str]) -> dict[str, Declaration]:
    """The task of each folder that is one, segmentation first."""
    found = {"label": FOLDERS["label"]} if "label" in folders else {}
    numbered = {folder: match[1] for folder in sorted(folders) if (match := _LABELS.fullmatch(folder))}
    alone = not found and len(numbered) == 1
    for folder, number in numbered.items():
        name = FOLDERS["label"].column if alone else f"{FOLDERS['label'].column}_{number}"
        found[folder] = Declaration(name, TaskKind.SEGMENTATION)
    return found | {folder: task for folder, task in FOLDERS.items() if folder in folders and folder != "label"}


def _with_folder(name: str, folder: str | None) -> str | None:
    """Path of the map in ``folder`` that goes with an image; for None the image's own. None for what is no image."""
    parent, _, file = name.rpartition("/")
    above, sign, last = parent.rpartition("/")
    if last != IMAGES or not file.lower().endswith(".npy"):
        return None
    return f"{above}{sign}{folder or last}/{file}"


NYUV2 = LabelReader(LabelFormat.NYUV2, "NYUv2's folders of arrays", read_nyuv2, reads_names=True)
