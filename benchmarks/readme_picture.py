"""The picture of README: a public-domain portrait, protected by the shipped weights, and ten times what was added.

    python benchmarks/readme_picture.py PORTRAIT docs/protected.png

PORTRAIT is ``skimage/data/astronaut.png`` of scikit-image: Eileen Collins, photographed by NASA, public domain.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

FACE = (150, 10, 310, 170)
SIDE = 320
GAP = 8


def main(portrait: Path, out: Path) -> None:
    """Cut the face out, protect it with the command, and put original, protected and difference side by side."""
    with tempfile.TemporaryDirectory() as folder:
        photos, release = Path(folder, "photos"), Path(folder, "release")
        photos.mkdir()
        with Image.open(portrait) as image:
            image.convert("RGB").crop(FACE).resize((SIDE, SIDE), Image.Resampling.LANCZOS).save(photos / "face.png")
        (photos / "labels.csv").write_text("file_name,age,race,gender\nface.png,30-39,white,female\n")
        command = ["mtlue", "protect", photos, "--labels", photos / "labels.csv", "--weights", "utkface-normal"]
        subprocess.run([*command, "--out", release], check=True)
        before, after = (np.asarray(Image.open(path / "face.png")).astype(int) for path in (photos, release))
    difference = np.clip(128 + 10 * (after - before), 0, 255)
    white = np.full((SIDE, GAP, 3), 255)
    row = np.concatenate([before, white, after, white, difference], axis=1)
    Image.fromarray(row.astype(np.uint8)).save(out, optimize=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
