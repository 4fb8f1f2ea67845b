"""Peak memory of ``protect`` at 1,000 and at 10,000 images: it must stay flat.

Run from a checkout: ``python -m benchmarks.protect_memory``. Every run is a process of its own on generated images.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.untrained import write_untrained


def draw(folder: Path, count: int, side: int) -> Path:
    """``count`` noise images, few of them distinct, and their labels."""
    rng = np.random.default_rng(0)
    folder.mkdir()
    first = folder / "0.jpg"
    Image.fromarray(rng.integers(0, 256, (side, side, 3), dtype=np.uint8)).save(first)
    content = first.read_bytes()
    for index in range(1, count):
        (folder / f"{index}.jpg").write_bytes(content)
    rows = "".join(f"{index}.jpg,{index % 2}\n" for index in range(count))
    (folder / "labels.csv").write_text("file_name,t\n" + rows)
    return folder


def protect_and_tell(images: str, out: str, weights: str) -> None:
    """Protect in this process and print its peak memory in KiB."""
    from mtlue_cli.workflows.progress import SilentProgress
    from mtlue_cli.workflows.protect.config import ProtectConfig
    from mtlue_cli.workflows.protect.run import protect_folder

    config = ProtectConfig(Path(images), Path(images) / "labels.csv", Path(out), weights=weights, device="cpu")
    protect_folder(config, SilentProgress())
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--counts", type=int, nargs="+", default=[1000, 10000])
    parser.add_argument("--side", type=int, default=64, help="pixels")
    parser.add_argument("--run", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.run:
        protect_and_tell(*arguments.run)
        return
    peaks: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        weights = write_untrained(place / "untrained.safetensors")
        for count in arguments.counts:
            images = draw(place / f"images{count}", count, arguments.side)
            command = [sys.executable, "-m", "benchmarks.protect_memory", "--run"]
            measured = subprocess.run(
                [*command, str(images), str(place / f"release{count}"), str(weights)],
                check=True,
                capture_output=True,
                text=True,
            )
            peaks.append(int(measured.stdout) / 1024)
            print(f"{count} images of {arguments.side}x{arguments.side}: peak {peaks[-1]:.0f} MiB")
    growth = 1024 * (peaks[-1] - peaks[0]) / (arguments.counts[-1] - arguments.counts[0])
    print(f"ratio {peaks[-1] / peaks[0]:.2f}, {growth:.2f} KiB an image")


if __name__ == "__main__":
    main()
