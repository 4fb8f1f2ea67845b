"""Speed of ``protect`` against a pass that only decodes and encodes the same files.

Run from a checkout: ``python -m benchmarks.protect_throughput FOLDER --limit 400``. ``FOLDER`` holds images and a
``labels.csv``. Prints images a second and the ratio; at least 0.5 is wanted at 200x200 pixels.
"""

import argparse
import csv
import statistics
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks.untrained import write_untrained
from mtlue_cli.choices import ImageFormat
from mtlue_cli.images.decode import decode_image
from mtlue_cli.images.encode import encode_image
from mtlue_cli.tasks.labels import read_label_file
from mtlue_cli.workflows.progress import SilentProgress
from mtlue_cli.workflows.protect import ProtectConfig, protect_folder


def recode(images: Path, names: list[str], out: Path, image_format: ImageFormat, workers: int) -> float:
    """Images a second of a pass without a generator: read, decode, encode, write."""

    def one(position: int) -> None:
        photo = decode_image(images / names[position])
        content = encode_image(photo.pixels, photo, image_format)
        (out / f"{position}.{image_format.value}").write_bytes(content)

    out.mkdir()
    began = time.monotonic()
    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(one, range(len(names))))
    return len(names) / (time.monotonic() - began)


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
    ratios: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        with (place / "labels.csv").open("w", newline="") as stream:
            csv.writer(stream).writerows([labels.header, *rows])
        weights = arguments.weights or str(write_untrained(place / "untrained.safetensors", labels.table.tasks))
        for turn in range(arguments.repeats):
            plain = recode(arguments.images, names, place / f"recoded{turn}", arguments.format, arguments.workers)
            config = ProtectConfig(
                arguments.images,
                place / "labels.csv",
                place / f"release{turn}",
                weights=weights,
                image_format=arguments.format,
                workers=arguments.workers,
                device="cpu",
            )
            result = protect_folder(config, SilentProgress())
            protected = result.protected / result.seconds
            ratios.append(protected / plain)
            print(f"decode and encode {plain:.0f} images/s, protect {protected:.0f} images/s, ratio {ratios[-1]:.2f}")
    middle = statistics.median(ratios)
    print(f"{arguments.format.value}, {len(names)} images, {arguments.workers} workers: median ratio {middle:.2f}")


if __name__ == "__main__":
    main()
