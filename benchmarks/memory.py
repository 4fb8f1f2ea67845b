"""Memory and processor time of what grows with the number of images, not with their pixels.

Run from a checkout: ``python -m benchmarks.memory``. For each number of images it makes a release of photos that have
all the same bytes, and measures, in a process of its own each: reading the label file, reading the manifest,
``protect`` that finds nothing to do, and ``inspect``. It prints the peak of memory and processor time, what an image
adds to them, and what follows for ``--goal`` images by a straight line through the last two sizes.
"""

import argparse
import hashlib
import io
import os
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from mtlue_cli.keys import VARIABLE
from mtlue_cli.release.records import FileRecord
from mtlue_cli.tasks.labels import released_labels
from mtlue_cli.workflows.protect.config import ProtectConfig
from mtlue_cli.workflows.protect.plan import named_weights, plan_protection, read_inputs


def draw(folder: Path, count: int, tasks: int) -> None:
    """``count`` photos in folders of 1,000, and a release of them as ``protect`` would leave it.

    Nothing that is measured looks at more pixels than those of FLIP's sample, so all photos are one photo.
    """
    rng = np.random.default_rng(0)
    before, after = (_photo(rng.integers(64, 192, (8, 8, 3), dtype=np.uint8)) for _ in range(2))
    names = [f"{index // 1000:04d}/photo-{index:07d}.png" for index in range(count)]
    for name in names[::1000]:
        (folder / "images" / name).parent.mkdir(parents=True)
    for name in names:
        (folder / "images" / name).write_bytes(before)
    columns = [f"task{index}" for index in range(tasks)]
    rows = zip(names, rng.integers(0, 3, (count, tasks)).tolist(), strict=True)
    cells = "".join(f"{name},{','.join(map(str, row))}\n" for name, row in rows)
    (folder / "labels.csv").write_text(f"file_name,{','.join(columns)}\n{cells}")
    config = ProtectConfig(
        folder / "images", folder / "labels.csv", folder / "made", weights="default", device="cpu", workers=1
    )
    inputs = read_inputs(config)
    plan = plan_protection(config, inputs, named_weights(config, inputs, "default"))
    digests = [hashlib.sha256(content).hexdigest() for content in (before, after)]
    made: dict[int, str] = {}
    with plan.release.open(plan.run, plan.earlier, plan.sealer, config.images):
        records = []
        for row, name in enumerate(plan.table.file_names):
            target = plan.release.folder / plan.targets[row]
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(after)
            made[row] = plan.targets[row]
            records.append(
                FileRecord(plan.targets[row], name, *digests, plan.cells(row), 8.0, 32.5, mean_change=5.2, share=1.0)
            )
            plan.release.add(records[-1])
        plan.release.close(records, released_labels(plan.labels, made), None)


def _photo(pixels: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


@dataclass(frozen=True)
class Cost:
    """Peak of memory in bytes, and processor seconds, of a process."""

    peak: float
    seconds: float


def cost_of(*command: str) -> Cost:
    """Run Python with ``command`` in a process of its own.

    Raises:
        RuntimeError: It fails.
    """
    process = os.spawnv(os.P_NOWAIT, sys.executable, [sys.executable, *command])
    _, status, usage = os.wait4(process, 0)
    if status:
        raise RuntimeError(f"{' '.join(command)} ended with {status}")
    return Cost(1024 * usage.ru_maxrss, usage.ru_utime + usage.ru_stime)


def costs(folder: Path) -> dict[str, Cost]:
    """The cost of each part at one number of images."""
    labels, release = folder / "labels.csv", folder / "made"
    again = ["protect", str(folder / "images"), "--labels", str(labels), "--out", str(release), "--weights", "default"]
    read = "from pathlib import Path; from mtlue_cli.{} import {read} as read; kept = read(Path({path!r}))"
    labels_read = read.format("tasks.labels", read="read_label_file", path=str(labels))
    manifest_read = read.format("release.records", read="read_manifest", path=str(release))
    mtlue = ("-m", "mtlue_cli")
    return {
        "label file": cost_of("-c", labels_read),
        "manifest": cost_of("-c", manifest_read),
        "protect, nothing to do": cost_of(*mtlue, *again, "--workers", "1", "--device", "cpu", "--quiet"),
        "inspect": cost_of(*mtlue, "inspect", str(release), "--workers", "1", "--quiet"),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--counts", type=int, nargs="+", default=[1000, 16000, 64000])
    parser.add_argument("--tasks", type=int, default=5, help="label columns")
    parser.add_argument("--goal", type=int, default=1_000_000)
    arguments = parser.parse_args()
    found: dict[int, dict[str, Cost]] = {}
    for count in arguments.counts:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            os.environ[VARIABLE] = hashlib.sha256(b"benchmark").hexdigest()
            draw(folder, count, arguments.tasks)
            found[count] = costs(folder)
        for part, cost in found[count].items():
            print(f"{count:8,} {part:24}{cost.peak / 2**20:7.0f} MiB{cost.seconds:8.1f} s")
    if len(found) < 2:
        return
    (fewer, before), (more, after) = list(found.items())[-2:]
    for part, cost in after.items():
        size = (cost.peak - before[part].peak) / (more - fewer)
        seconds = (cost.seconds - before[part].seconds) / (more - fewer)
        left = arguments.goal - more
        print(
            f"{part:24}{size:6.0f} bytes and {1e6 * seconds:5.0f} us an image; {arguments.goal:,} images: "
            f"{(cost.peak + left * size) / 2**30:.2f} GiB, {cost.seconds + left * seconds:.0f} s"
        )


if __name__ == "__main__":
    main()
