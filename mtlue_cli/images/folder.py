"""Images of a folder: discovery, the match with a label table, and names in a release."""

import functools
import hashlib
import os
import posixpath
import stat
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
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

SUFFIXES = HEIC_SUFFIXES | {
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".bmp", ".tif", ".tiff", ".webp", ".gif", ".tga"),
    *(".ppm", ".pgm", ".pbm", ".pnm", ".avif", ".avifs", ".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx", ".jxl"),
    ARRAY_SUFFIX,
}
"""What counts as an image when a folder is searched, lower case."""

UNREAD_SUFFIXES = {
    *(".jxr", ".wdp", ".psd", ".xcf", ".exr", ".hdr", ".dcm", ".dicom", ".dds", ".pcx", ".qoi", ".sgi"),
    *(".ras", ".ico", ".icns", ".eps", ".svg", ".fits", ".djvu", ".dpx", ".cin", ".svs", ".ndpi", ".bpg", ".flif"),
}
"""Pictures of kinds that are not read, lower case."""

_SNIFFED = 50
"""Files of a suffix of which none is a photo, after which the others are not looked at."""
_NAMED = 3
"""Files that a note names."""


@dataclass(frozen=True)
class FolderMatch:
    """How a folder and its label table fit.

    Attributes:
        unlabelled: Images of the folder that no row names.
        unread: Photos that no row names of kinds that are not read.
        notes: What a user should know of the files that no row names, one per line.
    """

    unlabelled: tuple[str, ...]
    unread: tuple[str, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class FolderFiles:
    """What lies in a folder and in the folders below; hidden files and folders are left out.

    All names are relative POSIX paths, sorted. Links to folders are not followed, so a loop of links is no danger.

    Attributes:
        images: Files with the suffix of an image.
        others: All other files, and links to folders.
        links: Symbolic links, to files and to folders.
    """

    images: list[str]
    others: list[str]
    links: list[str]


def list_folder(folder: Path) -> FolderFiles:
    """List the files of ``folder``.

    Raises:
        InputError: ``folder`` is not a folder or cannot be read.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder")
    found = FolderFiles([], [], [])
    for name, entry in _below(folder, hidden=False):
        is_link = entry.is_symlink()
        if is_link:
            found.links.append(name)
        is_image = _suffix(name) in SUFFIXES and not (is_link and os.path.isdir(entry))
        (found.images if is_image else found.others).append(name)
    return FolderFiles(sorted(found.images), sorted(found.others), sorted(found.links))


def find_images(folder: Path) -> list[str]:
    """The images that :func:`list_folder` finds."""
    return list_folder(folder).images


def find_files_and_links(folder: Path) -> tuple[list[str], list[str]]:
    """Relative POSIX paths of all that is no folder below ``folder``, hidden or not; links apart, never followed.

    Raises:
        InputError: ``folder`` is not a folder or cannot be read.
    """
    files: list[str] = []
    links: list[str] = []
    for name, entry in _below(folder, hidden=True):
        (links if entry.is_symlink() else files).append(name)
    return sorted(files), sorted(links)


def _below(folder: Path, *, hidden: bool) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """All that is no folder below ``folder``, by its relative POSIX path; no link is followed.

    ``hidden`` says whether files and folders count whose names begin with a dot.
    """
    prefixes = [""]
    for prefix in prefixes:
        try:
            with os.scandir(folder / prefix) as entries:
                for entry in entries:
                    if entry.name.startswith(".") and not hidden:
                        continue
                    if entry.is_dir(follow_symlinks=False):
                        prefixes.append(f"{prefix}{entry.name}/")
                    else:
                        yield prefix + entry.name, entry
        except OSError as error:
            raise InputError(
                f"{error.filename} cannot be read: {error.strerror}", hint="make it readable, or move it elsewhere"
            ) from error


def may_be_photo(path: Path) -> bool:
    """Whether a file is one by its suffix or its first bytes."""
    suffix = path.suffix.lower()
    return suffix in SUFFIXES | UNREAD_SUFFIXES | RAW_SUFFIXES or is_photo(_start(path))


def match_labels(
    folder: Path,
    table: LabelTable,
    other_parts: Collection[str] = (),
    files: FolderFiles | None = None,
) -> FolderMatch:
    """Check that every row of ``table`` has its file, an ordinary one within ``folder``.

    Args:
        folder: Image folder.
        table: Its labels.
        other_parts: Files whose rows belong to another part of the data set: they are not counted as unlabelled.
        files: What :func:`list_folder` finds; None: search now.

    Raises:
        InputError: Lists every row whose file is missing, leaves the folder, also by a link, is a FIFO or the like, or
            of a kind that is not read.
    """
    files = list_folder(folder) if files is None else files
    fault_of = file_check(folder, files.images)
    faults: list[str] = []
    for position, name in enumerate(table.file_names):
        problem = fault_of(name)
        if problem is None and (reason := _unread(folder, name)) is not None:
            problem = f"file {quoted(name)} {reason[0]}"
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
    nameless = [name for name in files.images if name not in named]
    like_maps = _like_maps(table, maps, nameless, files.images) if maps else set()
    unread_by_kind = _unread_photos(folder, [*nameless, *(name for name in files.others if name not in named)])
    unread = {name for names in unread_by_kind.values() for name in names}
    notes = [
        f"{counted(len(names), 'photo')} not read and left out ({kind}): {_some(sorted(names))}"
        for kind, names in sorted(unread_by_kind.items())
    ]
    notes += _link_notes(folder, files.others, named)
    if like_maps:
        lie = "lies where the maps are and is" if len(like_maps) == 1 else "lie where the maps are and are"
        notes.append(f"{counted(len(like_maps), 'file')} that no row names {lie} left out: {_some(sorted(like_maps))}")
    unlabelled = tuple(name for name in nameless if name not in like_maps and name not in unread)
    return FolderMatch(unlabelled, tuple(sorted(unread)), tuple(notes))


def _like_maps(table: LabelTable, maps: Collection[str], nameless: Sequence[str], found: Sequence[str]) -> set[str]:
    """Those of the ``nameless`` images that must be maps: in a folder of maps alone, or named as those of other photos.

    ``maps`` are the maps of all rows, and ``found`` all images, as names of the image folder.
    """
    photo_folders = {posixpath.dirname(name) for name in table.file_names}
    map_folders = {posixpath.dirname(name) for name in maps} - photo_folders
    stems = {os.path.splitext(name)[0] for name in found}
    # 0.jpg has 0_mask.png beside it, so 3_mask.png beside 3.jpg is one too.
    ends = {_end_after_photo(name, stems) for name in maps} - {None}
    return {
        name for name in nameless if posixpath.dirname(name) in map_folders or _end_after_photo(name, stems) in ends
    }


def _end_after_photo(name: str, stems: Collection[str]) -> str | None:
    """What follows the name of another file in a name, such as ``_mask.png``; None if no file is called so."""
    stem = os.path.splitext(name)[0]
    for length in range(len(stem) - 1, len(posixpath.dirname(stem)), -1):
        if stem[:length] in stems:
            return name[length:] if any(map(str.isalpha, stem[length:])) else None
    return None


def _unread(folder: Path, name: str) -> tuple[str, str] | None:
    """Why a photo of a kind that is not read is refused, and what to do about it; None if it may be read."""
    suffix = _suffix(name)
    if suffix in RAW_SUFFIXES:
        return IS_RAW, f"RAW, {suffix}: develop to TIFF or PNG first"
    if suffix in HEIC_SUFFIXES and not reads_heic() and is_heic(_start(folder / name)):
        return NO_HEIC, "HEIC: pip install 'mtlue[heic]', or convert to PNG first"
    return None


def _unread_photos(folder: Path, names: Iterable[str]) -> dict[str, list[str]]:
    """Those of some files that are photos of kinds that are not read, by kind and what to do about it."""
    unread: dict[str, list[str]] = defaultdict(list)
    others: dict[str, list[str]] = defaultdict(list)
    for name in names:
        suffix, reason = _suffix(name), _unread(folder, name)
        if reason is not None:
            unread[reason[1]].append(name)
        elif suffix in UNREAD_SUFFIXES:
            unread[f"{suffix}: convert to PNG first"].append(name)
        elif suffix not in SUFFIXES:
            others[suffix].append(name)
    for suffix, of_suffix in others.items():
        if any(is_photo(_start(folder / name)) for name in of_suffix[:_SNIFFED]):
            kind = f"{suffix or 'no suffix'}: give the suffix of their format, such as .jpg"
            unread[kind] = [name for name in of_suffix if is_photo(_start(folder / name))]
    return unread


def _start(path: Path) -> bytes:
    """The first bytes of an ordinary file; nothing of any other."""
    try:
        with open_regular(path) as stream:
            return stream.read(START)
    except OSError:
        return b""


def _link_notes(folder: Path, others: Iterable[str], named: Collection[str]) -> list[str]:
    """That links to folders in which no row has its image are not followed, a line if there are such."""
    links = [name for name in others if os.path.isdir(os.path.join(folder, name))]
    if not links:
        return []
    used = {str(parent) for name in named for parent in PurePosixPath(name).parents}
    links = [name for name in links if name not in used]
    note = f"{counted(len(links), 'link')} to a folder not followed, what is in it is left out: {_some(links)}"
    return [note] if links else []


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
    """Name of each source in a release: the same path and stem with the released suffix; an array keeps its own.

    Sources that would have one name, such as ``a.jpg`` and ``a.png``, keep their own suffix before the new one
    (``a.jpg.png``). Names that differ only in case, Unicode form or ignored characters count as equal, also
    those of a file and a folder: not every file system tells them apart. Those still equal carry a digest of their
    source (``a.3f0c5d1e2b4a.png``).

    Args:
        sources: Distinct relative POSIX paths.
        suffix: Released suffix with its dot; None keeps every name as it is.
        taken: Names of the release that no image may have: its maps, which stand as they are.

    Returns:
        Source to released path; independent of the order of ``sources``.
    """
    last = 1 if suffix is None else 2
    parents = map(PurePosixPath, {name.rpartition("/")[0] for name in (*sources, *taken)})
    folders = {str(folder) for parent in parents for folder in (parent, *parent.parents)}
    reserved = set(map(folded, folders.union(taken)))
    turn = dict.fromkeys(sources, 0)
    while True:
        names = {source: _name_in_turn(source, suffix, turn[source]) for source in sources}
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


def refuse_nesting(images: Path, out: Path) -> None:
    """Refuse an output folder that is the input, lies inside it, or holds it.

    Raises:
        InputError: They overlap.
    """
    source, target = images.resolve(), out.resolve()
    if source == target or source in target.parents or target in source.parents:
        raise InputError(
            f"the output {out} and the input {images} overlap: neither may contain the other",
            hint="give an output folder outside the input with --out",
        )


def refuse_secret_inside(secret: Path | None, *folders: Path, what: str = "signing key") -> None:
    """Refuse a file of a secret among images or in a release, which are there to be handed on.

    Raises:
        InputError: It lies in one of ``folders``.
    """
    for folder in folders:
        if secret is not None and folder.resolve() in secret.resolve().parents:
            raise InputError(
                f"the {what} {secret} lies in {folder}, and would be handed on with it",
                hint="keep it elsewhere, such as in ~/.config/mtlue",
            )


def _suffix(name: str) -> str:
    """Suffix of a file, lower case."""
    return os.path.splitext(name)[1].lower()


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
