"""What is attacked: of each kind of file sound ones, made anew at every start, and what the program does with one."""

import gzip
import io
import itertools
import json
import shutil
import struct
import tarfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pyarrow
import torch
from hypothesis import HealthCheck, Phase, given, seed, settings
from msgspec import structs
from PIL import Image, PngImagePlugin, features
from pyarrow import parquet
from safetensors.torch import load, save

from mtlue_cli.choices import ImageFormat, LabelFormat, MetricName, SplitPart
from mtlue_cli.commands.console import PlainConsole, grouped, table_of
from mtlue_cli.errors import ImageError, InputError, MtlueError
from mtlue_cli.files import write_atomically
from mtlue_cli.generator.checkpoint import METADATA_KEY, sealed
from mtlue_cli.images.arrays import encode_array
from mtlue_cli.images.decode import decode_bytes, readable_formats
from mtlue_cli.images.encode import comparable_pixels, encode_image
from mtlue_cli.images.targets import as_target, stored_array, turned, turned_map
from mtlue_cli.keys import Key
from mtlue_cli.layouts.shards import FILE_COLUMN, find_shards, number_of
from mtlue_cli.release.records import (
    FOLDER,
    LABELS_NAME,
    MANIFEST_NAME,
    PLANNED_NAME,
    RUN_NAME,
    manifest_line,
    read_manifest,
    run_content,
)
from mtlue_cli.release.seal import JOURNAL_NAME, SEAL_NAME, Sealer, Trust
from mtlue_cli.release.signing import read_public_key
from mtlue_cli.tasks.label_options import LabelOptions
from mtlue_cli.tasks.labels import read_label_file, released_labels, released_options
from mtlue_cli.training.runtime import load_state, save_state
from mtlue_cli.verification.result_cache import ResultCache
from mtlue_cli.verification.victim_result import CurvePoint, VictimResult
from mtlue_cli.workflows.inspect import CheckpointReport, inspect_path, inspect_release
from mtlue_cli.workflows.progress import SilentProgress
from mtlue_cli.workflows.protect.config import ProtectConfig
from mtlue_cli.workflows.protect.run import protect_folder
from tests.dense_sample import DEPTH, NORMALS, PARTS
from tests.fuzz.mutations import mutated, with_other_value
from tests.images.pictures import LCMS_SRGB, encoded
from tests.images.test_metadata import XMP
from tests.small_set import write_checkpoint, write_images
from tests.tasks.test_label_fuzz import label_files

NAME = "generator.safetensors"


@dataclass(frozen=True)
class Case:
    """A file: its name, which the program may look at, and its content."""

    name: str
    content: bytes


@dataclass(frozen=True)
class Kind:
    """A kind of file.

    Attributes:
        corpus: Makes sound files; takes an empty folder to work in and a seed.
        attempt: Gives a file to the program, in a folder that is its own: True if it was accepted, False if it was
            refused with a reason. Whatever it raises is a finding.
        change: Makes a case of a sound one, at random; takes others of the corpus too.
    """

    corpus: Callable[[Path, int], Sequence[Case]]
    attempt: Callable[[Case, Path], bool]
    change: Callable[[Case, Random, Sequence[Case]], Case]


def by_bytes(case: Case, random: Random, others: Sequence[Case]) -> Case:
    """A file with changed bytes."""
    return replace(case, content=mutated(case.content, random, [other.content for other in others]))


def images(folder: Path, number: int) -> list[Case]:
    """Photos of every format, with all that they can carry."""
    del folder
    rng = np.random.default_rng(number)
    photo = Image.fromarray(rng.integers(0, 256, (20, 24, 3), dtype=np.uint8))
    exif = Image.Exif()
    exif[0x010E], exif[0x0112], exif[0x013B] = "a description", int(rng.integers(1, 9)), "Ada"
    exif[0x8769] = {0x9003: "2020:01:01 00:00:00", 0x829A: 0.5, 0x927C: b"maker note"}
    exif[0x8825] = {1: "N", 2: (51.0, 28.0, 38.0)}
    text = PngImagePlugin.PngInfo()
    text.add_text("Author", "Ada", zip=True)
    text.add_itxt("XML:com.adobe.xmp", XMP)
    more: dict[str, Any] = {"exif": exif.tobytes(), "icc_profile": LCMS_SRGB}
    with_xmp = more | {"xmp": XMP.encode()}
    grey = photo.convert("L")
    made = [
        encoded(photo, "JPEG", comment=b"a comment", **with_xmp),
        encoded(photo, "JPEG", progressive=True, subsampling=2),
        encoded(photo.convert("CMYK"), "JPEG"),
        encoded(photo, "MPO", save_all=True, append_images=[grey.convert("RGB")]),
        encoded(photo, "PNG", pnginfo=text, **more),
        encoded(photo.quantize(16), "PNG", transparency=3, bits=4),
        encoded(photo.convert("RGBA"), "PNG"),
        encoded(grey.convert("1"), "PNG"),
        encoded(Image.fromarray(rng.integers(0, 65536, (20, 24), dtype=np.uint16)), "PNG"),
        encoded(photo, "TIFF", **more),
        encoded(photo, "TIFF", compression="tiff_lzw"),
        encoded(photo, "TIFF", compression="jpeg"),
        encoded(grey.convert("1"), "TIFF", compression="group4"),
        encoded(photo, "WEBP", lossless=True, **with_xmp),
        encoded(photo.convert("RGBA"), "WEBP"),
        encoded(photo.quantize(32), "GIF", comment=b"a comment"),
        encoded(photo, "BMP"),
        encoded(grey, "PPM"),
        encoded(photo, "TGA", compression="tga_rle"),
        encode_array(rng.random((20, 24, 3)).astype(np.float32)),
    ]
    if features.check_codec("jpg_2000"):
        made.append(encoded(photo, "JPEG2000"))
    if "AVIF" in readable_formats() and features.check("avif"):
        made.append(encoded(photo, "AVIF", **with_xmp))
    return [Case("photo", content) for content in made]


def attempt_image(case: Case, folder: Path) -> bool:
    """Decode, encode in both ways with all metadata, and decode again: a lossless file holds the same."""
    del folder
    try:
        image = decode_bytes(case.content)
    except ImageError as error:
        return _refused(error)
    for image_format in (ImageFormat.PNG, ImageFormat.KEEP):
        try:
            released = encode_image(image.pixels, image, image_format, keep_metadata=True)
        except ImageError as error:
            _refused(error)
            continue
        again = decode_bytes(released)
        if image_format is ImageFormat.PNG:
            assert np.array_equal(comparable_pixels(image.pixels, again.pixels), again.pixels), "other pixels"
            assert again.icc_profile in (None, image.icc_profile), "another profile"
            assert set(again.metadata.text) <= set(image.metadata.text), "more text"
    return True


def maps(folder: Path, number: int) -> list[Case]:
    """Masks, depth maps and maps of normals."""
    del folder
    rng = np.random.default_rng(number)
    numbers = rng.integers(0, 3, (20, 24), dtype=np.uint8)
    depth = rng.uniform(1, 5, (20, 24)).astype(np.float32)
    normals = rng.normal(size=(20, 24, 3))
    normals /= np.linalg.norm(normals, axis=2, keepdims=True)
    picture = Image.fromarray(numbers)
    made = [
        *(encoded(picture, name) for name in ("PNG", "TIFF", "BMP", "GIF")),
        encoded(picture.quantize(3), "PNG"),
        encoded(picture.convert("RGBA"), "PNG"),
        encoded(picture, "WEBP", lossless=True),
        encoded(Image.fromarray(depth), "TIFF"),
        encoded(Image.fromarray((depth * 1000).astype(np.uint16)), "PNG"),
        encoded(Image.fromarray(((normals + 1) * 127.5).astype(np.uint8)), "PNG"),
        encode_array(normals.astype(np.float16)),
        encode_array(depth.astype(np.float64)),
        encode_array(numbers.astype(np.int64)),
    ]
    return [Case("map", content) for content in made]


def attempt_map(case: Case, folder: Path) -> bool:
    """Read it as what every kind of task is labelled by, turned and not."""
    del folder
    try:
        stored = stored_array(case.content)
    except ImageError as error:
        return _refused(error)
    assert stored.ndim in (2, 3)
    accepted = False
    for task in (PARTS, DEPTH, NORMALS):
        try:
            assert as_target(turned(stored, 6), task).size
            accepted = True
        except ImageError as error:
            _refused(error)
    try:
        turned_map(case.content, 6)
    except ImageError as error:
        _refused(error)
    return accepted


def label_tables(folder: Path, number: int) -> list[Case]:
    """Label files of every format as Hypothesis makes them, sound and not."""
    del folder
    made: list[Case] = []

    @seed(number)
    @settings(
        max_examples=100,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(file=label_files())
    def collect(file: tuple[str, bytes]) -> None:
        made.append(Case(f"labels{file[0]}", file[1]))

    collect()
    return made


def changed_labels(case: Case, random: Random, others: Sequence[Case]) -> Case:
    """As Hypothesis made it, which is odd enough to be tried, or with changed bytes."""
    return case if random.random() < 0.3 else by_bytes(case, random, others)


def attempt_labels(case: Case, folder: Path) -> bool:
    """Read a label file; write what is released of it, and read that."""
    path = folder / case.name
    path.write_bytes(case.content)
    accepted = False
    for options in (LabelOptions(), LabelOptions(split=SplitPart.TRAIN, missing_values=("NA",))):
        try:
            labels = read_label_file(path, options, for_learning=False)
        except InputError as error:
            _refused(error)
            continue
        accepted = True
        release = folder / "released.csv"
        release.write_bytes(released_labels(labels, dict(enumerate(labels.table.file_names))))
        again = read_label_file(release, released_options(labels.header[labels.file_index]), for_learning=False)
        assert again.table.file_names == labels.table.file_names, "other files"
        for task in labels.table.tasks:
            for row in range(len(labels.table)):
                name = labels.table.class_name(task.name, row)
                assert again.table.class_name(task.name, row) == name, "another class"
    return accepted


def checkpoints(folder: Path, number: int) -> list[Case]:
    """Generators with tasks and without."""
    folder.mkdir(exist_ok=True)
    paths = [write_checkpoint(folder / "tasks.safetensors", seed=number)]
    paths.append(write_checkpoint(folder / "universal.safetensors", None, seed=number))
    return [Case(NAME, path.read_bytes()) for path in paths]


def changed_checkpoint(case: Case, random: Random, others: Sequence[Case]) -> Case:
    """Bytes changed at random; or the card changed and sealed again, as by someone who knows the format."""
    if random.random() < 0.4:
        return by_bytes(case, random, others)
    size = int.from_bytes(case.content[:8], "little")
    card = json.loads(json.loads(case.content[8 : 8 + size])["__metadata__"][METADATA_KEY])
    tensors = load(case.content)
    card.pop("card_sha256", None)
    for _ in range(random.choice((1, 1, 3))):
        card = with_other_value(card, random)
    if random.random() < 0.2:
        name = random.choice(list(tensors))
        tensors[name] = random.choice((torch.zeros(0), tensors[name].half(), tensors[name].flatten()[:1].clone()))
    try:
        text = sealed(card) if isinstance(card, dict) else json.dumps(card)
        return replace(case, content=save(tensors, metadata={METADATA_KEY: text}))
    except (UnicodeEncodeError, ValueError, struct.error):
        return by_bytes(case, random, others)


def attempt_checkpoint(case: Case, folder: Path) -> bool:
    """Look at it as ``inspect`` does."""
    path = folder / case.name
    path.write_bytes(case.content)
    try:
        report = inspect_path(path, SilentProgress())
    except InputError as error:
        return _refused(error)
    assert isinstance(report, CheckpointReport)
    _shown(report.rows())
    json.dumps(report.to_json(), allow_nan=False)
    return True


def records(folder: Path, number: int) -> list[Case]:
    """The records of a release, which stands in ``folder``; and the state of a training."""
    shutil.rmtree(folder, ignore_errors=True)
    labels = write_images(folder / "photos", count=3)
    weights = write_checkpoint(folder / NAME, seed=number)
    config = ProtectConfig(folder / "photos", labels, out=folder / "release", weights=str(weights), device="cpu")
    release = protect_folder(config, SilentProgress()).release
    made = [Case(name, (release / name).read_bytes()) for name in (LABELS_NAME, *RECORDS)]
    save_state(folder / STATE, {"step": 3, "weights": [torch.ones(2)], "rng": {"a": None, "b": 0.5}})
    return [
        *made,
        Case(f"{FOLDER}/{PLANNED_NAME}", json.dumps(["photo1.png"]).encode()),
        Case(STATE, (folder / STATE).read_bytes()),
    ]


STATE = "state.safetensors"
RECORDS = (RUN := f"{FOLDER}/{RUN_NAME}", f"{FOLDER}/{MANIFEST_NAME}")


def attempt_records(case: Case, folder: Path) -> bool:
    """Look at the release as ``inspect`` does, with the changed file in the place of its own."""
    if case.name == STATE:
        (folder / STATE).write_bytes(case.content)
        try:
            load_state(folder / STATE)
        except MtlueError as error:
            return _refused(error)
        return True
    place = folder / "release" / case.name
    before = place.read_bytes() if place.exists() else None
    place.write_bytes(case.content)
    try:
        report = inspect_release(folder / "release", SilentProgress(), None, 1)
    except InputError as error:
        return _refused(error)
    finally:
        if before is None:
            place.unlink(missing_ok=True)
        else:
            place.write_bytes(before)
    _shown(report.rows())
    json.dumps(report.to_json(), allow_nan=False)
    for line in grouped(report.faults, ""):
        _shown({"fault": line})
    if not report.faults and case.name in (LABELS_NAME, *RECORDS):
        assert _meaning(case.name, case.content) == _meaning(case.name, before or b""), "a changed record passes"
    return not report.faults


SIGNER, CACHED, WEIGHTS = "signer.pub", "victim.json", "start.safetensors"
SEAL, JOURNAL, MANIFEST = (f"{FOLDER}/{name}" for name in (SEAL_NAME, JOURNAL_NAME, MANIFEST_NAME))
UNFINISHED = "unfinished"
SECRET = Key(bytes(range(32)))
"""That of the owner, which an attacker has not."""
SIGNS = find_spec("cryptography") is not None


def seals(folder: Path, number: int) -> list[Case]:
    """What vouches for a release, which stands in ``folder``, complete and not; and the public key of its signer."""
    shutil.rmtree(folder, ignore_errors=True)
    labels = write_images(folder / "photos", count=3)
    weights, key = write_checkpoint(folder / NAME, None, seed=number), folder / "key"
    write_atomically(key, bytes(range(32)).hex().encode(), private=True)
    config = ProtectConfig(folder / "photos", labels, out=folder / "release", weights=str(weights), device="cpu")
    config = replace(config, key=key, sign=folder / "signer" if SIGNS else None)
    release = protect_folder(config, SilentProgress()).release
    found = read_manifest(release)
    run = structs.replace(found.run, complete=False, digests={})
    journal = Sealer(SECRET).journal(run)
    assert journal is not None
    unfinished = shutil.copytree(release / FOLDER, folder / UNFINISHED / FOLDER).parent
    (unfinished / RUN).write_bytes(run_content(run))
    (unfinished / JOURNAL).write_bytes(journal.text(found.files))
    made = [Case(SEAL, (release / SEAL).read_bytes())]
    made += [Case(name, (unfinished / name).read_bytes()) for name in (MANIFEST, JOURNAL)]
    return [*made, *([Case(SIGNER, (folder / SIGNER).read_bytes())] if SIGNS else [])]


def attempt_seals(case: Case, folder: Path) -> bool:
    """Whoever has the key takes up only what it vouches for: all of a complete release, each record of another."""
    if case.name == SIGNER:
        (folder / "changed").write_bytes(case.content)
        try:
            return len(read_public_key(folder / "changed").raw) == len(SECRET.derive(b""))
        except InputError as error:
            return _refused(error)
    release = folder / ("release" if case.name == SEAL else UNFINISHED)
    before, own = (release / case.name).read_bytes(), set(map(manifest_line, read_manifest(release).files))
    (release / case.name).write_bytes(case.content)
    try:
        if case.name == SEAL:
            trust = Trust(SECRET, read_public_key(folder / SIGNER) if SIGNS else None)
            report = inspect_release(release, SilentProgress(), None, 1, trust)
            _shown(report.rows())
            assert report.faults or case.content == before, "a changed seal passes"
            return not report.faults
        vouched = Sealer(SECRET).vouched(release, read_manifest(release))
    except InputError as error:
        return _refused(error)
    finally:
        (release / case.name).write_bytes(before)
    taken = set() if vouched is None else set(map(manifest_line, vouched.files))
    assert taken <= own, "a record of another hand is taken up"
    return taken == own


def cache_entries(folder: Path, number: int) -> list[Case]:
    """A finished victim of ``verify``, and a start of a training with what vouches for it."""
    folder.mkdir(exist_ok=True)
    cache, random = ResultCache(folder, SECRET), Random(number)
    (folder / WEIGHTS).write_bytes(random.randbytes(100))
    cache.vouch(folder / WEIGHTS)
    shares = {metric: {"a": round(random.random(), 3)} for metric in MetricName}
    curve = (CurvePoint(1, 0.5, {"a": None}, {"a": 0.75}),)
    dense, bits = {"d": {"loss": 1.25}}, {"a": random.randbytes(4)}
    victim = VictimResult("clean", 0, shares, dense, {"a": 0.7}, (1, 1), curve, 1.5, "victim", False, bits, bits)
    cache.store("victim", victim)
    return [Case(name, (folder / name).read_bytes()) for name in (CACHED, WEIGHTS, f"{WEIGHTS}.mac")]


def attempt_cache(case: Case, folder: Path) -> bool:
    """Only what the owner stored is used."""
    place, cache = folder / case.name, ResultCache(folder, SECRET)
    before, stored = place.read_bytes(), cache.load("victim")
    place.write_bytes(case.content)
    try:
        if case.name == CACHED:
            found = cache.load("victim")
            assert found in (None, stored), "edited scores are used"
            return found is not None
        found_whole = cache.is_vouched(folder / WEIGHTS)
        assert not found_whole or case.content == before or case.name != WEIGHTS, "another file is used"
        return found_whole
    finally:
        place.write_bytes(before)


def changed_json(case: Case, random: Random, others: Sequence[Case]) -> Case:
    """Bytes changed at random, or values of JSON."""
    with suppress(ValueError, UnicodeEncodeError):
        if random.random() < 0.5:
            document = with_other_value(json.loads(case.content), random)
            return replace(case, content=json.dumps(document, indent=1).encode())
    return by_bytes(case, random, others)


def shards(folder: Path, number: int) -> list[Case]:
    """Images inside Parquet and tar files, the latter compressed or not."""
    del folder
    rng = np.random.default_rng(number)
    photos = [Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)) for _ in range(3)]
    contents = [encoded(photo, name) for photo, name in zip(photos, ("JPEG", "PNG", "WEBP"), strict=True)]
    cells = [{"bytes": content, "path": f"{row}.jpg"} for row, content in enumerate(contents)]
    table, packed = io.BytesIO(), io.BytesIO()
    parquet.write_table(pyarrow.table({"image": cells, "label": ["a", "b", None], "note": ["x", "", "z"]}), table)
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for row, (content, ending) in enumerate(zip(contents, ("jpg", "png", "webp"), strict=True)):
            members = {ending: content, "cls": b"%d" % (row % 2), "json": b'{"age": %d, "name": "n"}' % row}
            for end, own in members.items():
                header = tarfile.TarInfo(f"sub/{row}.{end}")
                header.size = len(own)
                archive.addfile(header, io.BytesIO(own))
    whole = packed.getvalue()
    return [Case("s.parquet", table.getvalue()), Case("s.tar", whole), Case("s.tar", gzip.compress(whole, mtime=0))]


def changed_shard(case: Case, random: Random, others: Sequence[Case]) -> Case:
    """Bytes changed at random; or a header of a tar file, whose checksum fits again."""
    content = bytearray(case.content)
    if random.random() < 0.5 or content[257:262] != b"ustar":
        return by_bytes(case, random, [other for other in others if other.name == case.name])
    at = 512 * random.choice([at for at in range(len(content) // 512) if content[512 * at + 257 :][:5] == b"ustar"])
    start, length = random.choice(((0, 100), (100, 8), (124, 12), (136, 12), (156, 1), (157, 100), (345, 155)))
    values = (b"../x.jpg", b"/x.jpg", b"sub/0.jpg", b"777777", b"0", b"\xff" * 12, b"x", b"L", b"S", b"2", b"g", b"")
    content[at + start : at + start + length] = random.choice(values)[:length].ljust(length, b"\0")
    content[at + 148 : at + 156] = b" " * 8
    content[at + 148 : at + 156] = b"%06o\0 " % sum(content[at : at + 512])
    return replace(case, content=bytes(content))


def attempt_shard(case: Case, folder: Path) -> bool:
    """Take the images out, read the labels, and write the shard again: it holds a row for every image."""
    shutil.rmtree(folder / "set", ignore_errors=True)
    (folder / "set").mkdir()
    (folder / "set" / case.name).write_bytes(case.content)
    images, labels = folder / "set" / "images", folder / "set" / "labels.jsonl"
    try:
        found = find_shards(folder / "set")
        if found is None:
            return False
        found.unpack(images, labels)
        reading = LabelOptions(format=LabelFormat.JSONL, file_column=FILE_COLUMN)
        table = read_label_file(labels, reading, for_learning=False).table
    except InputError as error:
        return _refused(error)
    files = {number_of(path.as_posix()): path.read_bytes() for path in images.rglob("*") if path.is_file()}
    assert len(files) == len(table), "rows without a label or an image"
    made = found.pack(folder / "set" / "out", case.name, lambda row: files.get(row) or None)
    assert [row.image for row in found.kind.read(made)] == [files[row] for row in sorted(files) if files[row]], "lost"
    return True


def _meaning(name: str, content: bytes) -> object:
    """What a record says, however it is spaced; of ``run.json`` without the digests that stand in it."""
    if name != RUN:
        return content
    return {key: value for key, value in json.loads(content).items() if key != "digests"}


def _refused(error: MtlueError) -> bool:
    """False; what is said must be something, and short enough to be read."""
    texts = [*map(str, error.args), *getattr(error, "faults", ())]
    assert texts, "no reason is given"
    assert all(text.strip() for text in texts), "an empty reason is given"
    assert all(len(text) < 6000 for text in texts), "the reason is too long"
    return False


def _shown(rows: dict[str, str]) -> None:
    stream = io.StringIO()
    PlainConsole(file=stream, width=200).print(table_of(rows))
    assert {char for char in stream.getvalue() if ord(char) < 32} <= {"\n"}, "control characters are shown"


KINDS = {
    "images": Kind(images, attempt_image, by_bytes),
    "labels": Kind(label_tables, attempt_labels, changed_labels),
    "maps": Kind(maps, attempt_map, by_bytes),
    "checkpoints": Kind(checkpoints, attempt_checkpoint, changed_checkpoint),
    "records": Kind(records, attempt_records, by_bytes),
    "seals": Kind(seals, attempt_seals, changed_json),
    "cache": Kind(cache_entries, attempt_cache, changed_json),
    "shards": Kind(shards, attempt_shard, changed_shard),
}

ROUND = 1000
"""Cases of one corpus."""


def cases(kind: Kind, folder: Path, number: int, on_corpus: Callable[[], None] = lambda: None) -> Iterator[Case]:
    """Changed files without end; each round has sound files of its own seed, and calls ``on_corpus`` before it."""
    for turn in itertools.count(number):
        on_corpus()
        corpus = kind.corpus(folder, turn)
        random = Random(turn)
        for _ in range(ROUND):
            yield kind.change(random.choice(corpus), random, corpus)
