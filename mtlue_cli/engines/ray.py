"""Units on a Ray cluster.

Each worker is an actor: a process that is started once with what its units need, and holds a CPU, or a share of a GPU
with the CPUs that go with it. It has one unit at a time, so that neither units nor results pile up. When it dies, its
unit goes to another one, and a new actor is asked for, which starts as soon as there is room. Ray could restart the
actor itself, but the unit would wait for that, for ever where the actor's node is gone and no other has room.
"""

import importlib
import os
import platform
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from itertools import islice
from typing import Any

from mtlue_cli import __version__
from mtlue_cli.budget import Budget, budget, limited_to
from mtlue_cli.engines.engine import ResultT, Start, UnitT
from mtlue_cli.errors import InputError, MtlueError, first_line
from mtlue_cli.tasks.wording import counted

MOST_ROWS = 256
"""Of a unit: seconds of work, so that handing it over costs little, and little is done again when its worker dies."""

UNITS_A_WORKER = 8
"""Units that each worker gets at least of a small set, so that all end at about the same time."""

MOST_DEATHS = 3
"""Times that the worker of one unit may die, or a worker while it starts: more often it is no accident."""

_PACKAGES = ("torch", "torchvision", "numpy", "pillow", "fpng-py", "pyspng", "imagecodecs")
"""What decides the bytes of a release and the figures of a victim, beside this program."""

_SHOWN = 300
"""Last characters of what Ray says, where the cause is."""


class Worker:
    """What runs in the process of an actor.

    Args:
        start: Makes the work.
        folder: Working directory of the driver: relative paths lead from there.
        limits: What a file may cost.
        versions: Of the driver's packages.
    """

    def __init__(self, start: Start[Any, Any], folder: str, limits: Budget, versions: Mapping[str, str | None]) -> None:
        self._start, self._folder, self._limits, self._versions = start, folder, limits, versions
        self._work: Callable[[Any, Callable[[Any], None]], None] | None = None
        self._started: AbstractContextManager[Any] | None = None

    def begin(self) -> MtlueError | None:
        """Make the work; returns why it cannot be."""
        here = package_versions()
        other = [
            f"{name} {found}, not {self._versions[name]}"
            for name, found in here.items()
            if found != self._versions[name]
        ]
        where = f"the worker on {platform.node() or 'another computer'}"
        if other:
            return MtlueError(f"{where} has {', '.join(other)}; install the same versions on all computers")
        try:
            os.chdir(self._folder)
        except OSError as error:
            return MtlueError(f"{where} has no folder {self._folder}: {error.strerror}; share it with all computers")
        with limited_to(self._limits):
            try:
                self._started = self._start()
                self._work = self._started.__enter__()
            except MtlueError as error:
                return error
        return None

    def run(self, unit: Any) -> list[Any] | MtlueError:  # noqa: ANN401 - whatever the work takes
        """The results of a unit, or why there are none."""
        assert self._work is not None, "the worker has not begun"
        found: list[Any] = []
        with limited_to(self._limits):
            try:
                self._work(unit, found.append)
            except MtlueError as error:
                return error
        return found


def package_versions() -> dict[str, str | None]:
    """Versions that all computers must have alike; None where a package is not installed."""
    found: dict[str, str | None] = {"mtlue": __version__}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found


@dataclass
class _Task:
    """A unit, and how often its worker died."""

    unit: Any
    deaths: int = 0


class RayEngine:
    """A Ray cluster.

    Raises:
        InputError: The cluster lacks the device.
    """

    is_remote = True
    works_here = False

    def __init__(self, ray: Any, device: str) -> None:  # noqa: ANN401 - a module that need not be installed
        self._ray = ray
        self._nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        with_gpu = [node for node in self._nodes if node.get("GPU", 0) >= 1]
        if device not in ("auto", "cpu", "cuda"):
            raise InputError(f"--device is {device}, expected auto, cpu or cuda with --engine ray")
        if device == "cuda" and not with_gpu:
            raise InputError("the Ray cluster has no GPU", hint="use --device cpu")
        self.device = "cuda" if with_gpu and device != "cpu" else "cpu"
        self.threads = 1
        if self.device == "cuda":
            self._nodes = with_gpu
            self.threads = max(1, min(int(node.get("CPU", 0) // node["GPU"]) for node in with_gpu))
        self._start: Start[Any, Any] | None = None
        self._given: Any = None
        self._actors: list[Any] = []
        self._idle: list[Any] = []
        self._pending: dict[Any, tuple[Any, _Task | None]] = {}
        self._failed_starts = 0
        if not self.most():
            raise InputError("the Ray cluster has no CPU for a worker", hint="start its nodes with --num-cpus")

    def most(self, gpu: float = 1.0) -> int:
        """How many workers the cluster has room for; ``gpu`` is the share of a GPU that each takes."""
        if self.device == "cuda":
            return sum(int(node["GPU"] / gpu) for node in self._nodes)
        return sum(int(node.get("CPU", 0)) for node in self._nodes)

    def described(self, here: str) -> str:  # noqa: ARG002 - the driver's own device does not matter
        """Such as ``cpu (Ray, 32 workers)``."""
        return f"{self.device} (Ray, {counted(self.most(), 'worker')})"

    def rows_a_unit(self, count: int, least: int) -> int:
        """So few that each worker has several units, but no more than :data:`MOST_ROWS` without need."""
        return max(least, min(MOST_ROWS, -(-count // (UNITS_A_WORKER * self.most()))))

    def run(
        self, start: Start[UnitT, ResultT], units: Iterable[UnitT], done: Callable[[ResultT], None], gpu: float = 1.0
    ) -> None:
        """Run all units, each on whichever worker is free; results come in the order in which units end.

        Raises:
            MtlueError: The work raised it, the worker of one unit dies again and again, or none can be started.
        """
        try:
            self._run(start, units, done, gpu)
        except BaseException:  # what is under way belongs to these units
            self.dismiss()
            raise

    def _run(
        self, start: Start[UnitT, ResultT], units: Iterable[UnitT], done: Callable[[ResultT], None], gpu: float
    ) -> None:
        ray, most, rest = self._ray, self.most(gpu), iter(units)
        if start is not self._start:
            self.dismiss()
            self._start, self._given = start, ray.put(start)  # once: every computer fetches it from there
        waiting = deque(_Task(unit) for unit in islice(rest, most))
        while len(self._actors) < len(waiting):
            self._hire(gpu)
        results: Iterable[ResultT] = ()
        while True:
            while self._idle and (waiting or (waiting := deque(_Task(unit) for unit in islice(rest, 1)))):
                actor, handed = self._idle.pop(), waiting.popleft()
                self._pending[actor.run.remote(handed.unit)] = actor, handed
            for result in results:  # while the workers are busy
                done(result)
            results = ()
            if not waiting and all(task is None for _, task in self._pending.values()):
                return
            ((ready, *_), _) = ray.wait(list(self._pending), num_returns=1)
            actor, task = self._pending.pop(ready)
            try:
                found = ray.get(ready)
            except ray.exceptions.RayTaskError:  # a defect of the program
                raise
            except ray.exceptions.RayError as error:
                self._release(actor)
                self._count_death(task, error)
                if task is not None:
                    waiting.appendleft(task)
                self._hire(gpu)
                continue
            if isinstance(found, MtlueError):
                raise found
            self._idle.append(actor)
            self._failed_starts = 0
            results = found or ()

    def dismiss(self) -> None:
        """End all workers."""
        for actor in tuple(self._actors):
            self._release(actor)
        self._start = None
        self._idle.clear()
        self._pending.clear()

    def _hire(self, gpu: float) -> None:
        """Ask for one more worker."""
        needs: dict[str, float] = {"num_cpus": self.threads}
        if self.device == "cuda":
            needs = {"num_cpus": max(1, int(self.threads * gpu)), "num_gpus": gpu}
        made = self._ray.remote(Worker).options(max_restarts=0, max_task_retries=0, **needs)
        actor = made.remote(self._given, os.getcwd(), budget(), package_versions())
        self._actors.append(actor)
        self._pending[actor.begin.remote()] = actor, None

    def _release(self, actor: Any) -> None:  # noqa: ANN401 - Ray's
        self._actors.remove(actor)
        with suppress(self._ray.exceptions.RayError, ValueError):
            self._ray.kill(actor)

    def _count_death(self, task: _Task | None, error: Exception) -> None:
        """Note that a worker died; MtlueError if that is no accident any more."""
        reason = " ".join(str(error).split())[-_SHOWN:]
        if task is None:
            self._failed_starts += 1
            if self._failed_starts > MOST_DEATHS:
                raise MtlueError(f"workers of the Ray cluster end while they start: {reason}")
            return
        task.deaths += 1
        if task.deaths > MOST_DEATHS:
            raise MtlueError(f"{task.deaths} workers of the Ray cluster died in turn at {task.unit}: {reason}")


def ray_module() -> Any:  # noqa: ANN401 - it need not be installed
    """Ray, imported when it is first needed."""
    return importlib.import_module("ray")


@contextmanager
def connected(address: str | None, device: str, processes: int) -> Iterator[RayEngine]:
    """The cluster at ``address``, or one of this computer alone with so many ``processes``.

    A connection that this process has already is used, and stays.

    Raises:
        InputError: It cannot be reached, or lacks the device.
    """
    ray = ray_module()
    own = not ray.is_initialized()
    if own:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # a cluster of our own reports to nobody
        alone = {"num_cpus": processes, "include_dashboard": False} if address is None else {}
        handler = signal.getsignal(signal.SIGTERM)
        try:
            ray.init(address=address or "local", log_to_driver=False, logging_level="ERROR", **alone)
        except (ConnectionError, ValueError, RuntimeError, TimeoutError) as error:
            reason = first_line(error)
            raise InputError(
                f"no Ray cluster can be used at {address or 'this computer'}: {reason}",
                hint="start one with ray start --head, or leave out --ray-address for this computer alone",
            ) from error
        if handler is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)  # Ray sets its own, which ends without a word
    try:
        engine = RayEngine(ray, device)
        try:
            yield engine
        finally:
            engine.dismiss()
    finally:
        if own:
            ray.shutdown()
