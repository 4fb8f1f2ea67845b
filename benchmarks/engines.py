"""Speed of ``protect`` on a Ray cluster of this computer against threads, and what a unit costs beside its work.

Run from a checkout: ``python -m benchmarks.engines FOLDER --limit 1200``. ``FOLDER`` holds images and a ``labels.csv``.
All passes take turns, so that other work on the machine meets them alike. Rates are those of the second half of the
images, when all workers have started. Then 1,000 units that only sleep are run, to see what the engine adds.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from statistics import median

from benchmarks.untrained import write_untrained
from mtlue_cli.choices import EngineName
from mtlue_cli.engines.engine import engine_of
from mtlue_cli.release.records import FOLDER, MANIFEST_NAME
from mtlue_cli.tasks.labels import read_label_file, released_labels
from mtlue_cli.workflows.progress import SilentProgress
from mtlue_cli.workflows.protect.config import ProtectConfig
from mtlue_cli.workflows.protect.run import protect_folder

UNITS = 1000
SLEEP = 0.02
"""Seconds."""

STORE = 200 << 20


class Clock(SilentProgress):
    """When each image was done, and how much processor time this process had taken by then."""

    def __init__(self) -> None:
        self.times: list[tuple[float, float]] = []
        self._counts = False

    def start(self, stage: str, total: int | None) -> None:  # noqa: ARG002 - as every progress
        """Count one stage alone."""
        self._counts = stage == "protecting"

    def advance(self, steps: int = 1, figures: Mapping[str, float] | None = None) -> None:  # noqa: ARG002 - likewise
        """Look at the clock."""
        if self._counts:
            self.times += [(time.monotonic(), time.process_time())] * steps

    def second_half(self) -> tuple[float, float]:
        """Images per second, and milliseconds of this process's processor time for each."""
        half = len(self.times) // 2
        count, (began, used), (ended, used_then) = len(self.times) - half, self.times[half - 1], self.times[-1]
        return count / (ended - began), 1e3 * (used_then - used) / count


@contextmanager
def cluster(workers: int) -> Iterator[None]:
    """A Ray cluster of this computer."""
    import ray

    ray.init(
        num_cpus=workers,
        include_dashboard=False,
        object_store_memory=STORE,
        log_to_driver=False,
        logging_level="ERROR",
    )
    try:
        yield
    finally:
        ray.shutdown()


@contextmanager
def sleeping() -> Iterator[Callable[[int, Callable[[int], None]], None]]:
    """Work that only waits."""

    def work(unit: int, done: Callable[[int], None]) -> None:
        time.sleep(SLEEP)
        done(unit)

    yield work


def cost(config: ProtectConfig, engine: EngineName, workers: int) -> tuple[float, float]:
    """As :meth:`Clock.second_half`."""
    clock = Clock()
    config = replace(config, engine=engine, workers=workers)
    if engine is EngineName.LOCAL:
        protect_folder(config, clock)
    else:
        with cluster(workers):
            protect_folder(config, clock)
    return clock.second_half()


def seconds_a_unit(workers: int) -> float:
    """What the engine adds to each unit of a worker."""
    with cluster(workers), engine_of(EngineName.RAY, None, "cpu", workers) as engine:
        engine.run(sleeping, range(10 * workers), lambda _: None)  # until all workers have started
        began = time.monotonic()
        engine.run(sleeping, range(UNITS), lambda _: None)
        return (time.monotonic() - began) * workers / UNITS - SLEEP


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("images", type=Path)
    parser.add_argument("--limit", type=int, default=1200)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--weights", help="a generator that fits the labels; unset: an untrained one")
    arguments = parser.parse_args()
    labels = read_label_file(arguments.images / "labels.csv")
    names = list(labels.table.file_names[: arguments.limit])
    passes = {
        "local, 1 thread": (EngineName.LOCAL, 1),
        "local, 2 threads": (EngineName.LOCAL, 2),
        "ray, 1 worker": (EngineName.RAY, 1),
        "ray, 2 workers": (EngineName.RAY, 2),
    }
    rates: dict[str, list[float]] = {name: [] for name in passes}
    driver: dict[str, list[float]] = {name: [] for name in passes}
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        (place / "labels.csv").write_bytes(released_labels(labels, dict(enumerate(names))))
        weights = arguments.weights or str(write_untrained(place / "untrained.safetensors", labels.table.tasks))
        for turn in range(arguments.repeats):
            for name, (engine, workers) in passes.items():
                out = place / f"{name}{turn}"
                config = ProtectConfig(arguments.images, place / "labels.csv", out, weights=weights, device="cpu")
                speed, used = cost(config, engine, workers)
                rates[name].append(speed)
                driver[name].append(used)
            sizes = [path.stat().st_size for path in out.rglob("*.png")]
            lines = (out / FOLDER / MANIFEST_NAME).stat().st_size
    before = sum((arguments.images / name).stat().st_size for name in names) / len(names)
    print(
        f"{before:,.0f} bytes an original, {sum(sizes) / len(sizes):,.0f} released, {lines / len(names):,.0f} a record"
    )
    for name, found in rates.items():
        each = ", ".join(f"{speed:.0f}" for speed in found)
        used = f"{median(driver[name]):.2f} ms of the driver's processor time each"
        print(f"{name:17}{median(found):5.0f} images/s ({each}), {used}")
    for base in ("local, 2 threads", "ray, 1 worker", "local, 1 thread"):
        ratios = [two / one for two, one in zip(rates["ray, 2 workers"], rates[base], strict=True)]
        print(f"ray with 2 workers against {base}: {median(ratios):.2f}")
    added = seconds_a_unit(2)
    print(f"{UNITS} units that sleep {1e3 * SLEEP:g} ms: {1e3 * added:.1f} ms more each, {added / SLEEP:.1%}")


if __name__ == "__main__":
    main()
