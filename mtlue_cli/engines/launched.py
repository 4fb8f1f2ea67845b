"""Several processes, started by ``accelerate launch`` or ``torchrun``, that train each network together.

The main process runs the command. The others wait for units of work, and do each one in step with it: the training loop
gives every process its part of each batch (:func:`~mtlue_cli.devices.training_together`).
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any, Self

from mtlue_cli.devices import Processes, training_together
from mtlue_cli.engines.engine import LocalEngine, ResultT, Start, UnitT
from mtlue_cli.errors import MtlueError


class LaunchedEngine(LocalEngine):
    """The processes of a launcher, seen from the main one.

    It is remote, since the others get pickled units. Its device is ``cuda`` or ``cpu``; each process has its own GPU.
    """

    def __init__(self, processes: Processes) -> None:
        assert processes.device is not None, "there is one process only"
        super().__init__(processes.device.type, threads=1, is_remote=True)
        self._processes = processes
        self._follower = Follower(processes)
        self._start: Start[Any, Any] | None = None
        self._in_step = True

    def described(self, here: str) -> str:  # noqa: ARG002 - the main process's own device does not matter
        """Such as ``cuda (4 processes for each network)``."""
        return f"{self.device} ({self._processes.count} processes for each network)"

    def run(
        self,
        start: Start[UnitT, ResultT],
        units: Iterable[UnitT],
        done: Callable[[ResultT], None],
        gpu: float = 1.0,  # noqa: ARG002 - each process has a whole one
    ) -> None:
        """Run all units, one after another, each in all processes; the results are those of the main process."""
        if start is not self._start:
            with self._in_step_again():
                self._processes.hand_out((start, None))
                self._follower.begin(start)
            self._start = start
        for unit in units:
            found: list[ResultT] = []
            with self._in_step_again():
                self._processes.hand_out((None, unit))
                self._follower.work(unit, found.append)
            for result in found:
                done(result)

    @contextmanager
    def _in_step_again(self) -> Iterator[None]:
        """If what is within fails here, the others no longer wait for orders."""
        self._in_step = False
        with _while_all_run():
            yield
        self._in_step = True

    def __enter__(self) -> Self:
        """The engine."""
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Let the other processes end.

        Where they wait for no order they end when this one does; so do they after a signal, which all of them get.
        """
        self._follower.close()
        if self._in_step and (kind is None or issubclass(kind, Exception)):
            self._processes.hand_out(None)


class Follower:
    """Does units of work in step with the other processes."""

    def __init__(self, processes: Processes) -> None:
        self._processes = processes
        self._stack = ExitStack()
        self._work: Callable[[Any, Callable[[Any], None]], None] | None = None

    def begin(self, start: Callable[[], AbstractContextManager[Any]]) -> None:
        """Make the work for units to come."""
        self._stack.close()
        self._work = self._stack.enter_context(start())

    def work(self, unit: Any, done: Callable[[Any], None]) -> None:  # noqa: ANN401 - whatever the work takes
        """Do a unit."""
        assert self._work is not None, "the work has not begun"
        with training_together(self._processes):
            self._work(unit, done)

    def close(self) -> None:
        """End the work."""
        self._stack.close()


def follow(processes: Processes) -> None:
    """Do what the main process hands out, until it ends.

    Raises:
        MtlueError: Another process ended before.
    """
    follower = Follower(processes)
    try:
        with _while_all_run():
            while (order := processes.receive()) is not None:
                start, unit = order
                if start is not None:
                    follower.begin(start)
                else:
                    follower.work(unit, lambda _: None)
    finally:
        follower.close()


@contextmanager
def _while_all_run() -> Iterator[None]:
    """Within it a lost connection says what it means."""
    try:
        yield
    except RuntimeError as error:
        if "peer" not in str(error):
            raise
        raise MtlueError("another process of the launcher ended; run the same command again to continue") from error
