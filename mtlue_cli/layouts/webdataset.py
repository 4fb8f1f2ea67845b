"""WebDataset: tar files in which the files of a sample share their name and follow each other.

Source: the documentation of the ``webdataset`` package.
"""

import io
import json
import lzma
import tarfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, Self

from mtlue_cli.budget import budget
from mtlue_cli.errors import InputError, first_line
from mtlue_cli.files import stream_of
from mtlue_cli.layouts.image_text import has_image, holds_image, image_text_error
from mtlue_cli.layouts.shards import ShardKind, ShardRow, suffix_for
from mtlue_cli.tasks.wording import listed, quoted

IMAGES = frozenset({"jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff"})
"""Endings of members that are images."""

TEXTS = frozenset({"json", "cls", "cls2", "index", "inx", "id", "txt", "text", "transcript", "caption"})
"""Endings of members that are released as they are; others are left out, as they may be images too."""


_ANEW = "write the shard again, or move it out of the folder"
_BLOCKS = 1 << 20


@dataclass(frozen=True)
class Sample:
    """Members of one name, ``key``: ending to header and content."""

    key: str
    members: dict[str, tuple[tarfile.TarInfo, bytes]]

    @property
    def image(self) -> str | None:
        """Ending of its image."""
        return next((ending for ending in self.members if ending.lower() in IMAGES), None)

    @property
    def views(self) -> list[str]:
        """Endings of images that have a name of their own, such as ``left.jpg``."""
        return [ending for ending in self.members if "." in ending and ending.lower().rsplit(".", 1)[1] in IMAGES]


def read_samples(path: Path) -> Iterator[ShardRow]:
    """The samples of a shard: ``.cls`` and ``.txt`` are columns, and so is each plain key of ``.json``.

    Members such as ``README.md``, with neither an image nor a text of their name, are no sample.

    Raises:
        InputError: The file is damaged, holds links, a text with an image, or a sample without an image of its own.
    """
    for sample in _samples(path):
        if sample.image is None and sample.views:
            raise InputError(
                f"{path}: the sample {quoted(sample.key)} has no image of its own name, but {listed(sample.views)}",
                hint="protect samples of one image, such as NAME.jpg",
            )
        cells: dict[str, Any] = {}
        image: bytes | None = None
        others: list[str] = []
        for ending, (_, content) in sample.members.items():
            if ending == sample.image:
                image = content
            elif ending.lower() not in TEXTS:
                others.append(ending)
            elif holds_image(content):
                raise image_text_error(path, quoted(f"{sample.key}.{ending}"))
            else:
                cells |= _cells(path, sample.key, ending, content)
        yield ShardRow(image, cells, tuple(others), is_sample=image is not None or len(others) < len(sample.members))


def write_samples(out: Path, source: Path, image_of: Callable[[int], bytes | None]) -> None:
    """Write a shard with other images: same samples, same texts, same order; an ending follows the image's kind."""
    with tarfile.open(out, "w") as made:
        for number, sample in enumerate(_samples(source)):
            image = image_of(number)
            if image is None:
                continue
            for ending, (info, content) in sample.members.items():
                name = info.name
                if ending == sample.image:
                    name, content = sample.key + suffix_for(f".{ending}", image), image
                elif ending.lower() not in TEXTS:
                    continue
                # A header of its own: that of the source may carry the old name a second time, and who wrote it.
                header = tarfile.TarInfo(name)
                header.size, header.mtime = len(content), info.mtime
                made.addfile(header, io.BytesIO(content))


def holds_images(path: Path) -> bool:
    """Whether a sample of a tar file has an image.

    Raises:
        InputError: It cannot be read.
    """
    return any(sample.image or sample.views for sample in _samples(path))


def _samples(path: Path) -> Iterator[Sample]:
    """The samples in order, one in memory at a time.

    Raises:
        InputError: The file is damaged, or holds links, several images in one sample, or one sample in two places.
    """
    ended: set[str] = set()
    for key, group in groupby(_members(path), lambda member: member[0]):
        if key in ended:
            raise InputError(
                f"{path}: the members of the sample {quoted(key)} do not follow each other",
                hint="write the shard again in the order of its names, as tar --sort=name does",
            )
        ended.add(key)
        members: dict[str, tuple[tarfile.TarInfo, bytes]] = {}
        images = 0
        for _, ending, info, content in group:
            images += ending.lower() in IMAGES
            if images > 1:
                raise InputError(
                    f"{path}: the sample {quoted(key)} has several images", hint="protect samples of one image"
                )
            if ending in members:
                raise InputError(f"{path} has two members called {quoted(info.name)}", hint=_ANEW)
            members[ending] = (info, content)
        yield Sample(key, members)


def _members(path: Path) -> Iterator[tuple[str, str, tarfile.TarInfo, bytes]]:
    """Name, ending, header and content of each file; a file without a name or an ending is left out."""
    try:
        with tarfile.open(path, "r|*", stream_of(path), tarinfo=_StrictHeader) as archive:
            for info in archive:
                if info.isdir():
                    continue
                if info.name.startswith("/") or ".." in info.name.split("/"):
                    raise InputError(f"{path}: {quoted(info.name)} leads out of the shard", hint=_ANEW)
                if not info.isreg():
                    raise InputError(f"{path}: {quoted(info.name)} is a link or a device, expected a file")
                folder, slash, file = info.name.rpartition("/")
                stem, _, ending = file.partition(".")
                if info.size > budget().photo_bytes:
                    raise InputError(
                        f"{path}: {quoted(info.name)} has {info.size:,} bytes, more than a photo may have",
                        hint="set another limit with --max-pixels",
                    )
                stream = archive.extractfile(info)
                if stem and "." in file and stream is not None:
                    yield folder + slash + stem, ending, info, stream.read()
            while rest := archive.fileobj.read(_BLOCKS) if archive.fileobj is not None else b"":
                if rest.strip(b"\0"):
                    raise InputError(f"{path} has more behind its end, such as a second tar file", hint=_ANEW)
    except (tarfile.TarError, EOFError, OSError, ValueError, OverflowError, zlib.error, lzma.LZMAError) as error:
        raise InputError(f"{path} cannot be read as a tar file: {first_line(error)}", hint=_ANEW) from error


class _StrictHeader(tarfile.TarInfo):
    """A header of a member; one that is damaged is an error, at which tarfile itself would silently end."""

    @classmethod
    def fromtarfile(cls, tarfile_: tarfile.TarFile) -> Self:
        """The next header.

        Raises:
            ReadError: It is damaged, or the file ends before its mark of the end.
        """
        try:
            found = super().fromtarfile(tarfile_)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]  # typeshed lacks it
            raise
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(f"damaged or cut off after {tarfile_.offset:,} bytes: {error}") from error
        if found.size < 0:
            raise tarfile.ReadError(f"a member has {found.size} bytes")
        return found


def _cells(path: Path, key: str, ending: str, content: bytes) -> dict[str, Any]:
    name = ending.lower()
    try:
        text = content.decode().strip()
        document = json.loads(text) if name == "json" else None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: {quoted(f'{key}.{ending}')} cannot be read: {error}") from error
    if name != "json":
        return {name: text}
    if has_image(document):
        raise image_text_error(path, quoted(f"{key}.{ending}"))
    if not isinstance(document, dict):
        return {"json": document} if isinstance(document, str | int | float) else {}
    return {name: value for name, value in document.items() if value is None or isinstance(value, str | int | float)}


WEBDATASET = ShardKind(
    "tar files of WebDataset",
    ".tar",
    holds_images,
    read_samples,
    write_samples,
    "members of other kinds are not in the release",
)
