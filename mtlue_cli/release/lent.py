"""A release that other processes write to as well, while the run that holds it lasts."""

import errno
import platform
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from mtlue_cli.errors import MtlueError
from mtlue_cli.files import OpenFolder, read_regular
from mtlue_cli.release.records import LENT_NAME


@dataclass(frozen=True)
class Lent:
    """Leave to write photos and maps to a release, for processes that see its folder under the same path.

    The run that holds the release names itself in a file among the records. The file goes when the run closes the
    release, or when the next run opens it; from then on nobody else writes there, however late a message reaches them.
    """

    folder: Path
    records: Path
    name: str

    @contextmanager
    def open(self) -> Iterator[OpenFolder]:
        """The release, opened as its run has it open, for the time of the context.

        Raises:
            MtlueError: The folder here is not that release.
        """
        if not self.is_valid():
            where = platform.node() or "another computer"
            raise MtlueError(
                f"{self.folder} on {where} is not the release that the run has open: give all computers the same "
                "folders under the same paths, and run the same command again to continue"
            )
        with closing(_LentFolder(self)) as opened:
            yield opened

    def is_valid(self) -> bool:
        """Whether the run still has the release open."""
        try:
            return read_regular(self.records / LENT_NAME).decode("ascii") == self.name
        except (OSError, ValueError):
            return False


class _LentFolder(OpenFolder):
    """The folder of a lent release; nothing is written to it any more once its run is over.

    Raises:
        OSError: It cannot be opened.
    """

    def __init__(self, lent: Lent) -> None:
        super().__init__(lent.folder)
        self._lent = lent

    def parent_of(self, path: Path, *, make: bool) -> int | None:
        """As that of any open folder.

        Raises:
            OSError: Likewise, or the run is over.
        """
        if not self._lent.is_valid():
            raise OSError(errno.EBUSY, "the run that this worker belongs to is over", str(path))
        return super().parent_of(path, make=make)
