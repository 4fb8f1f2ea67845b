"""Images of a folder: discovery, the match with a label table, and names in a release."""

import os
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from mtlue_cli.errors import InputError
from mtlue_cli.tasks.paths import path_fault
from mtlue_cli.tasks.spec import LabelTable
from mtlue_cli.tasks.wording import counted, quoted

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp"})
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


def match_labels(folder: Path, table: LabelTable, other_parts: Collection[str] = ()) -> FolderMatch:
    """Check that every row of ``table`` has its file inside ``folder``.

    Args:
        folder: Image folder.
        table: Its labels.
        other_parts: Files whose rows belong to another part of the data set: they are not counted as unlabelled.

    Raises:
        InputError: Lists every row whose file is missing or leaves the folder, also by a symbolic link.
    """
    found = find_images(folder)
    present = set(found)
    link_fault = outside_links(folder)
    missing: list[tuple[str, str]] = []
    faults: list[str] = []
    for position, name in enumerate(table.file_names):
        place = f"{table.places[position]}: " if table.places else ""
        problem = path_fault(name)
        if problem is None and name not in present and not _is_file(folder / name):
            missing.append((place, name))
            continue
        problem = problem or link_fault(name)
        if problem is not None:
            faults.append(place + problem)
    similar = _similar_names(found) if missing else lambda _: ""
    faults += [f"{place}no file {quoted(name)} in {folder}{similar(name)}" for place, name in missing]
    if faults:
        raise InputError(
            f"{len(faults)} of {counted(len(table), 'row')} without a file that may be used",
            faults,
            "put the files there or take their rows out of the label file; file names are relative to the image folder",
        )
    named = {*table.file_names, *other_parts}
    return FolderMatch(len(table), tuple(name for name in found if name not in named))


def outside_links(folder: Path) -> Callable[[str], str | None]:
    """A check of single files of ``folder``: why one is refused that a symbolic link leads out of it, else None."""
    root = os.path.realpath(folder)
    parents: dict[str, bool] = {}

    def is_inside(path: Path) -> bool:
        # Not Path.resolve, which raises where links lead round in a circle.
        return Path(os.path.realpath(path)).is_relative_to(root)

    def check(name: str) -> str | None:
        path = folder / name
        parent = os.path.dirname(name)
        if parent not in parents:
            parents[parent] = is_inside(path.parent)
        if parents[parent] and (not path.is_symlink() or is_inside(path)):
            return None
        return f"file name {quoted(name)} leaves the image folder by a symbolic link"

    return check


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name that this file system cannot hold, say
        return False


def _similar_names(found: Iterable[str]) -> Callable[[str], str]:
    """What to say of a name that is not there: a file that differs only in its case, accents or suffix."""
    folded = {_folded(name): name for name in found}
    stems = {os.path.splitext(name)[0]: name for name in found}

    def remark(name: str) -> str:
        twin = folded.get(_folded(name))
        if twin is not None:
            same_case = unicodedata.normalize("NFC", twin) == unicodedata.normalize("NFC", name)
            how = "how its accents are encoded (NFC or NFD)" if same_case else "upper and lower case"
            return f", but {quoted(twin)}, which differs in {how}"
        twin = stems.get(os.path.splitext(name)[0])
        return "" if twin is None else f", but {quoted(twin)}"

    return remark


def _folded(name: str) -> str:
    """Names that some file system takes for one are folded into one."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def released_names(sources: Sequence[str], suffix: str | None) -> dict[str, str]:
    """Where each source stands in a release: the same path and stem with the released suffix.

    Sources that would meet in one name, such as ``a.jpg`` and ``a.png``, keep their own suffix before the new one
    (``a.jpg.png``). Names that differ only in case or in the encoding of accents count as meeting: not every file
    system tells them apart.

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
            meeting[_folded(name)].append(source)
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
