"""Releases of fixed photos, labels, keys and weights: pixels, manifest and run record stay as they were.

Bytes of files depend on the version of their codec, so decoded pixels are compared. After a change that is meant,
``MTLUE_WRITE_GOLDEN=1 pytest tests/golden`` writes the expected values anew; the difference belongs in the commit.
"""

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mtlue_cli import keys
from mtlue_cli.choices import ImageFormat, Unlabelled
from mtlue_cli.generator import shipped
from mtlue_cli.generator.checkpoint import CheckpointCard, save_checkpoint
from mtlue_cli.generator.model import GeneratorConfig, PerturbationGenerator
from mtlue_cli.images.decode import decode_image
from mtlue_cli.keys import VARIABLE
from mtlue_cli.release.records import FOLDER, LABELS_NAME, LOCK_NAME, MANIFEST_NAME, RUN_NAME, read_manifest
from mtlue_cli.release.seal import SEAL_PATH, authenticate, trust_of
from mtlue_cli.workflows.progress import SilentProgress
from mtlue_cli.workflows.protect.config import ProtectConfig
from mtlue_cli.workflows.protect.run import protect_folder
from tests.dense_sample import TASKS as DENSE_TASKS
from tests.small_set import SHAPE, write_checkpoint
from tests.workflows.test_dense import READING, write_scenes

EXPECTED = Path(__file__).with_name("releases.json")
WRITES = bool(os.environ.get("MTLUE_WRITE_GOLDEN"))

Photo = Callable[[Path, np.ndarray], None]


def _saved(mode: str | None = None, **options: Any) -> Photo:  # noqa: ANN401 - Pillow's
    def write(path: Path, pixels: np.ndarray) -> None:
        image = Image.fromarray(pixels)
        (image.convert(mode) if mode else image).save(path, **options)

    return write


PHOTOS: dict[str, Photo] = {
    "a.png": _saved(),
    "sub/b.jpg": _saved(quality=92),
    "sub/c.png": lambda path, pixels: Image.fromarray(np.dstack([pixels, pixels[..., :1]])).save(path),
    "d.tif": _saved("L"),
    "e.png": lambda path, pixels: Image.fromarray(pixels[..., 0].astype(np.uint16) * 257).save(path),
    "f.webp": _saved(lossless=True),
    "g.png": _saved("P"),
    "h.npy": lambda path, pixels: np.save(path, (pixels / 255).astype(np.float32)),
    "i.jpg": _saved(quality=90, exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"),
    "j.bmp": _saved(),
}
"""File name to what writes it; `i.jpg` is turned by its EXIF orientation."""


def _photos(folder: Path) -> Path:
    rng = np.random.default_rng(5)
    (folder / "sub").mkdir(parents=True)
    rows = ["file_name,colour,round,note"]
    for index, (name, write) in enumerate(PHOTOS.items()):
        coarse = rng.integers(20, 236, (6, 5 + index, 3), dtype=np.uint8)
        write(folder / name, np.asarray(Image.fromarray(coarse).resize((40 + 3 * index, 36), Image.Resampling.BICUBIC)))
        colour, rounded = ("red", "green", "blue")[index % 3], str(index % 2)
        rows.append(f"{name},{colour if index != 3 else ''},{rounded if index not in (3, 4) else ''},{index % 4}")
    (folder / "labels.csv").write_text("\n".join(rows) + "\n")
    return folder


def _config(folder: Path, weights: str = "own.safetensors", **options: Any) -> ProtectConfig:  # noqa: ANN401 - any field
    named = weights if weights == "default" else str(folder.parent / weights)
    return ProtectConfig(
        folder, folder / "labels.csv", out=folder.parent / "release", weights=named, device="cpu", **options
    )


def _plain(folder: Path) -> ProtectConfig:
    return _config(_photos(folder))


def _keyed(folder: Path) -> ProtectConfig:
    return _config(_photos(folder), "default")


def _keyed_without_a_column(folder: Path) -> ProtectConfig:
    return _config(_photos(folder), "default", exclude=("note",), epsilon=5, unlabelled=Unlabelled.PROTECT)


def _kept_formats(folder: Path) -> ProtectConfig:
    return _config(_photos(folder), image_format=ImageFormat.KEEP, keep_metadata=True)


def _webp(folder: Path) -> ProtectConfig:
    return _config(_photos(folder), image_format=ImageFormat.WEBP, epsilon=4)


def _one_task(folder: Path) -> ProtectConfig:
    return _config(_photos(folder), tasks=("round",), unlabelled=Unlabelled.PROTECT)


def _resumed(folder: Path) -> ProtectConfig:
    """The last photos come after a first run, and one photo changes."""
    config = _config(_photos(folder), "default")
    labels = folder / "labels.csv"
    whole = labels.read_text()
    labels.write_text("\n".join(whole.splitlines()[:6]) + "\n")
    first = replace(config, unlabelled=Unlabelled.SKIP)
    protect_folder(first, SilentProgress())
    labels.write_text(whole)
    PHOTOS["a.png"](folder / "a.png", np.full((30, 44, 3), (90, 120, 200), np.uint8))
    return config


def _dense(folder: Path, weights: str = "dense.safetensors") -> ProtectConfig:
    write_scenes(folder)
    generator = GeneratorConfig(**SHAPE)
    card = CheckpointCard(
        tasks=DENSE_TASKS,
        epsilon=8,
        image_size=16,
        objective="tap",
        settings={},
        generator=asdict(generator),
        data_digest="0" * 64,
        licence="Apache-2.0",
        versions={},
        created="2020-01-01T00:00:00+00:00",
    )
    save_checkpoint(folder.parent / "dense.safetensors", PerturbationGenerator(generator, DENSE_TASKS, 0), card)
    return _config(folder, weights, reading=READING)


def _keyed_masks(folder: Path) -> ProtectConfig:
    write_scenes(folder)
    return _config(folder, "default", reading=READING, tasks=("bright", "parts"))


CASES: dict[str, Callable[[Path], ProtectConfig]] = {
    "plain": _plain,
    "keyed": _keyed,
    "keyed-without-a-column": _keyed_without_a_column,
    "keep": _kept_formats,
    "webp": _webp,
    "one-task": _one_task,
    "resumed": _resumed,
    "dense": _dense,
    "keyed-masks": _keyed_masks,
}


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def _described(path: Path) -> str:
    """Shape, type and digest of what an image file decodes to."""
    image = decode_image(path)
    alpha = b"" if image.alpha is None else image.alpha.tobytes()
    size = "x".join(map(str, image.pixels.shape))
    return f"{size} {image.pixels.dtype} {_digest(image.pixels.tobytes() + alpha)}"


def _content(path: Path) -> bytes:
    """A file's bytes; of an array, whose last bits depend on the processor, its values to three digits."""
    return path.read_bytes() if path.suffix != ".npy" else (np.load(path).round(3) + 0.0).tobytes()


def _found(release: Path) -> dict[str, Any]:
    """All that a release is, without what depends on versions of libraries, or on the processor.

    It decides about the last bits of drawn weights and of measured figures.
    """
    run = json.loads((release / FOLDER / RUN_NAME).read_text())
    for name in ("versions", "digests", "flip", "created", "weights_sha256"):
        run.pop(name, None)
    records = [json.loads(line) for line in (release / FOLDER / MANIFEST_NAME).read_text().splitlines()]
    for record in records:
        for name in ("sha256", "source_sha256"):
            record.pop(name, None)
        record |= {name: round(value, 2) for name, value in record.items() if isinstance(value, float)}
        if "maps" in record:
            record["maps"] = sorted(record["maps"])
        if "reason" in record:
            record["reason"] = record["reason"].replace(str(release.parent), "")
    images = {record["file_name"] for record in records if "file_name" in record}
    names = {path.relative_to(release).as_posix() for path in release.rglob("*") if path.is_file()}
    others = {name for name in names - images if not name.startswith(FOLDER)}
    return {
        "images": {name: _described(release / name) for name in sorted(images)},
        "files": _digest(b"".join(name.encode() + _content(release / name) for name in sorted(others))),
        "labels": (release / LABELS_NAME).read_text().splitlines()[:4],
        "manifest": {record["source"]: _digest(json.dumps(record, sort_keys=True).encode()) for record in records},
        "record": next(record for record in records if "file_name" in record),
        "run": run,
    }


@pytest.mark.parametrize("name", CASES)
def test_a_release_is_as_it_was(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shipped, "weights_folder", lambda: tmp_path / "weights")
    monkeypatch.setattr(keys, "_is_guessable", lambda _: False)  # the key of these releases is refused by now
    monkeypatch.setenv(VARIABLE, "5a" * 32)
    write_checkpoint(tmp_path / "weights" / "default.safetensors", None)
    write_checkpoint(tmp_path / "own.safetensors")
    config = CASES[name](tmp_path / "photos")
    protect_folder(config, SilentProgress())
    found = _found(config.release)
    expected = json.loads(EXPECTED.read_text()) if EXPECTED.exists() else {}
    if WRITES:
        expected[name] = found
        EXPECTED.write_text(json.dumps(expected, indent=1, sort_keys=True) + "\n")
    assert found == expected[name]
    again = protect_folder(config, SilentProgress())
    assert again.protected == 0
    assert _found(config.release) == found
    assert {path.name for path in (config.release / FOLDER).iterdir()} - {LOCK_NAME} == {
        *(RUN_NAME, MANIFEST_NAME, PurePosixPath(SEAL_PATH).name)
    }
    assert authenticate(config.release, read_manifest(config.release), trust_of(None, None)).by
