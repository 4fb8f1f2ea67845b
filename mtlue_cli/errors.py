"""Errors that a user can correct.

Every other exception is a defect of the program. Only the command boundary (:mod:`mtlue_cli.commands.app`)
turns these into text and exit codes.
"""

from collections.abc import Sequence


class MtlueError(Exception):
    """An error that a user can correct: the message says what was expected, what was found and the next step."""


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


class CheckpointError(InputError):
    """A checkpoint that cannot be used: unreadable, damaged, foreign or for other tasks."""


class ImageError(MtlueError):
    """One image that cannot be read or written; recorded for that image, and the run continues."""
