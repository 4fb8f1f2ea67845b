"""A tiny labelled set whose classes are levels of green and red, and releases of it made by hand."""

import io
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from mtlue_cli.choices import ImageFormat
from mtlue_cli.files import file_digest
from mtlue_cli.release.records import FileRecord, Manifest, QuarantineRecord, RunRecord, write_manifest, write_run
from mtlue_cli.tasks.labels import read_label_file
from mtlue_cli.tasks.spec import LabelTable

EPSILON = 16
CUE = 16
"""What a class adds to its channel; +-EPSILON turns it round. The noise of the images is wider than both."""
SIDE = 24

Pixels = npt.NDArray[np.uint8]
Shift = Callable[[int, int], tuple[int, int, int]]


def reversing(green: int, red: int) -> tuple[int, int, int]:
    """A shift that turns both classes' cues round: whoever learns from it is misled."""
    return EPSILON * (1 - 2 * red), EPSILON * (1 - 2 * green), 0


def useless(green: int, red: int) -> tuple[int, int, int]:  # noqa: ARG001 - a Shift
    """The same for all classes: a change that keeps nobody from learning."""
    return 1, -1, 1


@dataclass(frozen=True)
class MadeSet:
    """Where a set lies."""

    images: Path
    labels: Path

    @property
    def table(self) -> LabelTable:
        return read_label_file(self.labels).table


def make_set(folder: Path, count: int = 200, seed: int = 0, *, learnable: bool = True) -> MadeSet:
    """Draw ``count`` PNG images of 24 pixels with labels ``green`` and ``red``."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    rows = ["file_name,green,red"]
    for number in range(count):
        # Every class occurs however few the images are.
        green, red = divmod(number, 2) if number < 4 else (int(value) for value in rng.integers(0, 2, 2))
        pixels = rng.integers(60, 140, (SIDE, SIDE, 3))
        if learnable:
            pixels[..., 1] += CUE * green
            pixels[..., 0] += CUE * red
        name = f"{'ab'[number % 2]}/{number:03d}.png"
        (folder / name).parent.mkdir(exist_ok=True)
        Image.fromarray(pixels.astype(np.uint8)).save(folder / name)
        rows.append(f"{name},{green},{red}")
    labels = folder / "labels.csv"
    labels.write_text("\n".join(rows) + "\n")
    return MadeSet(folder, labels)


def make_release(made: MadeSet, folder: Path, shift: Shift = reversing, epsilon: int = EPSILON) -> Manifest:
    """Write a whole release of ``made``, every image shifted by its labels."""
    table = made.table
    records = []
    for row, name in enumerate(table.file_names):
        green, red = (int(table.columns[task][row]) for task in ("green", "red"))
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(_shifted((made.images / name).read_bytes(), shift(green, red)))
        labels = {"green": str(green), "red": str(red)}
        digest = file_digest(made.images / name)
        records.append(
            FileRecord(name, name, digest, file_digest(path), labels, float(max(map(abs, shift(green, red)))), 30.0)
        )
    (folder / "labels.csv").write_text(made.labels.read_text())
    run = RunRecord(epsilon, "hand", "0" * 64, ("green", "red"), ImageFormat.PNG, keep_metadata=False, complete=True)
    manifest = Manifest(run, tuple(records), ())
    save_manifest(folder, manifest)
    return manifest


@cache
def _shifted(png: bytes, by: tuple[int, int, int]) -> bytes:
    """The image with ``by`` added to the values of its channels; many tests make the same release."""
    pixels = np.asarray(Image.open(io.BytesIO(png))).astype(int) + np.array(by)
    shifted = io.BytesIO()
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(shifted, "PNG")
    return shifted.getvalue()


def save_manifest(folder: Path, manifest: Manifest) -> None:
    """Write ``manifest`` in place of the release's own."""
    write_run(folder, manifest.run)
    write_manifest(folder, [*manifest.files, *manifest.quarantine])


def quarantine_first(folder: Path, manifest: Manifest) -> str:
    """Take the first file out of the release as an unreadable image would be; returns its name."""
    first = manifest.files[0]
    (folder / first.file_name).unlink()
    labels = folder / "labels.csv"
    labels.write_text(
        "".join(line for line in labels.read_text().splitlines(True) if not line.startswith(first.source))
    )
    save_manifest(
        folder, replace(manifest, files=manifest.files[1:], quarantine=(QuarantineRecord(first.source, "damaged"),))
    )
    return first.source
