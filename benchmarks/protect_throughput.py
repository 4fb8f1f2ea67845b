"""Speed of ``protect`` against a pass that only decodes and encodes the same files.

Run from a checkout: ``python -m benchmarks.protect_throughput FOLDER --limit 400``. ``FOLDER`` holds images and a
``labels.csv``. At least half of that pass's speed is wanted at 200x200 pixels. On a machine that does other
work, processor time is the steadier figure.
"""

import argparse
import csv
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image

from benchmarks.untrained import write_untrained
from mtlue_cli.choices import ImageFormat
from mtlue_cli.tasks.labels import read_label_file
from mtlue_cli.workflows.progress import SilentProgress
from mtlue_cli.workflows.protect import ProtectConfig, protect_folder

OPTIONS: dict[str, dict[str, Any]] = {
    "png": {"compress_level": 1, "compress_type": Image.RLE},
    "webp": {"lossless": True, "exact": True, "method": 0, "quality": 50},
}


def recode(images: Path, names: list[str], out: Path, image_format: ImageFormat, workers: int) -> None:
    """The pass to compare with: read, decode, encode with Pillow, write; no generator, no check of what was saved."""

    def one(position: int) -> None:
        with Image.open(images / names[position]) as photo:
            target = out / f"{position}.{image_format.value}"
            photo.convert("RGB").save(target, **OPTIONS[image_format.value])

    out.mkdir()
    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(one, range(len(names))))


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """Seconds on the wall and of the processor, over all threads."""
    wall, processor = time.monotonic(), time.process_time()
    work()
    return time.monotonic() - wall, time.process_time() - processor


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("images", type=Path)
    parser.add_argument("--limit", type=int, default=400)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument(
        "--format", type=ImageFormat, choices=[ImageFormat.PNG, ImageFormat.WEBP], default=ImageFormat.PNG
    )
    parser.add_argument("--weights", help="a generator that fits the labels; unset: an untrained one")
    arguments = parser.parse_args()
    labels = read_label_file(arguments.images / "labels.csv")
    rows = labels.rows[: arguments.limit]
    names = [row[labels.file_index] for row in rows]
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        with (place / "labels.csv").open("w", newline="") as stream:
            csv.writer(stream).writerows([labels.header, *rows])
        weights = arguments.weights or str(write_untrained(place / "untrained.safetensors", labels.table.tasks))
        for turn in range(arguments.repeats):
            config = ProtectConfig(
                arguments.images,
                place / "labels.csv",
                place / f"release{turn}",
                weights=weights,
                image_format=arguments.format,
                workers=arguments.workers,
                device="cpu",
            )
            again = place / f"recoded{turn}"
            plain = timed(partial(recode, arguments.images, names, again, arguments.format, arguments.workers))
            whole = timed(partial(protect_folder, config, SilentProgress()))
            count = len(names)
            print(
                f"decode and encode: {count / plain[0]:.0f} images/s, {1e3 * plain[1] / count:.2f} ms of processor each"
            )
            print(
                f"protect:           {count / whole[0]:.0f} images/s, {1e3 * whole[1] / count:.2f} ms of processor each"
            )
            clock, processor = plain[0] / whole[0], plain[1] / whole[1]
            print(f"ratio of speeds:   {clock:.2f} by the clock, {processor:.2f} by processor time")


if __name__ == "__main__":
    main()
