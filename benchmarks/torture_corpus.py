"""The real ``mtlue protect`` on a folder of hostile image files, each accounted for and measured.

Run from a checkout: ``python -m benchmarks.torture_corpus FOLDER``. Made for Pillow's test images (``Tests/images`` of
github.com/python-pillow/Pillow: every format that it reads, and what once crashed it); any folder will do. Every file
gets a row in a label file, whatever its name, and a process of its own protects them all with a generator drawn at
random. Every protected file is then opened with plain Pillow and measured against its original.

Exit code 1, with the findings listed, where a file is neither protected nor refused with a reason, a saved pixel is
further from its original than epsilon, a file takes too long, too much memory is used, the process fails, or a library
writes to the terminal.
"""

import argparse
import csv
import json
import re
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageChops, ImageOps

from benchmarks.untrained import write_untrained
from mtlue_cli.choices import ExitCode, ImageFormat
from mtlue_cli.release.records import FileRecord, Manifest, read_manifest

EPSILON = 8
SLOWEST = 10.0
"""Seconds a file."""
MOST_MEMORY = 2048
"""MiB of the whole process."""


def find_files(folder: Path) -> list[str]:
    """Every file below ``folder``, hidden or not, whatever its suffix."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def write_labels(path: Path, names: list[str]) -> Path:
    """A label file with a row for each name."""
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["file_name", "t"])
        writer.writerows([name, index % 2] for index, name in enumerate(names))
    return path


def protect_and_time(times: str, arguments: list[str]) -> None:
    """Run ``mtlue protect`` in this process and write the seconds of each file as JSON."""
    from mtlue_cli.commands.app import main as mtlue
    from mtlue_cli.workflows.protect.photos import PhotoSteps

    seconds: dict[int, float] = defaultdict(float)

    def timed(step: Callable[..., Any], row_of: Callable[[Any], int]) -> Callable[..., Any]:
        def within(steps: PhotoSteps, given: Any, *rest: Any) -> Any:  # noqa: ANN401 - whatever the step takes
            began = time.monotonic()
            try:
                return step(steps, given, *rest)
            finally:
                seconds[row_of(given)] += time.monotonic() - began

        return within

    for name, row_of in {
        "read": lambda row: row,
        "prepare": lambda row: row,
        "encode": lambda prepared: prepared.row,
    }.items():
        setattr(PhotoSteps, name, timed(getattr(PhotoSteps, name), row_of))
    sys.argv = ["mtlue", "protect", *arguments]
    try:
        mtlue()
    finally:
        Path(times).write_text(json.dumps(seconds))


def upright(path: Path) -> Image.Image:
    """The picture in a file as Pillow alone reads it, turned as it is to be seen."""
    opened = Image.open(path)
    opened.load()
    try:
        return ImageOps.exif_transpose(opened)
    except Exception:  # EXIF data that cannot be read turns nothing
        return opened


def distance(original: Path, released: Path) -> float:
    """Largest difference of a colour value in 255ths; infinite where size, depth or opacity differ."""
    before, after = upright(original), upright(released)
    if before.size != after.size:
        return float("inf")
    if after.mode.startswith("I"):
        deep = np.abs(np.asarray(before).astype(np.int64) - np.asarray(after).astype(np.int64))
        return float(deep.max()) / 257
    extremes = ImageChops.difference(before.convert("RGBA"), after.convert("RGBA")).getextrema()
    *colours, opacity = [float(largest) for _, largest in extremes]  # type: ignore[misc]  # a pair a channel
    return float("inf") if opacity else max(colours)


def general(reason: str) -> str:
    """A refusal without the figures and names of its file."""
    return re.sub(r"'[^']*'", "'...'", re.sub(r"\d+(\.\d+)?", "N", reason))


def judge(names: list[str], manifest: Manifest) -> list[str]:
    """Print what became of the files; whatever is wrong, a line each."""
    faults: list[str] = []
    refused = {record.source: record.reason for record in manifest.quarantine}
    protected = {record.source: record for record in manifest.files}
    listed = Counter([*refused, *protected])
    faults += [f"{name}: stands {listed[name]} times in the manifest" for name in names if listed[name] != 1]
    faults += [f"{name}: refused without a reason" for name, reason in refused.items() if not reason.strip()]
    print(f"{len(names)} files, {len(protected)} protected, {len(refused)} refused")
    examples = {general(reason): name for name, reason in refused.items()}
    for reason, count in Counter(general(reason) for reason in refused.values()).most_common():
        print(f"{count:5} {reason}  ({examples[reason]})")
    return faults


def measure(folder: Path, release: Path, records: tuple[FileRecord, ...], lossy: bool) -> list[str]:
    """Measure every released file with plain Pillow; whatever is wrong, a line each."""
    faults: list[str] = []
    largest = 0.0
    for record in records:
        try:
            found = distance(folder / record.source, release / record.file_name)
        except Exception as error:  # the finding is that it cannot be opened
            faults.append(f"{record.source}: released, but cannot be measured: {error}")
            continue
        largest = max(largest, found)
        if found > EPSILON and not lossy:
            faults.append(f"{record.source}: changed by {found:g}/255, the bound is {EPSILON}/255")
    print(f"largest change {largest:g}/255 over {len(records)} files measured")
    return faults


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--format", type=ImageFormat, default=ImageFormat.PNG, choices=list(ImageFormat))
    parser.add_argument("--keep-metadata", action="store_true")
    parser.add_argument("--run", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.run:
        protect_and_time(arguments.run[0], arguments.run[1:])
        return
    if arguments.folder is None:
        parser.error("give the folder")
    warnings.simplefilter("ignore")  # of Pillow, in the measurement
    Image.MAX_IMAGE_PIXELS = None
    folder: Path = arguments.folder
    names = find_files(folder)
    with tempfile.TemporaryDirectory() as made:
        place = Path(made)
        release, times = place / "release", place / "times.json"
        labels = write_labels(place / "labels.csv", names)
        weights = write_untrained(place / "untrained.safetensors")
        command = [sys.executable, "-m", "benchmarks.torture_corpus", "--run", str(times), str(folder), "--labels"]
        command += [str(labels), "--weights", str(weights), "--out", str(release), "--epsilon", str(EPSILON)]
        command += [
            "--device",
            "cpu",
            "--quiet",
            "--format",
            arguments.format.value,
            "--json",
            str(place / "result.json"),
        ]
        command += ["--keep-metadata"] if arguments.keep_metadata else []
        began = time.monotonic()
        ended = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
        wall = time.monotonic() - began
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
        faults = [f"on the terminal: {line}" for line in (ended.stdout + ended.stderr).splitlines()]
        if ended.returncode not in (ExitCode.SUCCESS, ExitCode.QUARANTINE):
            faults.append(f"the process ended with {ended.returncode}")
        if (release / ".mtlue").is_dir():
            manifest = read_manifest(release)
            seconds = {names[int(row)]: spent for row, spent in json.loads(times.read_text()).items()}
            faults += judge(names, manifest)
            faults += measure(folder, release, manifest.files, arguments.format is ImageFormat.KEEP)
            slowest = max(seconds, key=lambda name: seconds[name])
            print(f"slowest file {seconds[slowest]:.2f} s ({slowest}), all {wall:.1f} s, peak memory {peak:.0f} MiB")
            faults += [f"{name}: took {spent:.1f} s" for name, spent in seconds.items() if spent > SLOWEST]
        if peak > MOST_MEMORY:
            faults.append(f"peak memory {peak:.0f} MiB, wanted at most {MOST_MEMORY}")
    print(f"{len(faults)} findings")
    for fault in faults:
        print(f"  {fault}")
    raise SystemExit(1 if faults else 0)


if __name__ == "__main__":
    main()
