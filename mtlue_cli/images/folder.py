"""Images of a folder: discovery, the match with a label table, and names in a release."""

import functools
import hashlib
import os
import posixpath
import stat
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from mtlue_cli.errors import InputError
from mtlue_cli.files import kind_of, open_regular
from mtlue_cli.images.decode import (
    HEIC_SUFFIXES,
    IS_RAW,
    NO_HEIC,
    RAW_SUFFIXES,
    START,
    is_heic,
    is_photo,
    reads_heic,
)
from mtlue_cli.tasks.paths import folded, names_below, path_fault
from mtlue_cli.tasks.spec import LabelTable
from mtlue_cli.tasks.wording import counted, quoted

ARRAY_SUFFIX = ".npy"

SUFFIXES = frozenset(
    {
        *(".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".bmp", ".tif", ".tiff", ".webp", ".gif"),
        *(".ppm", ".pgm", ".pbm", ".pnm", ".avif", ".avifs", ".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx", ".tga"),
        *HEIC_SUFFIXES,
        ARRAY_SUFFIX,
    }
)
"""What counts as an image when a folder is searched, lower case."""

UNREAD_SUFFIXES = (
    frozenset(
        {
            *(
                ".jxl",
                ".jxr",
                ".wdp",
                ".psd",
                ".xcf",
                ".exr",
                ".hdr",
                ".dcm",
                ".dicom",
                ".dds",
                ".pcx",
                ".qoi",
                ".sgi",
                ".ras",
            ),
            *(
                ".ico",
                ".icns",
                ".eps",
                ".svg",
                ".fits",
                ".djvu",
                ".dpx",
                ".cin",
                ".svs",
                ".ndpi",
                ".bpg",
                ".flif",
                ".hif",
            ),
        }
    )
    - SUFFIXES
)
"""Pictures of other kinds, lower case."""

_SNIFFED = 50
"""Files of a suffix of which none is a photo, after which the others are not looked at."""
_NAMED = 3
"""Files that a note names."""


@dataclass(frozen=True)
class FolderMatch:
    """How a folder and its label table fit.

    Attributes:
        labelled: Number of rows; each has its file.
        unlabelled: Images of the folder that no row names.
        unread: Photos that no row names of kinds that are not read.
        notes: What a user should know of the files that no row names, one per line.
    """

    labelled: int
    unlabelled: tuple[str, ...]
    unread: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def find_images(folder: Path) -> list[str]:
    """Relative POSIX paths of all images below ``folder``, sorted; hidden files and folders are left out.

    Links to folders are not followed, so no loop of links can trap the search.

    Raises:
        InputError: ``folder`` is not a folder or cannot be read.
    """
    return sorted(name for prefix, _, files in _walk(folder) for name in _images(prefix, files))


def find_images_and_others(folder: Path) -> tuple[list[str], list[str]]:
    """What :func:`find_images` finds, and all other files and links to folders below ``folder``, likewise.

    Hidden ones are left out.

    Raises:
        InputError: ``folder`` is not a folder or cannot be read.
    """
    images: list[str] = []
    others: list[str] = []
    for prefix, folders, files in _walk(folder):
        found = _images(prefix, files)
        images += found
        others += {prefix + name for name in files if not name.startswith(".")}.difference(found)
        others += [prefix + name for name in folders if os.path.islink(os.path.join(folder, prefix + name))]
    return sorted(images), sorted(others)


def find_files_and_links(folder: Path) -> tuple[list[str], list[str]]:
    """Relative POSIX paths of all that is no folder below ``folder``, hidden or not; links apart, never followed.

    Raises:
        InputError: ``folder`` is not a folder or cannot be read.
    """
    files: list[str] = []
    links: list[str] = []
    left = [""]
    while left:
        prefix = left.pop()
        try:
            with os.scandir(folder / prefix) as entries:
                for entry in entries:
                    name = prefix + entry.name
                    if entry.is_symlink():
                        links.append(name)
                    elif entry.is_dir(follow_symlinks=False):
                        left.append(f"{name}/")
                    else:
                        files.append(name)
        except OSError as error:
            raise InputError(
                f"{error.filename} cannot be read: {error.strerror}", hint="make it readable, or move it elsewhere"
            ) from error
    return sorted(files), sorted(links)


def may_be_photo(path: Path) -> bool:
    """Whether a file is one by its suffix or its first bytes."""
    suffix = path.suffix.lower()
    return suffix in SUFFIXES | UNREAD_SUFFIXES | RAW_SUFFIXES or is_photo(_start(path))


def match_labels(
    folder: Path,
    table: LabelTable,
    other_parts: Collection[str] = (),
    files: tuple[Sequence[str], Sequence[str]] | None = None,
) -> FolderMatch:
    """Check that every row of ``table`` has its file, an ordinary one within ``folder``.

    Args:
        folder: Image folder.
        table: Its labels.
        other_parts: Files whose rows belong to another part of the data set: they are not counted as unlabelled.
        files: What :func:`find_images_and_others` finds; None: search now.

    Raises:
        InputError: Lists every row whose file is missing, leaves the folder, also by a link, is a FIFO or the like, or
            of a kind that is not read.
    """
    found, others = find_images_and_others(folder) if files is None else files
    fault_of = file_check(folder, found)
    faults: list[str] = []
    for position, name in enumerate(table.file_names):
        problem = fault_of(name) or _unread_fault(folder, name)
        if problem is not None:
            faults.append(f"{table.places[position]}: {problem}" if table.places else problem)
    if faults:
        raise InputError(
            f"{len(faults)} of {counted(len(table), 'row')} name no file that can be used",
            faults,
            "add these files, or remove their rows from the label file; file names are relative to the image folder",
        )
    maps = names_below(folder, table.all_map_files, table.maps_folder)
    named = {*table.file_names, *other_parts, *maps}
    nameless = [name for name in found if name not in named]
    like_maps = _like_maps(table, maps, nameless, found) if maps else set()
    unread = _unread_photos(folder, [name for name in (*nameless, *others) if name not in named])
    notes = [*_unread_notes(unread), *_link_notes(folder, others, named)]
    if like_maps:
        one = len(like_maps) == 1
        notes.append(
            f"{counted(len(like_maps), 'file')} that no row names {'lies' if one else 'lie'} where the maps are and "
            f"{'is' if one else 'are'} left out: {_some(sorted(like_maps))}"
        )
    unlabelled = tuple(name for name in nameless if name not in like_maps and name not in unread)
    return FolderMatch(len(table), unlabelled, tuple(unread), tuple(notes))


def _like_maps(table: LabelTable, maps: Collection[str], nameless: Sequence[str], found: Sequence[str]) -> set[str]:
    """Files that no row names and that must be maps: in a folder of maps alone, or named as those of other photos.

    Args:
        table: The labels.
        maps: The maps of all rows, as names of the image folder.
        nameless: Images of the folder that no row names.
        found: All its images.
    """
    photo_folders = {posixpath.dirname(name) for name in table.file_names}
    map_folders = {posixpath.dirname(name) for name in maps} - photo_folders
    stems = {os.path.splitext(name)[0] for name in found}
    # 0.jpg has 0_mask.png beside it, so 3_mask.png beside 3.jpg is one too.
    ends = {end for name in maps if (end := _end_after_photo(name, stems)) is not None}

    def is_map(name: str) -> bool:
        return posixpath.dirname(name) in map_folders or _end_after_photo(name, stems) in ends

    return {name for name in nameless if is_map(name)}


def _end_after_photo(name: str, stems: Collection[str]) -> str | None:
    """What follows the name of another file in a name, such as ``_mask.png``; None if no file is called so."""
    stem = os.path.splitext(name)[0]
    for length in range(len(stem) - 1, len(posixpath.dirname(stem)), -1):
        if stem[:length] in stems:
            return name[length:] if any(map(str.isalpha, stem[length:])) else None
    return None


def _unread_fault(folder: Path, name: str) -> str | None:
    """Why a file that a row names is of a kind that is not read; None if it may be read."""
    suffix = os.path.splitext(name)[1].lower()
    if suffix in RAW_SUFFIXES:
        return f"file {quoted(name)} {IS_RAW}"
    if suffix in HEIC_SUFFIXES and not reads_heic() and is_heic(_start(folder / name)):
        return f"file {quoted(name)} {NO_HEIC}"
    return None


def _unread_photos(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """Those of some files that are photos and not read, with what to do about them."""
    unread: dict[str, str] = {}
    others: dict[str, list[str]] = defaultdict(list)
    for name in names:
        suffix = os.path.splitext(name)[1].lower()
        if suffix in RAW_SUFFIXES:
            unread[name] = f"RAW, {suffix}: develop to TIFF or PNG first"
        elif suffix in UNREAD_SUFFIXES:
            unread[name] = f"{suffix}: convert to PNG first"
        elif suffix not in SUFFIXES:
            others[suffix].append(name)
        elif suffix in HEIC_SUFFIXES and not reads_heic() and is_heic(_start(folder / name)):
            unread[name] = "HEIC: pip install 'mtlue[heic]', or convert to PNG first"
    for suffix, names in others.items():
        what = f"{suffix or 'no suffix'}: give the suffix of their format, such as .jpg"
        photos = 0
        for position, name in enumerate(names):
            if position >= _SNIFFED and not photos:
                break
            if is_photo(_start(folder / name)):
                unread[name], photos = what, photos + 1
    return unread


def _start(path: Path) -> bytes:
    """The first bytes of an ordinary file; nothing of any other."""
    try:
        with open_regular(path) as stream:
            return stream.read(START)
    except OSError:
        return b""


def _unread_notes(unread: Mapping[str, str]) -> list[str]:
    by_kind: dict[str, list[str]] = defaultdict(list)
    for name, kind in unread.items():
        by_kind[kind].append(name)
    return [
        f"{counted(len(names), 'photo')} not read and left out ({kind}): {_some(sorted(names))}"
        for kind, names in sorted(by_kind.items())
    ]


def _link_notes(folder: Path, others: Iterable[str], named: Collection[str]) -> list[str]:
    """That links to folders in which no row has its image are not followed, a line if there are such."""
    used = {str(parent) for name in named for parent in PurePosixPath(name).parents}
    links = [name for name in others if name not in used and os.path.isdir(os.path.join(folder, name))]
    if not links:
        return []
    return [f"{counted(len(links), 'link')} to a folder not followed, what is in it is left out: {_some(links)}"]


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_NAMED]) + (", ..." if len(names) > _NAMED else "")


def file_check(folder: Path, found: Collection[str], called: str = "image folder") -> Callable[[str], str | None]:
    """A check of single names: why one is no ordinary file within ``folder``; None if it is.

    Args:
        folder: Image folder, or that of the label file.
        found: Names that :func:`find_images` has found in it.
        called: What messages call it.
    """
    root = folder.resolve()
    present = frozenset(found)

    @functools.cache
    def similar() -> Callable[[str], str]:
        return _similar_names(found)

    def fault_of(name: str) -> str | None:
        problem = path_fault(name, called)
        if problem is not None:
            return problem
        path = os.path.join(folder, name)
        try:
            status = os.lstat(path)
            if stat.S_ISLNK(status.st_mode) or name not in present:
                real = Path(os.path.realpath(path, strict=True))
                if root not in real.parents:
                    return f"file name {quoted(name)} leaves the {called} by a symbolic link"
                status = os.stat(real)
        except (FileNotFoundError, NotADirectoryError):
            if os.path.islink(path):
                return f"file {quoted(name)} is a broken symbolic link"
            return f"no file {quoted(name)} in {folder}{similar()(name)}"
        except OSError as error:
            return f"file {quoted(name)} cannot be read: {error.strerror}"
        kind = kind_of(status.st_mode)
        return None if kind is None else f"file {quoted(name)} is {kind}, expected a file"

    return fault_of


def released_names(sources: Sequence[str], suffix: str | None, taken: Collection[str] = ()) -> dict[str, str]:
    """Where each source stands in a release: the same path and stem with the released suffix; an array keeps its own.

    Sources that would meet in one name, such as ``a.jpg`` and ``a.png``, keep their own suffix before the new one
    (``a.jpg.png``). Names that differ only in case, Unicode form or ignored characters count as meeting, and so does a
    file with a folder: not every file system tells them apart. What still meets carries a digest of its source
    (``a.3f0c5d1e2b4a.png``).

    Args:
        sources: Distinct relative POSIX paths.
        suffix: Released suffix with its dot; None keeps every name as it is.
        taken: Names of the release that no image may have: its maps, which stand as they are.

    Returns:
        Source to released path; independent of the order of ``sources``.
    """
    last = 1 if suffix is None else 2
    turn = dict.fromkeys(sources, 0)
    names = {source: _name_in_turn(source, suffix, 0) for source in sources}
    parents = {PurePosixPath(parent) for parent in {name.rpartition("/")[0] for name in (*sources, *taken)}}
    reserved = {folded(str(folder)) for parent in parents for folder in (parent, *parent.parents)}
    reserved.update(map(folded, taken))
    while True:
        meeting: dict[str, list[str]] = defaultdict(list)
        for source, name in names.items():
            meeting[folded(name)].append(source)
        renamed: list[str] = []
        for key, together in meeting.items():
            if len(together) > 1 or key in reserved:
                # Only sources that still have their earliest name are renamed: one that was renamed keeps its name.
                earliest = min(turn[source] for source in together)
                renamed += [source for source in together if turn[source] == earliest < last]
        if not renamed:
            return names
        for source in renamed:
            turn[source] += 1
            names[source] = _name_in_turn(source, suffix, turn[source])


def refuse_nesting(images: Path, out: Path) -> None:
    """Refuse an output folder that is the input, lies inside it, or holds it.

    Raises:
        InputError: It is so.
    """
    source, target = images.resolve(), out.resolve()
    if source == target or source in target.parents or target in source.parents:
        raise InputError(
            f"the output {out} and the input {images} overlap: neither may contain the other",
            hint="give an output folder outside the input with --out",
        )


def _images(prefix: str, files: Iterable[str]) -> list[str]:
    """The images among the files of one folder."""
    return [
        prefix + name for name in files if not name.startswith(".") and os.path.splitext(name)[1].lower() in SUFFIXES
    ]


def _walk(folder: Path) -> Iterator[tuple[str, list[str], list[str]]]:
    """Prefix, folders and files of ``folder`` and of every folder below that is neither hidden nor a link."""
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder")

    def refuse(error: OSError) -> None:
        raise InputError(
            f"{error.filename} cannot be read: {error.strerror}", hint="make it readable, or move it out of the folder"
        ) from error

    for parent, folders, files in os.walk(folder, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        inside = Path(parent).relative_to(folder).as_posix()
        yield "" if inside == "." else f"{inside}/", folders, files


def _similar_names(found: Iterable[str]) -> Callable[[str], str]:
    """What to say of a name that is not there: a file that differs only in its case, accents or suffix."""
    twins = {folded(name): name for name in found}
    stems = {os.path.splitext(name)[0]: name for name in found}

    def remark(name: str) -> str:
        twin = twins.get(folded(name))
        if twin is not None:
            same_case = unicodedata.normalize("NFC", twin) == unicodedata.normalize("NFC", name)
            how = "how its accents are encoded (NFC or NFD)" if same_case else "upper and lower case"
            return f", but {quoted(twin)}, which differs in {how}"
        twin = stems.get(os.path.splitext(name)[0])
        return "" if twin is None else f", but {quoted(twin)}"

    return remark


def _name_in_turn(source: str, suffix: str | None, turn: int) -> str:
    """A source's name after ``turn`` collisions: as released, with its own suffix kept, then with its digest."""
    path = PurePosixPath(source)
    if path.suffix.lower() == ARRAY_SUFFIX:
        suffix = None
    if turn == 0:
        return source if suffix is None else str(path.with_suffix(suffix))
    if turn == 1 and suffix is not None:
        return source + suffix
    digest = hashlib.sha256(os.fsencode(source)).hexdigest()[:12]
    return str(path.with_name(f"{path.stem}.{digest}{path.suffix if suffix is None else suffix}"))
