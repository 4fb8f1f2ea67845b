"""Attempts to get a file that is its original, or nearly so, called protected."""

import io
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec import structs
from PIL import Image

from mtlue_cli.choices import ExitCode, ImageFormat, Unlabelled
from mtlue_cli.commands.protect import remarks
from mtlue_cli.errors import CheckpointError
from mtlue_cli.files import file_digest
from mtlue_cli.generator import shipped
from mtlue_cli.generator.checkpoint import load_checkpoint, save_checkpoint
from mtlue_cli.images.decode import decode_image
from mtlue_cli.images.encode import comparable_pixels
from mtlue_cli.images.folder import find_images
from mtlue_cli.keys import VARIABLE
from mtlue_cli.perturbation.effect import LEAST_SHARE, least_mean_change, measure_change
from mtlue_cli.release.records import (
    FOLDER,
    LABELS_NAME,
    MANIFEST_NAME,
    FileRecord,
    read_manifest,
    write_manifest,
    write_run,
)
from mtlue_cli.release.seal import SEAL_PATH
from mtlue_cli.tasks.labels import read_label_file
from mtlue_cli.verification.audit import audit_release
from mtlue_cli.workflows.inspect import inspect_release
from mtlue_cli.workflows.progress import SilentProgress
from mtlue_cli.workflows.protect.config import ProtectConfig
from mtlue_cli.workflows.protect.run import ProtectResult, protect_folder
from tests.small_set import write_checkpoint

RNG = np.random.default_rng(11)
SIDE = 32
COLOUR = RNG.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
GREY = RNG.integers(0, 256, (SIDE, SIDE), dtype=np.uint8)
IN_COLOUR = np.stack([GREY] * 3, axis=-1)
HALVES = np.repeat(np.array([0, 255], dtype=np.uint8), SIDE // 2)[:, None] * np.ones((1, SIDE), dtype=np.uint8)
MARKED = IN_COLOUR.copy()
MARKED[0, 0] = 255, 0, 0
NO_ROOM = "nearly all pixels are black or white"
NOTHING = "this image has no label"
TOO_LITTLE = "add too little"
IS_GREY = "this photo is grey"


def picture(pixels: np.ndarray, mode: str | None = None, **options: Any) -> Callable[[Path], None]:  # noqa: ANN401 - Pillow's
    def write(path: Path) -> None:
        image = Image.fromarray(pixels)
        (image.convert(mode) if mode else image).save(path, **options)

    return write


def array(pixels: np.ndarray) -> Callable[[Path], None]:
    return lambda path: np.save(path, pixels)


def zeros(path: Path) -> None:
    """Weights that are all zero."""
    loaded = load_checkpoint(path)
    for parameter in loaded.generator.parameters():
        parameter.data.zero_()
    save_checkpoint(path, loaded.generator, loaded.card)


def zero_embeddings(path: Path) -> None:
    """Weights that labels do not change."""
    loaded = load_checkpoint(path)
    for name, parameter in loaded.generator.named_parameters():
        parameter.data.mul_(0 if "embedding" in name else 0.3)
    save_checkpoint(path, loaded.generator, loaded.card)


@dataclass(frozen=True)
class Attempt:
    """A photo and the options of ``protect``.

    Attributes:
        write: Writes the photo.
        expected: What the reason says; None: it is really changed.
        name: Of the file.
        row: Its cells; None: it has no row.
        options: Of the run.
        own: Whether the weights are trained ones with tasks of their own; else they take any labels and write in
            green against magenta alone.
        spoil: Spoils the weights.
    """

    write: Callable[[Path], None]
    expected: str | None = None
    name: str = "a.png"
    row: str | None = "red,1"
    options: dict[str, Any] = field(default_factory=dict)
    own: bool = False
    spoil: Callable[[Path], None] | None = None


PROTECT = {"unlabelled": Unlabelled.PROTECT}
KEEP = {"image_format": ImageFormat.KEEP}
WEBP = {"image_format": ImageFormat.WEBP}
ATTEMPTS = {
    "grey PNG": Attempt(picture(GREY), IS_GREY),
    "grey JPEG": Attempt(picture(GREY, quality=90), IS_GREY, "a.jpg"),
    "grey JPEG that stays one": Attempt(picture(GREY, quality=90), IS_GREY, "a.jpg", options=KEEP),
    "grey TIFF": Attempt(picture(GREY), IS_GREY, "a.tif"),
    "grey BMP": Attempt(picture(GREY), IS_GREY, "a.bmp"),
    "grey of 16 bits": Attempt(picture(GREY.astype(np.uint16) * 257), IS_GREY),
    "grey with alpha": Attempt(picture(np.stack([GREY, GREY], axis=-1)), IS_GREY),
    "grey as WebP": Attempt(picture(GREY), IS_GREY, options=WEBP),
    "grey pixels in RGB": Attempt(picture(IN_COLOUR), IS_GREY),
    "grey pixels in RGBA": Attempt(picture(np.dstack([IN_COLOUR, GREY])), IS_GREY),
    "grey pixels in a JPEG of colours": Attempt(picture(IN_COLOUR, quality=90), IS_GREY, "a.jpg"),
    "grey pixels in WebP": Attempt(picture(IN_COLOUR, lossless=True), IS_GREY, "a.webp"),
    "grey pixels in CMYK": Attempt(picture(IN_COLOUR, "CMYK"), IS_GREY, "a.tif"),
    "grey palette": Attempt(picture(GREY, "P"), IS_GREY),
    "grey array": Attempt(array((IN_COLOUR / 255).astype(np.float32)), IS_GREY, "a.npy"),
    "grey but for a pixel": Attempt(picture(MARKED), IS_GREY),
    "two levels": Attempt(picture(GREY > 127), IS_GREY),
    "all black": Attempt(picture(np.zeros_like(COLOUR)), IS_GREY),
    "all white": Attempt(picture(np.full_like(COLOUR, 255)), IS_GREY),
    "black and white halves": Attempt(picture(HALVES), IS_GREY),
    "black and white halves, weights that write in all colours": Attempt(picture(HALVES), NO_ROOM, own=True),
    "black, weights that write in all colours": Attempt(picture(np.zeros_like(GREY)), NO_ROOM, own=True),
    "grey, weights that write in all colours": Attempt(picture(GREY), own=True),
    "grey, epsilon 1": Attempt(picture(GREY), IS_GREY, options={"epsilon": 1}),
    "colour, epsilon 1": Attempt(picture(COLOUR), options={"epsilon": 1}),
    "colours that are all at their ends": Attempt(picture(np.where(COLOUR < 128, 0, 255).astype(np.uint8)), own=True),
    "zero checkpoint": Attempt(picture(COLOUR), TOO_LITTLE, own=True, spoil=zeros),
    "zero checkpoint, random classes": Attempt(
        picture(COLOUR), TOO_LITTLE, row=None, options=PROTECT, own=True, spoil=zeros
    ),
    "all cells empty": Attempt(picture(COLOUR), NOTHING, row=","),
    "all protected cells empty": Attempt(picture(COLOUR), NOTHING, row=",1", options={"exclude": ["round"]}),
    "all cells empty, weights of one's own": Attempt(picture(COLOUR), NOTHING, row=",", own=True),
    "fully transparent": Attempt(
        picture(np.dstack([COLOUR, np.zeros((SIDE, SIDE), dtype=np.uint8)])), "transparent", own=True
    ),
    "nearly transparent": Attempt(
        picture(np.dstack([COLOUR, np.ones((SIDE, SIDE), dtype=np.uint8)])), "transparent", own=True
    ),
    "all cells empty, random classes": Attempt(picture(COLOUR), row=",", options=PROTECT),
    "no row, random classes": Attempt(picture(COLOUR), row=None, options=PROTECT),
    "no row, random classes, weights of one's own": Attempt(picture(COLOUR), row=None, options=PROTECT, own=True),
    "no row and grey": Attempt(picture(GREY), IS_GREY, row=None, options=PROTECT),
    "one pixel": Attempt(picture(COLOUR[:1, :1])),
    "colour JPEG that stays one": Attempt(picture(COLOUR, quality=90), None, "a.jpg", options=KEEP),
}  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Photos of all classes, beside which an attempt is made."""
    monkeypatch.setattr(shipped, "weights_folder", lambda: tmp_path / "weights")
    monkeypatch.setenv(VARIABLE, "abba" * 16)
    (tmp_path / "photos").mkdir()
    write_checkpoint(tmp_path / "weights" / "default.safetensors", None)
    write_checkpoint(tmp_path / "own.safetensors")
    for row in range(6):
        picture(RNG.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8))(tmp_path / f"photos/{row}.png")
    return tmp_path / "photos"


def rows(*more: str) -> str:
    cells = [f"{row}.png,{('red', 'green', 'blue')[row % 3]},{row % 2}" for row in range(6)]
    return "\n".join(["file_name,colour,round", *cells, *more]) + "\n"


def configured(folder: Path, own: bool = False, **options: Any) -> ProtectConfig:  # noqa: ANN401 - any field
    labels = folder / "labels.csv"
    if not labels.exists():
        labels.write_text(rows())
    weights = str(folder.parent / "own.safetensors") if own else None
    return ProtectConfig(folder, labels, weights=weights, device="cpu", **options)


def run(config: ProtectConfig) -> ProtectResult:
    return protect_folder(config, SilentProgress())


def faults_of(config: ProtectConfig, *, against: bool = True) -> tuple[str, ...]:
    return inspect_release(config.release, SilentProgress(), config.images if against else None, 1).faults


@pytest.mark.parametrize("name", ATTEMPTS)
def test_a_file_is_really_changed_or_not_released(name: str, folder: Path) -> None:
    attempt = ATTEMPTS[name]
    attempt.write(folder / attempt.name)
    (folder / "labels.csv").write_text(rows() if attempt.row is None else rows(f"{attempt.name},{attempt.row}"))
    if attempt.spoil is not None:
        attempt.spoil(folder.parent / "own.safetensors")
    config = configured(folder, attempt.own, **attempt.options)
    result = run(config)
    reasons = {record.source: record.reason for record in result.quarantine}
    records = {record.source: record for record in read_manifest(result.release).files}
    assert not records or faults_of(config) == ()  # a release of nothing is not whole
    if attempt.expected is not None:
        assert attempt.expected in reasons[attempt.name]
        assert result.exit_code is ExitCode.QUARANTINE
        assert attempt.name not in records
        assert not any(Path(released).stem == Path(attempt.name).stem for released in find_images(result.release))
    else:
        assert attempt.name not in reasons
        record = records[attempt.name]
        saved = decode_image(result.release / record.file_name).pixels
        change = measure_change(comparable_pixels(decode_image(folder / attempt.name).pixels, saved), saved)
        assert record.mean_change == pytest.approx(change.mean, abs=1e-3)
        assert change.mean >= least_mean_change(result.epsilon)
        assert record.share is not None
        assert record.share >= LEAST_SHARE
    assert (result.mean_change is None) is (not records)


def test_weights_that_add_the_same_to_every_class_are_refused(folder: Path) -> None:
    config = configured(folder, own=True)
    zero_embeddings(folder.parent / "own.safetensors")
    with pytest.raises(CheckpointError, match="add nearly the same to every class: 0% of what they add"):
        run(config)
    assert not config.release.exists()


def test_what_to_do_about_photos_with_too_little_is_said_once(folder: Path) -> None:
    for name in ("a", "b", "c"):
        picture(GREY)(folder / f"{name}.png")
    (folder / "labels.csv").write_text(rows("a.png,red,1", "b.png,green,0", "c.png,blue,1"))
    result = run(configured(folder))
    assert len(result.quarantine) == 3
    reason = (
        r"the weights default write mostly in colour and this photo is grey: \d+% of the perturbation would arrive, "
        r"at least 25% is needed"
    )
    assert all(re.fullmatch(reason, record.reason) for record in result.quarantine)
    said = remarks(result)
    fixes = [line for line in said if line.startswith("to protect more of them: train weights on these images: mtlue")]
    assert len(fixes) == 1
    assert sum("mtlue train-generator" in line for line in said) == 1
    assert result.to_json()["fixes"] == list(result.fixes)


def put(release: Path, record: FileRecord, content: bytes) -> FileRecord:
    (release / record.file_name).write_bytes(content)
    return structs.replace(record, sha256=file_digest(release / record.file_name))


def encoded(pixels: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, format="PNG", compress_level=9)
    return stream.getvalue()


def original_bytes(config: ProtectConfig, record: FileRecord) -> FileRecord:
    return put(config.release, record, (config.images / record.source).read_bytes())


def original_pixels(config: ProtectConfig, record: FileRecord) -> FileRecord:
    return put(config.release, record, encoded(decode_image(config.images / record.source).pixels))


def original_but_for_a_pixel(config: ProtectConfig, record: FileRecord) -> FileRecord:
    pixels = decode_image(config.images / record.source).pixels.copy()
    pixels[3, 3] ^= 1
    return put(config.release, record, encoded(pixels))


def a_fifth_of_the_change(config: ProtectConfig, record: FileRecord) -> FileRecord:
    before = decode_image(config.images / record.source).pixels.astype(float)
    after = decode_image(config.release / record.file_name).pixels.astype(float)
    return put(config.release, record, encoded(np.rint(before + 0.2 * (after - before)).astype(np.uint8)))


@pytest.mark.parametrize(
    ("tamper", "message", "needs_originals"),
    [
        (original_bytes, "is its original, unchanged", False),
        (original_pixels, "is its original, unchanged", True),
        (original_but_for_a_pixel, "at least 0.25 is needed", True),
        (a_fifth_of_the_change, "is recorded", True),
        (lambda _, record: structs.replace(record, share=0.14), "carries 14% of its perturbation", False),
        (lambda _, record: structs.replace(record, max_change=0.0), "is its original, unchanged", False),
        (lambda _, record: structs.replace(record, psnr=None), "is its original, unchanged", False),
        (lambda _, record: structs.replace(record, mean_change=0.1), "at least 0.25 is needed", False),
        (lambda _, record: structs.replace(record, mean_change=9.5), "9.50 is recorded", True),
    ],
)
def test_a_release_that_was_tampered_with_is_reported_by_inspection_and_audit(
    folder: Path, tamper: Callable[[ProtectConfig, FileRecord], FileRecord], message: str, needs_originals: bool
) -> None:
    config = configured(folder)
    run(config)
    edit(config, tamper)
    faults = faults_of(config)
    assert any(message in fault for fault in faults), faults
    assert bool(faults_of(config, against=False)) is not needs_originals
    audit = audit_release(config.release, folder, read_label_file(config.labels).table)
    assert any(message in fault for fault in audit.faults), audit.faults
    # No run goes on from such records: they have no seal of its key.
    assert run(config).exit_code is ExitCode.SUCCESS
    assert faults_of(config) == ()


def edit(config: ProtectConfig, tamper: Callable[[ProtectConfig, FileRecord], FileRecord]) -> None:
    """Change the second file and its record, and every digest that would tell so."""
    manifest = read_manifest(config.release)
    files = list(manifest.files)
    files[1] = tamper(config, files[1])
    write_manifest(config.release, files)
    digests = {name: file_digest(config.release / name) for name in (f"{FOLDER}/{MANIFEST_NAME}", LABELS_NAME)}
    write_run(config.release, structs.replace(manifest.run, digests=digests))
    (config.release / SEAL_PATH).unlink()


def test_a_release_of_an_older_version_is_read_and_measured_when_it_continues(folder: Path) -> None:
    config = configured(folder)
    first = run(config)
    path = first.release / FOLDER / MANIFEST_NAME
    whole = path.read_bytes()
    old = [json.loads(line) for line in whole.splitlines()]
    for document in old:
        del document["mean_change"], document["share"]
    path.write_text("".join(json.dumps(document) + "\n" for document in old))
    write_run(first.release, structs.replace(read_manifest(first.release).run, digests={}))
    (first.release / SEAL_PATH).unlink()
    assert read_manifest(first.release).files[0].mean_change is None
    assert faults_of(config) == ()
    again = run(config)
    assert (again.protected, again.kept) == (6, 0)
    assert path.read_bytes() == whole
    kept = run(config)
    assert (kept.kept, kept.mean_change) == (6, first.mean_change)


def test_the_changes_of_a_release_are_summed_up(folder: Path) -> None:
    result = run(configured(folder))
    changes = sorted(record.mean_change or 0 for record in read_manifest(result.release).files)
    assert result.mean_change is not None
    middle = round((changes[2] + changes[3]) / 2, 3)
    assert structs.astuple(result.mean_change) == (changes[0], middle, changes[-1])
    assert result.to_json()["mean_change"] == structs.asdict(result.mean_change)


def test_a_photo_that_turns_grey_leaves_the_release(folder: Path) -> None:
    config = configured(folder)
    assert (run(config).release / "1.png").exists()
    picture(IN_COLOUR)(folder / "1.png")
    assert [record.source for record in run(config).quarantine] == ["1.png"]
    assert not (config.release / "1.png").exists()


def test_a_row_without_labels_is_done_again_when_its_classes_are_to_be_drawn(folder: Path) -> None:
    (folder / "labels.csv").write_text(rows().replace("1.png,green,1", "1.png,,"))
    config = configured(folder, own=True)
    plain = run(config)
    before = {record.source: record for record in read_manifest(plain.release).files}
    drawn = run(replace(config, unlabelled=Unlabelled.PROTECT))
    after = {record.source: record for record in read_manifest(drawn.release).files}
    assert after["1.png"].drawn
    assert {name for name in after if after[name] != before.get(name)} == {"1.png"}


def test_random_classes_depend_on_content_and_key_and_are_not_shown(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in "abcdefgh":
        picture(RNG.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8))(folder / f"{name}.png")
    config = configured(folder, own=True, unlabelled=Unlabelled.PROTECT)
    result = run(config)
    records = {record.source: record for record in read_manifest(result.release).files}
    assert records["a.png"].labels == {"colour": None, "round": None}
    assert "a.png,,\n" in (result.release / LABELS_NAME).read_text()
    assert (records["a.png"].drawn, records["1.png"].drawn) == (True, False)
    assert run(config).kept == len(records)
    keyed = configured(folder, unlabelled=Unlabelled.PROTECT, out=folder.parent / "one")
    one = run(keyed).release
    monkeypatch.setenv(VARIABLE, "cddc" * 16)
    two = run(replace(keyed, out=folder.parent / "two")).release
    changes = [
        decode_image(release / f"{name}.png").pixels.astype(int) - decode_image(folder / f"{name}.png").pixels
        for release in (one, two)
        for name in "abcdefgh"
    ]
    assert len({change[..., 1].tobytes() for change in changes[:8]}) > 2
    assert len({change[..., 1].tobytes() for change in changes}) > len(
        {change[..., 1].tobytes() for change in changes[:8]}
    )
