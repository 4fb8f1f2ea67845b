"""Errors that a user can correct.

Every other exception is a defect of the program. Only the command boundary (:mod:`mtlue_cli.commands.app`)
turns these into text and exit codes.
"""

from collections.abc import Callable, Sequence

SHOWN_FAULTS = 5
"""Faults that an uncaught error shows; all are in its ``faults``."""


class MtlueError(Exception):
    """An error that a user can correct: the message says what was expected, what was found and the next step."""

    def reword(self, change: Callable[[str], str]) -> None:
        """Change every text of it, for a reader who knows things by other names."""
        self.args = tuple(change(str(part)) for part in self.args)


class InputError(MtlueError):
    """Wrong usage or input; nothing was written.

    Args:
        message: One line that says what is wrong.
        faults: Each fault with its file and row, all collected before any work started.
        hint: The next step, if there is an obvious one.
    """

    def __init__(self, message: str, faults: Sequence[str] = (), hint: str | None = None) -> None:
        super().__init__(message)
        self.faults = tuple(faults)
        self.hint = hint

    def reword(self, change: Callable[[str], str]) -> None:
        """Change the message, the faults and the hint."""
        super().reword(change)
        self.faults = tuple(map(change, self.faults))
        self.hint = None if self.hint is None else change(self.hint)

    @property
    def __notes__(self) -> list[str]:  # type: ignore[override]  # of the faults as they are now
        """What Python shows below the message of an error that nobody catches: the first faults, and the hint."""
        more = len(self.faults) - SHOWN_FAULTS
        notes = [f"  {fault}" for fault in self.faults[:SHOWN_FAULTS]] + ([f"  and {more} more"] if more > 0 else [])
        return [*notes, f"hint: {self.hint}"] if self.hint else notes


class CheckpointError(InputError):
    """A checkpoint that cannot be used: unreadable, damaged, foreign or for other tasks."""


class DivergedError(MtlueError):
    """A training whose loss or weights are no longer finite."""


class ImageError(MtlueError):
    """One image that cannot be read or written; recorded for that image, and the run continues."""


class StorageError(MtlueError):
    """An object store that cannot be read or written: the run ends, and the same command continues it."""


def first_line(error: BaseException) -> str:
    """What an exception of a library says first, or its type if it says nothing."""
    return next(iter(str(error).splitlines()), type(error).__name__)
