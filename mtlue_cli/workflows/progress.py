"""How a workflow tells its caller how far it is, without knowing of a terminal."""

from collections.abc import Mapping
from typing import Protocol


class Progress(Protocol):
    """What a workflow calls; the command line draws a bar of it, a test may record it."""

    def start(self, stage: str, total: int | None) -> None:
        """A stage begins: its name, and its number of steps if that is known."""

    def advance(self, steps: int = 1, figures: Mapping[str, float] | None = None) -> None:
        """``steps`` of the current stage are done; ``figures`` are its latest named values."""

    def finish(self) -> None:
        """The current stage is over."""

    def note(self, message: str) -> None:
        """One line that a user should read, such as the device in use."""


class SilentProgress:
    """A :class:`Progress` that says nothing."""

    def start(self, stage: str, total: int | None) -> None:
        """Say nothing."""

    def advance(self, steps: int = 1, figures: Mapping[str, float] | None = None) -> None:
        """Say nothing."""

    def finish(self) -> None:
        """Say nothing."""

    def note(self, message: str) -> None:
        """Say nothing."""
