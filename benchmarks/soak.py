"""Many tiny files through ``protect``, a kill, ``inspect`` and runs again: time and memory per file must stay flat.

Run from a checkout: ``python -m benchmarks.soak``, or ``--files 25000`` for 100,000. Each command is a process of its
own that starts as the command does. It prints what each took at N and at 4 N files, and the ratio per file: about 1 if
a command is linear, 4 if it is quadratic. The time of a command without any work is taken off.
"""

import argparse
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

# Imported here, once: each command is then forked in milliseconds, and all begin with the same memory.
import mtlue_cli.workflows.inspect
import mtlue_cli.workflows.protect.run  # noqa: F401
from benchmarks.kill_recovery import SHAPE, end_of, fork
from benchmarks.untrained import write_untrained
from mtlue_cli.choices import ExitCode
from mtlue_cli.commands.app import main as mtlue
from mtlue_cli.release.records import FOLDER, MANIFEST_NAME
from mtlue_cli.tasks.labels import read_label_file
from mtlue_cli.verification.audit import audit_release

TIMES = 4
LOOK_SECONDS = 0.1
LEAST_SECONDS = 0.2
"""Work of a command from which a ratio is printed; less is lost in what starting it takes."""


@dataclass(frozen=True)
class Cost:
    """What a command took: seconds, and peak memory of its process in MiB."""

    seconds: float
    peak: float


def draw(folder: Path, count: int) -> Path:
    """``count`` distinct images of 16 pixels a side in folders of 1,000, and their labels."""
    rng = np.random.default_rng(0)
    names = [f"{index // 1000:03d}/{index:06d}.png" for index in range(count)]
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(folder / name)
    rows = "".join(f"{name},{index % 2}\n" for index, name in enumerate(names))
    (folder / "labels.csv").write_text("file_name,t\n" + rows)
    return folder


def run(*words: str) -> None:
    """Run ``mtlue`` with some words."""
    sys.argv = ["mtlue", *words]
    mtlue()


def audit(release: Path, images: Path) -> None:
    """What ``verify`` does before it trains."""
    found = audit_release(release, images, read_label_file(images / "labels.csv").table)
    assert found.measured
    assert not found.faults


def cost_of(work: Callable[[], object], log: Path) -> Cost:
    """Do ``work`` in a process of its own."""
    began = time.monotonic()
    _, status, usage = os.wait4(fork(work, log), 0)
    if os.waitstatus_to_exitcode(status) != ExitCode.SUCCESS:
        raise SystemExit(f"it ended with {os.waitstatus_to_exitcode(status)}:\n{log.read_text()}")
    return Cost(time.monotonic() - began, usage.ru_maxrss / 1024)


def killed(work: Callable[[], object], manifest: Path, records: int, log: Path) -> Cost:
    """Begin ``work``, and kill it once so many records are written."""
    began = time.monotonic()
    process = fork(work, log)
    while not manifest.is_file() or manifest.read_bytes().count(b"\n") < records:
        time.sleep(LOOK_SECONDS)
        if os.waitid(os.P_PID, process, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
            break
    seconds = time.monotonic() - began
    os.kill(process, signal.SIGKILL)
    _, _, usage = os.wait4(process, 0)
    return Cost(seconds, usage.ru_maxrss / 1024)


def soak(place: Path, weights: Path, count: int) -> dict[str, Cost]:
    """What each command takes for ``count`` files."""
    images, out, log = draw(place / "images", count), place / "release", place / "log"
    protect = partial(run, "protect", str(images), "--labels", str(images / "labels.csv"), "--out", str(out))
    protect = partial(protect, "--weights", str(weights), "--device", "cpu", "--workers", "2")
    return {
        "protect, killed half-way": killed(protect, out / FOLDER / MANIFEST_NAME, count // 2, log),
        "resume": cost_of(protect, log),
        "inspect": cost_of(partial(run, "inspect", str(out)), log),
        "inspect --against": cost_of(partial(run, "inspect", str(out), "--against", str(images)), log),
        "audit of verify": cost_of(partial(audit, out, images), log),
        "run again": cost_of(protect, log),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=1000, help=f"N; {TIMES} N files are next")
    options = parser.parse_args(arguments)
    few, many = options.files, TIMES * options.files
    with tempfile.TemporaryDirectory() as folder:
        place, weights = Path(folder), Path(folder) / "tiny.safetensors"
        if end_of(fork(lambda: write_untrained(weights, config=SHAPE), place / "weights.log")) != ExitCode.SUCCESS:
            raise SystemExit(f"no generator could be made:\n{(place / 'weights.log').read_text()}")
        start_up = soak(place / "warm", weights, 2)
        costs = [soak(place / str(count), weights, count) for count in (few, many)]
    print(f"{'':26}{few:>10,} files{many:>10,} files   per file: time   memory")
    for name, before in start_up.items():
        first, then = costs[0][name], costs[1][name]
        work = [cost.seconds - before.seconds for cost in (first, then)]
        ratio = f"x {work[1] / TIMES / work[0]:4.2f}" if work[0] >= LEAST_SECONDS else "short "
        memory = f"{1024 * (then.peak - first.peak) / (many - few):+8.2f} KiB"
        shown = "".join(f"{cost.seconds:6.1f} s {cost.peak:5.0f} MiB" for cost in (first, then))
        print(f"{name:26}{shown}           {ratio} {memory}", flush=True)


if __name__ == "__main__":
    main()
