"""Units of photos for workers: rows of a plan that another process takes through all steps.

Work on a unit is a function of its rows, the plan and the generator. It writes the released files, each whole or not at
all, and returns their records; the driver alone writes manifest, labels and run record. Workers write the files
themselves, for a driver that wrote all of them would be the limit of a cluster.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mtlue_cli.devices import choose_device
from mtlue_cli.engines.engine import Engine
from mtlue_cli.errors import ImageError, MtlueError
from mtlue_cli.files import unwritable
from mtlue_cli.generator.generator import Generator
from mtlue_cli.images.decode import read_content
from mtlue_cli.release.lent import Lent
from mtlue_cli.release.records import FileRecord
from mtlue_cli.release.release import Release, Resumption
from mtlue_cli.release.seal import Sealer
from mtlue_cli.workflows.protect.photos import Outcome, PhotoSteps, Remarks, photo_work, plan_draws
from mtlue_cli.workflows.protect.plan import ProtectPlan


@dataclass(frozen=True)
class Unit:
    """Rows of a plan, with what it says of them.

    Attributes:
        first: Number of the first row in the whole plan.
        names, targets: Original and released path of each row.
        columns: Class indices of each row, by protected image-level task.
        maps: File of each row, by dense task, protected or not.
        turns: EXIF orientation of the photo of each map that is released upright with it.
        records: What an earlier run wrote of these originals, by their paths.
        drawn: Classes for an image of random ones, by the digest of its file, where they depend on a key.
    """

    first: int
    names: tuple[str, ...]
    targets: tuple[str, ...]
    columns: Mapping[str, npt.NDArray[np.int64]]
    maps: Mapping[str, tuple[str | None, ...]]
    turns: Mapping[str, int]
    records: Mapping[str, FileRecord]
    drawn: Mapping[str, Mapping[str, int]]

    def __str__(self) -> str:
        return f"{self.names[0]} to {self.names[-1]}"

    def plan(self, whole: ProtectPlan) -> ProtectPlan:
        """The plan of these rows alone."""
        maps = {name: self.maps[name] for name in whole.table.maps}
        given = replace(whole.labels.table, file_names=self.names, columns={}, maps=self.maps, turns=self.turns)
        return replace(
            whole,
            table=replace(whole.table, file_names=self.names, columns=self.columns, maps=maps, turns=self.turns),
            labels=replace(whole.labels, table=given),
            targets=self.targets,
            earlier=replace(whole.earlier, records=self.records),
        )


def units_of(plan: ProtectPlan, images: Path, size: int) -> Iterator[Unit]:
    """The rows of a plan, ``size`` at a time.

    Random classes that depend on the key are drawn here, for the key stays in this process.
    """
    for first in range(0, len(plan.table), size):
        rows = range(first, min(first + size, len(plan.table)))
        table, given = plan.table.take(rows), plan.labels.table.take(rows)
        names, earlier = table.file_names, plan.earlier.records
        drawn: dict[str, Mapping[str, int]] = {}
        if plan.key is not None:
            draw = plan_draws(plan)
            for row in filter(plan.is_drawn, rows):
                try:
                    digest = hashlib.sha256(read_content(images / plan.table.file_names[row], images)).hexdigest()
                except ImageError:
                    continue  # the worker will find out too
                drawn[digest] = draw(digest)
        yield Unit(
            first,
            names,
            plan.targets[first : rows.stop],
            table.columns,
            given.maps,
            {name: given.turns[name] for name in given.all_map_files if name in given.turns},
            {name: earlier[name] for name in names if name in earlier},
            drawn,
        )


@dataclass(frozen=True)
class RemoteStart:
    """Work on units in another process.

    Attributes:
        images: Folder of the originals.
        plan: The plan without its rows, and without the key.
        lent: Leave to write to the release.
        generator: What it is made of: the weights, bound to the key; its tasks, size of a call, and codes beside them.
        device: Where it runs.
        threads: How many threads may work.
    """

    images: Path
    plan: ProtectPlan
    lent: Lent
    generator: tuple[Any, Any, int, Any]
    device: str
    threads: int

    @classmethod
    def of(cls, plan: ProtectPlan, images: Path, generator: Generator, engine: Engine) -> "RemoteStart":
        """What a worker needs of the driver."""
        given = replace(plan.labels.table, file_names=(), columns={}, places=(), maps={}, turns={})
        rowless = replace(
            plan,
            release=Release(plan.release.folder),
            labels=replace(plan.labels, table=given, notes=(), other_parts=frozenset(), columns=()),
            table=replace(plan.table.take(()), places=(), turns={}),
            key=None,
            targets=(),
            unlabelled=(),
            earlier=Resumption(released=plan.earlier.released),
            columns=(),
            sealer=Sealer(),
        )
        made_of = generator.loaded, generator.tasks, generator.call_size, generator.keyed
        return cls(images, rowless, plan.release.lend(), made_of, engine.device, engine.threads)

    @contextmanager
    def __call__(self) -> Iterator[Callable[[Unit, Callable[[Outcome], None]], None]]:
        """Make the work."""
        loaded, tasks, call_size, keyed = self.generator
        generator = Generator(loaded, choose_device(self.device), tasks, call_size, keyed)
        with self.lent.open() as opened, photo_work(generator, self.threads) as take_through:
            release = Release(self.plan.release.folder)
            release.opened = opened
            whole = replace(self.plan, release=release)

            def work(unit: Unit, done: Callable[[Outcome], None]) -> None:
                def draw(digest: str) -> Mapping[str, int]:
                    if digest not in unit.drawn:
                        raise ImageError("changed while it was protected; run the same command again")
                    return unit.drawn[digest]

                plan = unit.plan(whole)
                is_keyed = plan.run.key_fingerprint is not None
                steps = PhotoSteps(plan, self.images, draw if is_keyed else None, sees_images=generator.sees_images)
                try:
                    take_through(steps, plan, lambda outcome: done(_shifted(outcome, unit.first)))
                except OSError as error:
                    raise MtlueError(unwritable(Path(error.filename or release.folder), error)) from error

            yield work


def _shifted(outcome: Outcome, first: int) -> Outcome:
    return outcome if isinstance(outcome, Remarks) else (first + outcome[0], outcome[1])
