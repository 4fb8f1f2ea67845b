"""A release in shards: protected images inside Parquet or tar files, and the records that a plain release has.

``.mtlue`` holds the records of a plain release of the same images, its ``labels.csv``, and ``shards.json``: the kind of
shard, the digest of each one, and the other files that were copied.
"""

import hashlib
import json
import re
import shutil
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec
from msgspec import structs

from mtlue_cli.errors import InputError
from mtlue_cli.files import discard, file_digest, held, is_temporary, open_regular, read_regular, write_atomically
from mtlue_cli.images.folder import find_files_and_links, find_images
from mtlue_cli.layouts.shards import Shards, number_of, shard_kinds, stem_of
from mtlue_cli.release.records import (
    ANEW,
    FOLDER,
    LABELS_NAME,
    MANIFEST_NAME,
    MOST_LIST,
    RUN_NAME,
    RUN_PATH,
    SHARDS_NAME,
    FileRecord,
    read_manifest,
    write_run,
)
from mtlue_cli.release.seal import SEAL_PATH, Seal, Sealer, read_seal, sealed_file_faults
from mtlue_cli.storage.writer import WRITER
from mtlue_cli.tasks.paths import path_fault

SHARDS_PATH = f"{FOLDER}/{SHARDS_NAME}"
_ROW = re.compile(r"/\d{1,18}\.[^/]*\Z", re.ASCII)


class ShardsRecord(msgspec.Struct, frozen=True):
    """What ``shards.json`` holds.

    Attributes:
        kind: Suffix of the shards.
        shards: SHA-256 of each one; None while a run is under way.
        cards: Other files that were copied.
    """

    kind: str
    shards: dict[str, str | None]
    cards: list[str]


_COUNTED = re.compile(rb"[ -]*name:(?P<name>.+)|(?P<before>\s*num_examples:\s*)(?P<count>\d{1,15})(?P<after>\s*)")
CARDS = ("README.md", "LICENSE", "LICENSE.md", "LICENSE.txt")
"""Files beside the shards that are part of a data set, and are copied."""


def is_packed(release: Path) -> bool:
    """Whether a folder is a release in shards, finished or not."""
    return (release / FOLDER / SHARDS_NAME).is_file()


def refuse_other(out: Path) -> None:
    """Refuse an output folder that holds anything but a release in shards: links, other shards or images too.

    Raises:
        InputError: It is so.
    """
    if is_packed(out):
        _refuse_strangers(out)
        return
    if out.exists() and not out.is_dir():
        raise InputError(f"the output {out} is a file, expected a folder", hint="give another one with --out")
    if out.is_dir() and any(out.iterdir()):
        files, links = find_files_and_links(out)
        begun = all(name == f"{FOLDER}/{WRITER}" or is_temporary(name) for name in files)
        if begun and not links and all(entry.name == FOLDER for entry in out.iterdir()):
            return  # a run that was killed before it wrote anything
        raise InputError(
            f"the output folder {out} is not empty and holds no release in shards",
            hint="give another one with --out",
        )


def _refuse_strangers(out: Path) -> None:
    """Refuse what a run did not write into a release in shards, and what loaders would read, or links lead elsewhere.

    Raises:
        InputError: Lists it.
    """
    record = _read(out)
    files, links = find_files_and_links(out)
    kinds = tuple(kind.suffix for kind in shard_kinds())
    read = {name for name in files if name.endswith(kinds)} | {name for name in find_images(out) if name in files}
    strange = sorted(read.difference(record.shards)) + [f"{name} (a link)" for name in links]
    if strange:
        raise InputError(
            f"{out} holds files that are not of this release", strange, "remove them, or give another --out"
        )


def pack(
    source: Shards,
    plain: Path,
    out: Path,
    on_shard: Callable[[], None] = lambda: None,
    sealer: Sealer = Sealer(),  # noqa: B008 - frozen
) -> None:
    """Make a release in shards of a complete plain one; each shard is at any time absent, old or whole.

    Args:
        source: The originals.
        plain: The plain release of their unpacked images.
        out: The release to come, or one that is replaced.
        on_shard: Called after each shard.
        sealer: What the records are sealed with.
    """
    for name in find_files_and_links(out)[0] if out.is_dir() else ():
        if is_temporary(name):
            discard(out / name)  # left by a run that was killed
    manifest = read_manifest(plain)
    released: dict[str, dict[int, FileRecord]] = defaultdict(dict)
    for record in manifest.files:
        released[record.file_name.rpartition("/")[0]][number_of(record.file_name)] = record
    names = [name for name in source.names if released.get(stem_of(name))]
    old = set(_read(out).shards) if is_packed(out) else set()
    cards = [name for name in CARDS if (source.folder / name).is_file()]
    _write(out, ShardsRecord(source.kind.suffix, dict.fromkeys(sorted({*names, *old})), cards))
    write_run(out, structs.replace(manifest.run, complete=False, digests={}))
    discard(out / SEAL_PATH)
    for name in old - set(names):
        discard(out / name)
    digests: dict[str, str | None] = {}
    for name in names:
        records = released[stem_of(name)]

        def image_of(number: int, records: Mapping[int, FileRecord] = records) -> bytes | None:
            record = records.get(number)
            return None if record is None else (plain / record.file_name).read_bytes()

        digests[name] = file_digest(source.pack(out, name, image_of))
        on_shard()
    lost = Counter(record.source.rpartition("/")[0] for record in manifest.quarantine)
    for name in cards:
        write_atomically(out / name, without_lost_rows(read_regular(source.folder / name), lost))
    for name, place in _records(plain).items():
        if name != RUN_NAME:
            write_atomically(out / FOLDER / name, place.read_bytes())
    _write(out, ShardsRecord(source.kind.suffix, digests, cards))
    content = (plain / FOLDER / RUN_NAME).read_bytes()
    sealed = {name: file_digest(out / name) for name in (SHARDS_PATH, *cards)}
    sealer.seal(out, {RUN_PATH: hashlib.sha256(content).hexdigest(), **sealed})
    write_atomically(out / FOLDER / RUN_NAME, content)


def unpack(release: Path, plain: Path) -> list[str]:
    """Write the plain release that a release in shards was made of; what does not fit its records, one per line.

    Raises:
        InputError: It is no release in shards, or its records are damaged.
    """
    document, manifest = _read(release), read_manifest(release)
    if not manifest.run.complete:
        raise InputError(
            f"the release {release} is unfinished: its run was interrupted",
            hint="run the same mtlue protect command again to finish it",
        )
    faults: list[str] = []
    kind = next(kind for kind in shard_kinds() if kind.suffix == document.kind)
    expected: dict[str, list[str]] = defaultdict(list)
    for record in manifest.files:
        if path_fault(record.file_name) is not None or not _ROW.search(record.file_name):
            faults.append(f"{record.file_name}: in the manifest, is no row of a shard")
        else:
            expected[record.file_name.rpartition("/")[0]].append(record.file_name)
    (plain / FOLDER).mkdir(parents=True, exist_ok=True)
    for name, place in _records(plain).items():
        try:
            with open_regular(release / FOLDER / name) as stream, place.open("wb") as copied:
                shutil.copyfileobj(stream, copied)
        except OSError as error:
            raise InputError(
                f"{release / FOLDER / name} cannot be read: {error.strerror or error}", hint=ANEW
            ) from error
    seal = read_seal(release)
    if isinstance(seal, Seal):
        faults += sealed_file_faults(release, seal, [SHARDS_PATH])
        (plain / SEAL_PATH).write_bytes(
            read_regular(release / SEAL_PATH)
        )  # it covers the plain release too, and is checked there
    elif seal is not None:
        faults.append(f"{SEAL_PATH}: {seal}")
    for name, digest in document.shards.items():
        path, files = release / name, sorted(expected.get(stem_of(name), ()), key=number_of)
        if not path.is_file():
            faults.append(f"{name}: missing in the release")
            continue
        if file_digest(path) != digest:
            faults.append(f"{name}: its bytes are not those that the run wrote")
        rows = 0
        with held(path):
            for rows, row in enumerate(kind.read(path), 1):
                if rows <= len(files):
                    (plain / files[rows - 1]).parent.mkdir(parents=True, exist_ok=True)
                    (plain / files[rows - 1]).write_bytes(row.image or b"")
        if rows != len(files):
            faults.append(f"{name}: holds {rows} rows, {len(files)} are recorded")
    known = {
        *document.shards,
        *document.cards,
        SHARDS_PATH,
        SEAL_PATH,
        *(f"{FOLDER}/{name}" for name in _records(plain)),
    }
    files, links = find_files_and_links(release)
    faults += [f"{name}: is a link; its target may be unprotected" for name in links]
    faults += [f"{name}: not in the records, it may be unprotected" for name in files if name not in known]
    return faults


def without_lost_rows(card: bytes, lost: Mapping[str, int]) -> bytes:
    """A dataset card that counts the rows of the release; ``datasets`` refuses to load another number.

    Args:
        card: As it is.
        lost: Shard without its suffix to the number of its rows that are not released.
    """
    lines, split = card.split(b"\n"), ""
    for at, line in enumerate(lines if lost else ()):
        found = _COUNTED.fullmatch(line)
        if found is None:
            continue
        if found["name"]:
            split = found["name"].decode(errors="replace").strip("\"' \r")
        else:
            count = sum(number for shard, number in lost.items() if split in re.split(r"[/._-]", shard))
            lines[at] = found["before"] + str(max(0, int(found["count"]) - count)).encode() + found["after"]
    return b"\n".join(lines)


def _records(plain: Path) -> dict[str, Path]:
    """The records and labels of a plain release: name in the folder of records to path."""
    return {
        RUN_NAME: plain / FOLDER / RUN_NAME,
        MANIFEST_NAME: plain / FOLDER / MANIFEST_NAME,
        LABELS_NAME: plain / LABELS_NAME,
    }


def _read(release: Path) -> ShardsRecord:
    path = release / FOLDER / SHARDS_NAME
    try:
        document = msgspec.json.decode(read_regular(path, MOST_LIST), type=ShardsRecord)
        known = document.kind in [kind.suffix for kind in shard_kinds()]
        if not known or any(path_fault(name) is not None for name in (*document.shards, *document.cards)):
            raise ValueError("names that no release has")
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} is damaged: {error}", hint=ANEW) from error
    return document


def _write(release: Path, document: ShardsRecord) -> None:
    content = json.dumps(structs.asdict(document), indent=2) + "\n"
    write_atomically(release / FOLDER / SHARDS_NAME, content.encode())
