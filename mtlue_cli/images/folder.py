"""Images of a folder: discovery, the match with a label table, and names in a release."""

import os
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from mtlue_cli.errors import InputError
from mtlue_cli.tasks.labels import path_fault
from mtlue_cli.tasks.spec import LabelTable

SUFFIXES = frozenset(
    {
        *(".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".bmp", ".tif", ".tiff", ".webp", ".gif"),
        *(".ppm", ".pgm", ".pbm", ".pnm", ".avif", ".avifs"),
    }
)
"""What counts as an image when a folder is searched, lower case."""


@dataclass(frozen=True)
class FolderMatch:
    """How a folder and its label table fit.

    Attributes:
        labelled: Number of rows; each has its file.
        unlabelled: Images of the folder that no row names.
    """

    labelled: int
    unlabelled: tuple[str, ...]


def find_images(folder: Path) -> list[str]:
    """Relative POSIX paths of all images below ``folder``, sorted; hidden files and folders are left out.

    Raises:
        InputError: ``folder`` is no folder or cannot be read.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder")
    found: list[str] = []

    def refuse(error: OSError) -> None:
        raise InputError(f"{error.filename} cannot be read: {error.strerror}") from error

    for parent, folders, files in os.walk(folder, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        inside = Path(parent).relative_to(folder).as_posix()
        prefix = "" if inside == "." else f"{inside}/"
        found += [
            prefix + name
            for name in files
            if not name.startswith(".") and os.path.splitext(name)[1].lower() in SUFFIXES
        ]
    return sorted(found)


def match_labels(folder: Path, table: LabelTable) -> FolderMatch:
    """Check that every row of ``table`` has its file.

    Raises:
        InputError: Lists every row whose file is missing or leaves the folder.
    """
    found = find_images(folder)
    present = set(found)
    faults: list[str] = []
    for name in table.file_names:
        problem = path_fault(name)
        if problem is not None:
            faults.append(problem)
        elif name not in present and not (folder / name).is_file():
            faults.append(f"{name}: no such file in {folder}")
    if faults:
        raise InputError(
            f"{len(faults)} of {len(table)} rows have no file",
            faults,
            "put the files there or take their rows out of the label file",
        )
    named = set(table.file_names)
    return FolderMatch(len(table), tuple(name for name in found if name not in named))


def released_names(sources: Sequence[str], suffix: str | None) -> dict[str, str]:
    """Where each source stands in a release: the same path and stem with the released suffix.

    Sources that would meet in one name, such as ``a.jpg`` and ``a.png``, keep their own suffix before the new one
    (``a.jpg.png``). Names that differ only in case count as meeting: not every file system tells them apart.

    Args:
        sources: Distinct relative POSIX paths.
        suffix: Released suffix with its dot; None keeps every name as it is.

    Returns:
        Source to released path; independent of the order of ``sources``.
    """
    if suffix is None:
        return {source: source for source in sources}
    names = {source: str(PurePosixPath(source).with_suffix(suffix)) for source in sources}
    while True:
        meeting: dict[str, list[str]] = defaultdict(list)
        for source, name in names.items():
            meeting[name.casefold()].append(source)
        longer = {
            source: source + suffix
            for together in meeting.values()
            if len(together) > 1
            for source in together
            if names[source] != source + suffix
        }
        if not longer:
            return names
        names.update(longer)


def refuse_nesting(images: Path, out: Path) -> None:
    """Refuse an output folder that is the input, lies inside it, or holds it.

    Raises:
        InputError: It is so.
    """
    source, target = images.resolve(), out.resolve()
    if source == target or source in target.parents or target in source.parents:
        raise InputError(
            f"the output {out} and the input {images} lie in each other",
            hint="give an output folder beside the input with --out",
        )
