"""NYUv2 as papers on learning several tasks share it: a folder of arrays for the images and one for each task.

Source: the preprocessed NYUv2 of Liu, Johns and Davison, "End-to-End Multi-Task Learning with Attention", CVPR 2019;
its layout, which later work has kept: ``image/0.npy``, ``label/0.npy``, ``depth/0.npy``, ``normal/0.npy``.
"""

import re
from collections.abc import Collection
from pathlib import PurePosixPath

from mtlue_cli.choices import LabelFormat, TaskKind
from mtlue_cli.errors import InputError
from mtlue_cli.tasks.declared import Declaration
from mtlue_cli.tasks.readers.base import LabelReader, LabelSource, RawTable, image_table
from mtlue_cli.tasks.wording import listed

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

    The layout may lie in folders below the image folder, as ``train/image`` and ``val/image`` do.

    Raises:
        InputError: There is no such image, or no folder of a task.
    """
    present = set(source.image_names)
    arrays = [path for name in source.image_names if (path := PurePosixPath(name)).suffix.lower() == ".npy"]
    images = [path for path in arrays if path.parent.name == IMAGES]
    named = ", ".join(f"{folder}/" for folder in FOLDERS)
    if not images:
        hint = f"give the folder that holds {IMAGES}/, {named}"
        raise InputError(f"{source.path} does not hold {IMAGES}/*.npy", hint=hint)
    others = {path.parent.name for path in arrays} - {IMAGES, ""}
    tasks = _tasks(others)
    if not tasks:
        hint = f"expected {named} or label_7/"
        raise InputError(f"{source.path} holds no arrays of a task beside {IMAGES}/", hint=hint)

    def in_folder(image: PurePosixPath, folder: str) -> str | None:
        name = str(image.parent.with_name(folder) / image.name)
        return name if name in present else None

    unknown = sorted(others - tasks.keys())
    return image_table(
        (declaration.column for declaration in tasks.values()),
        ((str(image), *(in_folder(image, folder) for folder in tasks)) for image in images),
        notes=(f"folders of arrays that are read as no task: {listed(unknown)}",) if unknown else (),
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


NYUV2 = LabelReader(LabelFormat.NYUV2, "NYUv2's folders of arrays", read_nyuv2, reads_names=True)
