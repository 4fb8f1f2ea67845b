"""ImageFolder: the folder of an image is its class, as ``torchvision.datasets.ImageFolder`` has it.

Source: the documentation of torchvision's and of Hugging Face ``datasets``' ImageFolder.
"""

from collections import Counter
from collections.abc import Sequence

from mtlue_cli.choices import LabelFormat
from mtlue_cli.errors import InputError
from mtlue_cli.tasks.readers.base import Cell, LabelReader, LabelSource, RawTable, image_table
from mtlue_cli.tasks.wording import counted, listed, quoted

COLUMN = "label"
"""Name of the task where the user gives none, as ``datasets`` calls it."""

SKIPPED = "-"
"""Stands for a level of folders that is no task."""

SPLITS = frozenset({"train", "training", "val", "valid", "validation", "dev", "test", "testing", "eval"})
NO_CLASSES = frozenset(
    {"images", "image", "img", "imgs", "photos", "pictures", "jpegimages", "leftimg8bit", "originals", "raw", "data"}
    | {"masks", "mask", "labels", "label", "annotations", "annotation", "segmentation", "gt", "gtfine", "gtcoarse"}
    | {"depth", "depths", "normal", "normals", "targets"}
)
"""Names of folders, lower case, that are unlikely to be classes."""

_SHOWN = 8


def read_image_folder(source: LabelSource) -> RawTable:
    """Read a column for each named level of folders, from above; without names one column for the single level.

    An image in fewer folders than levels is unlabelled in those that it lacks; one in none has no row.

    Raises:
        InputError: No level is named, and images lie in several.
    """
    folders = [name.split("/")[:-1] for name in source.image_names]
    depths = sorted({len(parts) for parts in folders if parts})
    if not source.levels and depths not in ([], [1]):
        deep = " to ".join(map(str, dict.fromkeys((depths[0], depths[-1]))))
        raise InputError(f"{source.path}: images lie {deep} folders deep", hint=levels_hint(source.image_names))
    levels = source.levels or (COLUMN,)
    used = [(at, name) for at, name in enumerate(levels) if name != SKIPPED]
    if not used:
        raise InputError(f"--levels {','.join(levels)} names no level")
    blank = sorted({part for parts in folders for part in parts[: len(levels)] if part != part.strip()})
    if blank:
        fault = f"{source.path}: names of folders begin or end with a blank: {listed(blank)}"
        raise InputError(fault, hint="rename them")
    rows: list[tuple[Cell, ...]] = [
        (name, *(parts[at] if at < len(parts) else None for at, _ in used))
        for name, parts in zip(source.image_names, folders, strict=True)
        if parts
    ]
    notes = [_note(level, [row[1 + at] for row in rows]) for at, (_, level) in enumerate(used)]
    outside = len(folders) - len(rows)
    if outside:
        notes.append(f"{counted(outside, 'image')} of {source.path} in no folder: without a label")
    return image_table((name for _, name in used), rows, notes=tuple(notes))


def doubt(names: Sequence[str]) -> tuple[str, str] | None:
    """Why folders of images may be no classes, and what to do.

    None if there is no doubt: every image is in one folder, of which there are several, named as classes are.
    """
    above = sorted({name.split("/")[0] for name in names if "/" in name})
    named = "name a label file with --labels"
    if not above:
        return "no image lies in a folder", named
    odd = [name for name in above if name.lower() in NO_CLASSES]
    if odd:
        return f"folders of this name are unlikely to be classes: {listed(odd)}", named
    if {name.lower() for name in above} <= SPLITS:
        fix = f"protect one part after the other, such as the folder {above[0]}"
        return f"{listed(above)} are parts of a split, not classes", fix
    alone = sum("/" not in name for name in names)
    if alone:
        fix = "--label-format imagefolder takes the folders as classes and leaves these images without a label"
        return f"{counted(alone, 'image')} beside the folders, in none", fix
    if any(name.count("/") != 1 for name in names):
        return "images lie in folders within folders", levels_hint(names)
    return ("all images lie in one folder", named) if len(above) < 2 else None


def levels_hint(names: Sequence[str]) -> str:
    """The options that say what each level of folders is."""
    most = max(name.count("/") for name in names)
    shown = max(names, key=lambda name: (name.count("/"), name))
    columns = {2: "country,city"}.get(most, ",".join(f"level{at}" for at in range(1, most + 1)))
    return (
        f"say what the folders mean, as in {quoted(shown)}: --label-format imagefolder --levels {columns}; "
        f"{SKIPPED} skips a level, and --levels {COLUMN} takes the first one alone"
    )


def _note(level: str, cells: Sequence[Cell]) -> str:
    counts = Counter(cell for cell in cells if cell is not None)
    shown = ", ".join(f"{name} ({count})" for name, count in sorted(counts.items())[:_SHOWN])
    more = f" and {len(counts) - _SHOWN} more" if len(counts) > _SHOWN else ""
    return f"column {quoted(level)} is the folder of each image: {shown}{more}"


IMAGE_FOLDER = LabelReader(
    LabelFormat.IMAGEFOLDER,
    "a folder per class",
    read_image_folder,
    reads_names=True,
    fits=lambda names: doubt(names) is None,
)
