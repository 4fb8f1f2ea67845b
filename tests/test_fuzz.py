"""Flipped bytes and torn ends, seeded: of images, checkpoints and releases; faults are reported, never a traceback."""

import io
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mtlue_cli.errors import CheckpointError, ImageError, InputError
from mtlue_cli.generator.checkpoint import load_checkpoint
from mtlue_cli.images.decode import decode_bytes
from mtlue_cli.images.targets import stored_array
from mtlue_cli.release.records import FOLDER, LABELS_NAME, MANIFEST_NAME
from mtlue_cli.workflows.inspect import inspect_release
from mtlue_cli.workflows.progress import SilentProgress
from mtlue_cli.workflows.protect.config import ProtectConfig
from mtlue_cli.workflows.protect.run import protect_folder
from tests.small_set import write_checkpoint, write_images

FORMATS = ("JPEG", "PNG", "BMP", "TIFF", "WEBP")


def damaged(content: bytes, count: int, seed: int, within: int | None = None) -> Iterator[bytes]:
    """``count`` times ``content`` with one byte flipped in its first ``within`` bytes; every tenth time torn there."""
    rng = np.random.default_rng(seed)
    for turn in range(count):
        place = int(rng.integers(within or len(content)))
        changed = bytearray(content)
        changed[place] ^= int(rng.integers(1, 256))
        yield content[:place] if turn % 10 == 9 else bytes(changed)


@pytest.mark.parametrize("image_format", FORMATS)
def test_a_damaged_image_is_decoded_or_refused(image_format: str) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (20, 24, 3), dtype=np.uint8)
    stream = io.BytesIO()
    exif = Image.Exif()
    exif[0x010E] = "a description"
    Image.fromarray(pixels).save(stream, image_format, **({} if image_format == "BMP" else {"exif": exif}))
    outcomes: set[str] = set()
    for part in (64, None):
        for content in damaged(stream.getvalue(), 80, 2, part):
            try:
                decode_bytes(content)
            except ImageError as error:
                outcomes.add(str(error))
    assert outcomes
    assert "" not in outcomes


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "palette", "float", "array", "colours"])
def test_a_damaged_map_is_read_or_refused(kind: str) -> None:
    numbers = np.random.default_rng(1).integers(0, 9, (20, 24), dtype=np.uint8)
    stream = io.BytesIO()
    if kind in ("array", "colours"):
        np.save(stream, numbers if kind == "array" else np.repeat(numbers[..., None] / 9, 3, axis=2))
    elif kind == "float":
        Image.fromarray(numbers.astype(np.float32)).save(stream, "TIFF")
    else:
        picture = Image.fromarray(numbers)
        (picture.quantize(9) if kind == "palette" else picture).save(stream, "TIFF" if kind == "TIFF" else "PNG")
    outcomes: set[str] = set()
    for part in (80, None):
        for content in damaged(stream.getvalue(), 80, 4, part):
            try:
                assert stored_array(content).ndim in (2, 3)
                if kind == "colours":
                    decode_bytes(content)
            except ImageError as error:
                outcomes.add(str(error))
    assert outcomes
    assert "" not in outcomes


def test_a_damaged_checkpoint_is_refused_unless_nothing_of_it_changed(tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path / "generator.safetensors")
    content = path.read_bytes()
    header = 8 + int.from_bytes(content[:8], "little")
    whole = load_checkpoint(path)
    refusals: list[str] = []
    for part in (8, header, None):
        for changed in damaged(content, 100, 3, part):
            path.write_bytes(changed)
            try:
                loaded = load_checkpoint(path)
            except CheckpointError as error:
                refusals.append(str(error))
                continue
            assert loaded.card == whole.card
            state = whole.generator.state_dict()
            assert all(torch.equal(tensor, state[name]) for name, tensor in loaded.generator.state_dict().items())
    assert len(refusals) > 270
    assert all(str(path) in refusal for refusal in refusals)


def test_a_damaged_release_is_never_whole(tmp_path: Path) -> None:
    labels = write_images(tmp_path / "photos")
    weights = write_checkpoint(tmp_path / "generator.safetensors")
    config = ProtectConfig(tmp_path / "photos", labels, weights=str(weights), device="cpu")
    whole = protect_folder(config, SilentProgress()).release
    release = tmp_path / "damaged"
    shutil.copytree(whole, release)
    assert inspect_release(release, SilentProgress(), None, 1).faults == ()
    for name in ("photo1.png", "sub/photo0.png", LABELS_NAME, f"{FOLDER}/{MANIFEST_NAME}"):
        content = (whole / name).read_bytes()
        for changed in damaged(content, 30, 4):
            (release / name).write_bytes(changed)
            try:
                faults = inspect_release(release, SilentProgress(), None, 1).faults
            except InputError as error:
                faults = (str(error).removeprefix(f"{release}/"),)
            assert any(fault.startswith(name) for fault in faults)
        (release / name).write_bytes(content)
