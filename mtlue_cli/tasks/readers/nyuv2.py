"""NYUv2 as papers on learning several tasks share it: a folder of arrays for the images and one for each task.

Source: the preprocessed NYUv2 of Liu, Johns and Davison, "End-to-End Multi-Task Learning with Attention", CVPR 2019;
its layout, which later work has kept: ``image/0.npy``, ``label/0.npy``, ``depth/0.npy``, ``normal/0.npy``.
"""

from mtlue_cli.choices import LabelFormat, TaskKind
from mtlue_cli.errors import InputError
from mtlue_cli.tasks.declared import Declaration
from mtlue_cli.tasks.readers.base import CANONICAL_FILE_COLUMN, LabelReader, LabelSource, RawTable
from mtlue_cli.tasks.wording import quoted

IMAGES = "image"
FOLDERS = {
    "label": Declaration("segmentation", TaskKind.SEGMENTATION),
    "depth": Declaration("depth", TaskKind.DEPTH, scale=1.0),
    "normal": Declaration("normals", TaskKind.NORMALS),
}
"""What each folder beside that of the images holds: 13 classes (-1 where there is none), metres, unit vectors."""


def read_nyuv2(source: LabelSource) -> RawTable:
    """Read a row for each ``image/*.npy``; what has no file of the same name in a task's folder is unlabelled there.

    The layout may lie in folders below that of the images, as ``train/image`` and ``val/image`` do.

    Raises:
        InputError: There is no such image.
    """
    present = set(source.image_names)
    found = [(name, _with_folder(name, None)) for name in source.image_names]
    images = [name for name, inside in found if inside is not None]
    if not images:
        raise InputError(
            f"{source.path} does not hold {IMAGES}/*.npy",
            hint=f"give the folder that holds {IMAGES}/, {', '.join(f'{folder}/' for folder in FOLDERS)}",
        )
    columns = [[_with_folder(name, folder) for name in images] for folder in FOLDERS]
    cells = [[name if name in present else None for name in column] for column in columns]
    rows = tuple((name, *values) for name, values in zip(images, zip(*cells, strict=True), strict=True))
    return RawTable(
        (CANONICAL_FILE_COLUMN, *(declaration.column for declaration in FOLDERS.values())),
        rows,
        tuple(map(quoted, images)),
        file_column=CANONICAL_FILE_COLUMN,
        declarations=tuple(FOLDERS.values()),
    )


def _with_folder(name: str, folder: str | None) -> str | None:
    """Path of the map in ``folder`` that goes with an image; for None the image's own. None for what is no image."""
    parent, _, file = name.rpartition("/")
    above, sign, last = parent.rpartition("/")
    if last != IMAGES or not file.lower().endswith(".npy"):
        return None
    return f"{above}{sign}{folder or last}/{file}"


NYUV2 = LabelReader(LabelFormat.NYUV2, "NYUv2's folders of arrays", read_nyuv2, reads_names=True)
