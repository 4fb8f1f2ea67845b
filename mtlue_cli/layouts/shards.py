"""Data sets whose images lie inside shards: Parquet files with an image column, tar files of WebDataset.

A shard is shown to the rest of the program as a folder of images, ``SHARD/ROW.png``, and rows of a label table.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mtlue_cli.errors import InputError, MtlueError
from mtlue_cli.files import file_digest, held, put_in_place, temporary_beside
from mtlue_cli.images.folder import FolderFiles, list_folder
from mtlue_cli.tasks.paths import json_text
from mtlue_cli.tasks.wording import counted, listed

KINDS = (
    (b"\xff\xd8\xff", ".jpg"),
    (b"\x89PNG\r\n\x1a\n", ".png"),
    (b"RIFF", ".webp"),
    (b"GIF8", ".gif"),
    (b"BM", ".bmp"),
    (b"II*\x00", ".tif"),
    (b"MM\x00*", ".tif"),
)
"""How files of images begin, and the suffix of each kind."""

FILE_COLUMN = "image_file"
"""Column of the label table that names the image of a row."""

DIGITS = 8
"""Of a row's number in the name of its image."""


@dataclass(frozen=True)
class ShardRow:
    """A row of a shard.

    Attributes:
        image: Content of its image file; None if it has none.
        labels: Its other columns, as far as they hold text, numbers or truth values.
        others: Names of all further columns or members.
        is_sample: Whether it counts: without an image it is then left out of the release with a reason.
    """

    image: bytes | None
    labels: Mapping[str, Any]
    others: tuple[str, ...]
    is_sample: bool = True


@dataclass(frozen=True)
class ShardKind:
    """One kind of shard.

    Attributes:
        title: What it is, in a few words.
        suffix: Of its files.
        holds_images: Whether a file is such a shard.
        read: Its rows in order.

            Raises: InputError: It is damaged, or is not clear.
        write: Writes a shard to the first path, like that of the second path, in which the rows have the images that
            the last argument gives; a row for which it gives None is left out.
        remark: What a user should know of columns or members that are no labels.
    """

    title: str
    suffix: str
    holds_images: Callable[[Path], bool]
    read: Callable[[Path], Iterator[ShardRow]]
    write: Callable[[Path, Path, Callable[[int], bytes | None]], None]
    remark: str


@dataclass(frozen=True)
class Shards:
    """A data set in shards, whose names are relative POSIX, sorted.

    ``digests`` are the SHA-256 of the shards when they were unpacked.
    """

    folder: Path
    kind: ShardKind
    names: tuple[str, ...]
    digests: dict[str, str] = field(default_factory=dict, compare=False, repr=False)

    @property
    def others(self) -> list[str]:
        """Files of the folder that are no shards, relative POSIX, sorted; hidden ones are left out."""
        names = list_folder(self.folder).others
        return [name for name in names if name not in self.names and (self.folder / name).is_file()]

    def unpack(self, images: Path, labels: Path, on_shard: Callable[[], None] = lambda: None) -> list[str]:
        """Write each image as a file, and all other columns as JSON Lines; a row without an image gives an empty file.

        Returns:
            What a user should know of the shards, one per line.

        Raises:
            InputError: A shard is damaged, or is not clear, or no row has an image.
        """
        rows = empty = 0
        others: set[str] = set()
        images.mkdir(parents=True, exist_ok=True)
        with labels.open("w", encoding="utf-8") as table:
            for name in self.names:
                (images / stem_of(name)).mkdir(parents=True, exist_ok=True)
                with held(self.folder / name):
                    self.digests[name] = file_digest(self.folder / name)
                    for number, row in enumerate(self.kind.read(self.folder / name)):
                        if FILE_COLUMN in row.labels:
                            raise InputError(f"{self.folder / name} has a column {FILE_COLUMN}", hint="rename it")
                        others.update(row.others)
                        if not row.is_sample:
                            continue
                        rows, empty = rows + 1, empty + (not row.image)
                        image = row.image or b""
                        file = f"{stem_of(name)}/{number:0{DIGITS}d}{suffix_for('', image) or '.png'}"
                        (images / file).write_bytes(image)
                        table.write(json_text({FILE_COLUMN: file, **row.labels}) + "\n")
                on_shard()
        if empty == rows:
            raise InputError(
                f"{self.folder}: no row of its shards holds the bytes of an image, {counted(rows, 'row')} looked at",
                hint="a data set may name the files of its images instead: write it with the images in it",
            )
        remarks = [f"{self.kind.remark}: {listed(sorted(others))}"] if others else []
        return remarks + [f"{counted(empty, 'row')} without the bytes of an image, not in the release"] * bool(empty)

    def pack(self, out: Path, name: str, image_of: Callable[[int], bytes | None]) -> Path:
        """Write the shard ``name`` of the release ``out``, atomically; a row whose image is None is left out.

        Raises:
            MtlueError: The shard is not the one that was unpacked.
        """
        path = out / name
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = temporary_beside(path)
        try:
            with held(self.folder / name):
                if file_digest(self.folder / name) != self.digests.get(name):
                    raise MtlueError(
                        f"{self.folder / name} has changed while its images were protected; run the same command again"
                    )
                self.kind.write(temporary, self.folder / name, image_of)
            put_in_place(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
        return path


def stem_of(shard: str) -> str:
    """Folder that the images of a shard are shown in."""
    return shard.rsplit(".", 1)[0]


def suffix_for(old: str, content: bytes) -> str:
    """The suffix of an image file: ``old`` where it fits the content, or where the content is of no known kind."""
    suffix = next((suffix for start, suffix in KINDS if content.startswith(start)), None)
    same = {".jpeg": ".jpg", ".tiff": ".tif"}.get(old.lower(), old.lower()) == suffix
    return old if suffix is None or same else suffix


def number_of(name: str) -> int:
    """The row of an image by its path."""
    return int(name.rpartition("/")[2].split(".")[0])


def shard_kinds() -> tuple[ShardKind, ...]:
    """All kinds of shard."""
    from mtlue_cli.layouts.parquet_images import PARQUET_IMAGES
    from mtlue_cli.layouts.webdataset import WEBDATASET

    return (PARQUET_IMAGES, WEBDATASET)


def find_shards(folder: Path) -> Shards | None:
    """The shards of a folder; None if it holds images as files, or no shards.

    Raises:
        InputError: It holds shards of both kinds, or a shard that cannot be read.
    """
    files = list_folder(folder)
    return None if files.images else shards_among(folder, files)


def shards_among(folder: Path, files: FolderFiles) -> Shards | None:
    """As :func:`find_shards`, of a folder that is listed already, whether it also holds images as files or not."""
    found: list[Shards] = []
    for kind in shard_kinds():
        paths = [folder / name for name in files.others if name.endswith(kind.suffix)]
        names = [path.relative_to(folder).as_posix() for path in paths if path.is_file() and kind.holds_images(path)]
        if names:
            found.append(Shards(folder, kind, tuple(names)))
    if len(found) > 1:
        raise InputError(
            f"{folder} holds {found[0].kind.title} and {found[1].kind.title}", hint="protect one folder of each"
        )
    return found[0] if found else None
