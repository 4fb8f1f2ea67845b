"""What an engine is, and the choice of one."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Protocol, TypeVar

from mtlue_cli.choices import EngineName
from mtlue_cli.errors import InputError
from mtlue_cli.files import are_elsewhere
from mtlue_cli.options import launched_as

UnitT = TypeVar("UnitT")
ResultT = TypeVar("ResultT")
Start = Callable[[], AbstractContextManager[Callable[[UnitT, Callable[[ResultT], None]], None]]]
"""Makes the work, which takes a unit and calls a function with every result."""


class Engine(Protocol):
    """Runs units of work.

    Work is made by a ``start``, a context manager, once for each worker. It takes a unit and a function that it calls
    with every result. On a remote engine ``start``, units and results are pickled, and each result of a unit comes back
    when the unit is done. A unit may run twice, if the first worker died: what it writes must be the same both times.

    Attributes:
        is_remote: Whether work runs in other processes, perhaps on other computers.
        works_here: Whether it runs in this process, alone or in step with others.
        threads: How many threads the work of one worker may use.
        device: Where networks run, as ``--device`` names it.
    """

    is_remote: bool
    works_here: bool
    threads: int
    device: str

    def described(self, here: str) -> str:
        """Where networks run, in words; ``here`` is what this process would use."""

    def rows_a_unit(self, count: int, least: int) -> int:
        """How many of ``count`` rows make a unit: ``least`` at least, if there are so many."""

    def run(
        self,
        start: Start[UnitT, ResultT],
        units: Iterable[UnitT],
        done: Callable[[ResultT], None],
        gpu: float = 1.0,
    ) -> None:
        """Run all units, and call ``done`` in this thread with every result; ``units`` are drawn as they are needed.

        The workers of a remote engine stay for the next call with the same ``start``. ``gpu`` is the share of a GPU
        that a worker takes, where there are any.

        Raises:
            MtlueError: The work raised it, or workers die again and again.
        """


@dataclass
class LocalEngine:
    """Units in this process, one after another: their work has threads of its own.

    Attributes:
        device: Where networks run.
        threads: How many threads the work may use.
        is_remote: False; several processes of a launcher say otherwise.
        works_here: Always True.
    """

    device: str
    threads: int
    is_remote: bool = False
    works_here: bool = True

    def described(self, here: str) -> str:
        """``here``."""
        return here

    def rows_a_unit(self, count: int, least: int) -> int:
        """All: threads share out the rows of a unit, and stand idle between two."""
        return max(count, least)

    def run(
        self,
        start: Start[UnitT, ResultT],
        units: Iterable[UnitT],
        done: Callable[[ResultT], None],
        gpu: float = 1.0,  # noqa: ARG002 - networks have the whole device
    ) -> None:
        """Run all units; results are handed on as they come."""
        with start() as work:
            for unit in units:
                work(unit, done)


@contextmanager
def engine_of(name: EngineName, address: str | None, device: str, threads: int) -> Iterator[Engine]:
    """The engine called ``name``, while the context lasts.

    Args:
        name: Which.
        address: Of a Ray cluster; None: one of this computer alone.
        device: Where networks run, as ``--device`` names it.
        threads: Threads of a local engine; processes of a cluster of this computer alone.

    Raises:
        InputError: As :func:`check_engine`, or the cluster cannot be reached or lacks what is asked for.
    """
    check_engine(name, address)
    if name is EngineName.LOCAL:
        yield LocalEngine(device, threads)
        return
    from mtlue_cli.engines.ray import connected

    with connected(address, device, threads) as engine:
        yield engine


def check_engine(name: EngineName, address: str | None) -> None:
    """Refuse an engine that is not installed, cannot read URLs or runs under a launcher, and an unneeded address.

    Raises:
        InputError: Says what to do instead.
    """
    if name is EngineName.LOCAL and address is not None:
        raise InputError("--ray-address needs --engine ray", hint="add --engine ray, or leave out --ray-address")
    if name is EngineName.RAY and launched_as()[1] > 1:
        raise InputError("--engine ray cannot run under a launcher", hint="leave out the launcher, or --engine ray")
    if name is EngineName.RAY and are_elsewhere():
        raise InputError(
            "--engine ray reads folders that all computers share, not URLs",
            hint="mount the bucket on all computers under the same path, or leave out --engine ray",
        )
    if name is EngineName.RAY and find_spec("ray") is None:
        raise InputError("--engine ray needs the package ray, which is not installed", hint="pip install 'mtlue[ray]'")
