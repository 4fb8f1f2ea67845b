"""Lay out a small set of grey chest X-rays for measuring; no image of it is part of this repository.

Usage: python benchmarks/chest_xrays.py SOURCE OUT

SOURCE is a checkout of the public repository muhammedtalo/COVID-19. Its folders No_findings and Pneumonia hold 500
frontal X-rays each from NIH's ChestX-ray8, whose use NIH does not restrict if it is acknowledged (Wang et al., CVPR
2017). OUT gets ``train`` (800 images) and ``test`` (200), each with a ``labels.csv`` of one column, ``finding``.
"""

import csv
import random
import sys
from pathlib import Path

from PIL import Image

CLASSES = ("No_findings", "Pneumonia")
TEST_IMAGES = 100
SIDE = 256


def lay_out(source: Path, out: Path) -> None:
    """Write both parts: grey PNGs of 256 pixels, 100 of each class for testing."""
    rng = random.Random(0)
    rows: dict[str, list[tuple[str, str]]] = {"train": [], "test": []}
    for name in CLASSES:
        files = sorted((source / "X-Ray Image DataSet" / name).iterdir(), key=lambda path: path.name)
        rng.shuffle(files)
        for index, file in enumerate(files):
            part = "test" if index < TEST_IMAGES else "train"
            target = f"{name.lower()}_{index:03}.png"
            (out / part).mkdir(parents=True, exist_ok=True)
            with Image.open(file) as image:
                image.convert("L").resize((SIDE, SIDE), Image.Resampling.LANCZOS).save(out / part / target)
            rows[part].append((target, name.lower()))
    for part, own in rows.items():
        with (out / part / "labels.csv").open("w", newline="") as stream:
            csv.writer(stream).writerows([("file_name", "finding"), *sorted(own)])


if __name__ == "__main__":
    lay_out(Path(sys.argv[1]), Path(sys.argv[2]))
