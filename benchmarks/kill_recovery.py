"""Kill ``mtlue protect`` at random moments and run it again: the release must be that of an undisturbed run.

Run from a checkout: ``python -m benchmarks.kill_recovery``. Every run is a process of its own that starts as the
command does. Every second one uses weights that take a key; all are sealed. After each kill, every image under a final
name is decoded and measured against its original; after the run that follows, the whole tree, records included, is
compared byte for byte. Exit code 1 if anything differs.
"""

import argparse
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

# Imported here, once: each run is then forked in milliseconds. torch must not compute in this process: a fork of one
# whose threads have started waits for them for ever.
import mtlue_cli.workflows.protect.run  # noqa: F401
from benchmarks.untrained import write_untrained
from mtlue_cli.choices import ExitCode
from mtlue_cli.commands.app import main as mtlue
from mtlue_cli.generator.checkpoint import CheckpointCard, save_checkpoint
from mtlue_cli.generator.model import GeneratorConfig, PerturbationGenerator
from mtlue_cli.images.decode import decode_image
from mtlue_cli.images.folder import find_images
from mtlue_cli.perturbation.effect import measure_change
from mtlue_cli.release.seal import SEAL_PATH
from mtlue_cli.tasks.spec import TaskSet

EPSILON = 8
SHAPE = GeneratorConfig(
    epsilon=EPSILON, image_size=16, encoder_width=8, label_channels=4, label_grid=4, decoder_width=8, decoder_depth=1
)


@dataclass(frozen=True)
class Trial:
    """A folder of images, the options of a run, and what an undisturbed one makes of it."""

    images: Path
    words: tuple[str, ...]
    reference: dict[str, bytes]
    seconds: float

    def start(self, out: Path) -> int:
        """Start a run; returns the id of its process."""
        return _start(self.images, self.words, out)

    def faults_after_kill(self, out: Path) -> list[str]:
        """What stands half written, or out of bounds, under a final name."""
        faults = []
        for name in find_images(out) if out.is_dir() else ():
            if (out / name).read_bytes() != self.reference.get(name):
                faults.append(f"{name}: other bytes than in the undisturbed run")
            before, after = decode_image(self.images / name.replace(".png", ".jpg")), decode_image(out / name)
            if measure_change(before.pixels, after.pixels).largest > EPSILON:
                faults.append(f"{name}: beyond the bound")
        return faults


def tree(folder: Path) -> dict[str, bytes]:
    """Every file of a folder, hidden ones and records included."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def fork(work: Callable[[], object], log: Path) -> int:
    """Do ``work`` in a process of its own that writes to ``log``; returns its id."""
    sys.stdout.flush()
    process = os.fork()
    if process:
        return process
    code = int(ExitCode.UNEXPECTED)
    try:
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(output, 1)
        os.dup2(output, 2)
        work()
        code = int(ExitCode.SUCCESS)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0
    finally:
        os._exit(code)


def _start(images: Path, more: Sequence[str], out: Path) -> int:
    options = ["--labels", str(images / "labels.csv"), "--out", str(out), *more]
    words = ["mtlue", "protect", str(images), *options, "--device", "cpu", "--batch-size", "4", "--workers", "2"]

    def protect() -> None:
        sys.argv = words
        mtlue()

    return fork(protect, out.with_suffix(".log"))


def end_of(process: int) -> int:
    """Exit code of a process, or the negative number of the signal that ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def _draw(folder: Path, count: int) -> Path:
    """``count`` distinct JPEG images of noise and their labels."""
    rng = np.random.default_rng(0)
    folder.mkdir()
    for index in range(count):
        Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(folder / f"{index}.jpg")
    rows = "".join(f"{index}.jpg,{index % 2}\n" for index in range(count))
    (folder / "labels.csv").write_text("file_name,t\n" + rows)
    return folder


def _write_universal(path: Path) -> None:
    """Save weights with random values that take a key."""
    shape, none = GeneratorConfig(EPSILON, 48, encoder_width=8, decoder_width=8, decoder_depth=1), TaskSet(())
    card = CheckpointCard(
        none, EPSILON, shape.image_size, "tap", {}, asdict(shape), "", "MIT", {}, "1970", universal=True
    )
    save_checkpoint(path, PerturbationGenerator(shape, None), card)


def prepare(place: Path, count: int) -> tuple[Trial, ...]:
    """Draw ``count`` images, make weights of both kinds, and protect the images with each once without disturbance."""
    os.environ["XDG_CONFIG_HOME"] = str(place / "config")  # for the key that seals
    tiny, universal, key = place / "tiny.safetensors", place / "universal.safetensors", place / "key"
    key.write_text(random.Random(0).randbytes(32).hex())
    key.chmod(0o600)
    for make in (partial(write_untrained, tiny, config=SHAPE), partial(_write_universal, universal)):
        if end_of(fork(make, place / "weights.log")) != ExitCode.SUCCESS:
            raise SystemExit(f"no generator could be made:\n{(place / 'weights.log').read_text()}")
    images = _draw(place / "images", count)
    trials = []
    for name, words in (
        ("sealed", ("--weights", str(tiny))),
        ("keyed", ("--weights", str(universal), "--key", str(key))),
    ):
        began, out = time.monotonic(), place / name
        code = end_of(_start(images, words, out))
        if code != ExitCode.SUCCESS:
            raise SystemExit(f"the undisturbed run ended with {code}:\n{out.with_suffix('.log').read_text()}")
        assert (out / SEAL_PATH).is_file()
        trials.append(Trial(images, words, tree(out), time.monotonic() - began))
        print(f"undisturbed, {name}: {count} images in {trials[-1].seconds:.1f} s", flush=True)
    return tuple(trials)


def disturb(trial: Trial, out: Path, number: signal.Signals, rng: random.Random) -> list[str] | None:
    """Send a signal at a random moment, then run again; returns what is wrong, None if the run was faster."""
    process = trial.start(out)
    time.sleep(rng.uniform(0, trial.seconds))
    os.kill(process, number)
    code = end_of(process)
    if code == ExitCode.SUCCESS:
        return None
    expected = -number if number == signal.SIGKILL else int(ExitCode.INTERRUPTED)
    faults = [] if code == expected else [f"ended with {code}, expected {expected}"]
    faults += trial.faults_after_kill(out)
    done = len(find_images(out)) if out.is_dir() else 0
    code = end_of(trial.start(out))
    if code != ExitCode.SUCCESS:
        faults.append(f"the run after it ended with {code}: {out.with_suffix('.log').read_text()}")
    found = tree(out)
    names = sorted(found.keys() | trial.reference.keys())
    faults += [f"{name}: differs" for name in names if found.get(name) != trial.reference.get(name)]
    print(f"{number.name} with {done} images done: {'; '.join(faults) or 'the same bytes'}", flush=True)
    return faults


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--signals", nargs="+", default=["SIGKILL"], help="taken in turn")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    rng = random.Random(options.seed)
    recovered = 0
    with tempfile.TemporaryDirectory() as folder:
        trials = prepare(Path(folder), options.images)
        for kill in range(options.kills):
            faults = None
            while faults is None:
                out = Path(folder) / "killed"
                shutil.rmtree(out, ignore_errors=True)
                out.with_suffix(".log").unlink(missing_ok=True)
                number = signal.Signals[options.signals[kill % len(options.signals)]]
                faults = disturb(trials[kill % len(trials)], out, number, rng)
            recovered += not faults
    print(f"{recovered} of {options.kills} kills recovered to the same bytes")
    return 0 if recovered == options.kills else 1


if __name__ == "__main__":
    raise SystemExit(main())
