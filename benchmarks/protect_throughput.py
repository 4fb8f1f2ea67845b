"""Speed of ``protect`` against passes over the same files without a generator.

The first, (a), only decodes and encodes with Pillow and the settings that ``protect`` uses (for JPEG XL, which Pillow
does not write, those of PNG). The second, (b), also reads each file back, compares it and writes it durably, as every
release promises: what it costs more is no matter of the generator. The third is the first with Pillow's own settings,
which is what converting a folder by hand costs. All take the same number of workers and take turns, in one run.

Run from a checkout: ``python -m benchmarks.protect_throughput FOLDER --limit 400``. ``FOLDER`` holds images and a
``labels.csv``. On a machine that does other work, processor time is the steadier figure. ``--weights default`` measures
ready-made patterns; what ``protect`` does once a run, such as FLIP on a sample, is part of its time.
"""

import argparse
import io
import tempfile
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image, ImageChops

from benchmarks.untrained import write_untrained
from mtlue_cli.choices import ImageFormat, Quality
from mtlue_cli.files import write_atomically
from mtlue_cli.tasks.labels import read_label_file, released_labels
from mtlue_cli.workflows.progress import SilentProgress
from mtlue_cli.workflows.protect.config import ProtectConfig
from mtlue_cli.workflows.protect.run import protect_folder

OPTIONS: dict[str, dict[str, Any]] = {
    "png": {"compress_level": 1, "compress_type": Image.RLE},
    "webp": {"lossless": True, "exact": True, "method": 0, "quality": 20},
    "keep": {"quality": 95, "subsampling": 0},
}
OPTIONS["jxl"] = OPTIONS["png"]
FORMATS = {"jxl": "png", "keep": "jpeg"}
"""What Pillow writes where it is not what ``protect`` writes."""


def recode(
    images: Path,
    names: list[str],
    out: Path,
    image_format: ImageFormat,
    workers: int,
    checked: bool = False,
    options: Mapping[str, Any] | None = None,
) -> None:
    """Read, decode, encode with Pillow, write; ``checked``: read back, compare and write durably too."""
    settings = OPTIONS[image_format.value] if options is None else options

    def one(position: int) -> None:
        written = FORMATS.get(image_format.value, image_format.value)
        target = out / f"{position}.{written}"
        with Image.open(images / names[position]) as photo:
            upright = photo.convert("RGB")
        if not checked:
            upright.save(target, **settings)
            return
        stream = io.BytesIO()
        upright.save(stream, format=written, **settings)
        with Image.open(stream) as saved:
            if written != "jpeg" and ImageChops.difference(upright, saved).getbbox() is not None:
                raise RuntimeError(f"{target} is not what was encoded")
        write_atomically(target, stream.getvalue(), keep_name=False)

    out.mkdir()
    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(one, range(len(names))))


_SUFFIXES = (".png", ".webp", ".jxl", ".jpg", ".jpeg")


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
    parser.add_argument("--format", type=ImageFormat, choices=list(ImageFormat), default=ImageFormat.PNG)
    parser.add_argument("--fast", action="store_true")
    parser.add_argument("--quality", type=Quality, choices=list(Quality), default=Quality.HIGH)
    parser.add_argument("--weights", help="a generator that fits the labels; unset: an untrained one")
    arguments = parser.parse_args()
    labels = read_label_file(arguments.images / "labels.csv")
    rows = range(min(arguments.limit, len(labels.table)))
    names = list(labels.table.file_names[: arguments.limit])
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        (place / "labels.csv").write_bytes(released_labels(labels, {row: names[row] for row in rows}))
        weights = arguments.weights or str(write_untrained(place / "untrained.safetensors", labels.table.tasks))
        for turn in range(arguments.repeats):
            config = ProtectConfig(
                arguments.images,
                place / "labels.csv",
                place / f"release{turn}",
                weights=weights,
                image_format=arguments.format,
                fast=arguments.fast,
                quality=arguments.quality,
                workers=arguments.workers,
                device="cpu",
            )
            coded = partial(recode, arguments.images, names)
            folders = [place / f"{kind}{turn}" for kind in ("recoded", "checked", "default")]
            by_default: dict[str, Any] = {"lossless": True} if arguments.format is ImageFormat.WEBP else {}
            passes = {
                "decode and encode": partial(coded, folders[0], arguments.format, arguments.workers),
                "and check, durably": partial(coded, folders[1], arguments.format, arguments.workers, True),
                "by Pillow's defaults": partial(
                    coded, folders[2], arguments.format, arguments.workers, options=by_default
                ),
                "protect": partial(protect_folder, config, SilentProgress()),
            }
            seconds = {name: timed(work) for name, work in passes.items()}
            count = len(names)
            sizes = {
                name: sum(file.stat().st_size for file in where.rglob("*") if file.suffix in _SUFFIXES) / count / 1000
                for name, where in (("decode and encode", folders[0]), ("protect", config.release))
            }
            print(f"{sizes['decode and encode']:.1f} kB a file by Pillow, {sizes['protect']:.1f} by protect")
            for name, (clock, processor) in seconds.items():
                print(f"{name:20}{count / clock:5.0f} images/s, {1e3 * processor / count:5.2f} ms of processor each")
            whole = seconds.pop("protect")
            for name, plain in seconds.items():
                clock, processor = plain[0] / whole[0], plain[1] / whole[1]
                print(f"protect's speed against {name}: {clock:.2f} by the clock, {processor:.2f} by processor time")


if __name__ == "__main__":
    main()
