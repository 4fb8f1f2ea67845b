"""Units in this process, one after another: their work has threads of its own."""

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TypeVar

UnitT = TypeVar("UnitT")
ResultT = TypeVar("ResultT")
Start = Callable[[], AbstractContextManager[Callable[[UnitT, Callable[[ResultT], None]], None]]]
"""Makes the work, which takes a unit and calls a function with every result."""


@dataclass
class LocalEngine:
    """This process.

    Attributes:
        device: Where networks run.
        threads: How many threads the work may use.
        is_remote: Always False.
    """

    device: str
    threads: int
    is_remote: bool = False

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
