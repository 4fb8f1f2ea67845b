"""What the terminal shows: progress and remarks on stderr, results on stdout."""

import json
import os
import re
import threading
import time
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from mtlue_cli.errors import InputError, MtlueError
from mtlue_cli.files import shown, temporary_beside, write_atomically
from mtlue_cli.workflows.progress import Progress, SilentProgress

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress

STDOUT = Path("-")
LINE_SECONDS = 5.0
"""Shortest time between two progress lines of a stage off a terminal."""
PLAIN_WIDTH = 160
"""Columns of a table that is piped or redirected, unless ``COLUMNS`` says otherwise."""
MOST_EXAMPLES = 5
"""Faults of one kind that are printed before the rest are counted."""
MOST_KINDS = 8
"""Kinds of faults that are printed before the rest are counted."""

_VARIABLE_PART = re.compile(r"""'[^']*'|"[^"]*"|\S+\.[A-Za-z]\w{1,4}\b|[\d.]+""")
"""What differs between two faults of one kind: quoted text, file names and numbers."""

_JOINERS = "\u200c\u200d"
"""Invisible characters that words of some languages and joined emoji need."""


class PlainConsole(Console):
    """A console that takes every text as it is: without markup, and with :func:`visible` characters alone.

    A text is one line: a line break in it is spelled out too. What has several lines is printed line by line.
    ``NO_COLOR`` and ``TERM=dumb`` are honoured by rich.
    """

    def __init__(self, **options: Any) -> None:  # noqa: ANN401 - rich's own options
        super().__init__(highlight=False, markup=False, emoji=False, **options)

    def render_str(self, text: str, **options: Any) -> Text:  # noqa: ANN401 - rich's own options
        """A string on its way into a table, a title or a line."""
        return super().render_str(visible(text), **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Whatever is printed, and each of its parts; a text with odd characters keeps no style within it."""
        if isinstance(renderable, Text) and visible(renderable.plain) != renderable.plain:
            renderable = Text(
                visible(renderable.plain),
                renderable.style,
                justify=renderable.justify,
                overflow=renderable.overflow,
                no_wrap=renderable.no_wrap,
                end=renderable.end,
            )
        return super().render(renderable, options)


class Terminal:
    """One command's output.

    Args:
        quiet: Say and show nothing; errors and requested JSON still appear.
        json_target: File for the JSON result, ``-`` for stdout, or None for no JSON.

    Raises:
        InputError: ``json_target`` cannot be a file; found here, before any work starts.
    """

    def __init__(self, quiet: bool = False, json_target: Path | None = None) -> None:
        if json_target is not None and json_target != STDOUT:
            check_target("--json", json_target)
        self.quiet = quiet
        self.json_target = json_target
        self._stderr = PlainConsole(stderr=True)
        self.progress: Progress
        if quiet:
            self.progress = SilentProgress()
        elif self._stderr.is_terminal and not self._stderr.is_dumb_terminal:
            self.progress = BarProgress(self._stderr)
        else:
            self.progress = LineProgress(self.say)

    def say(self, text: str) -> None:
        """One remark on stderr, unless quiet."""
        if not self.quiet:
            self._stderr.print(shown(text), soft_wrap=True)

    def show(self, renderable: RenderableType) -> None:
        """A result on stdout, unless quiet or JSON goes there."""
        if self.quiet or self.json_target == STDOUT:
            return
        console = PlainConsole()
        if not console.is_terminal and "COLUMNS" not in os.environ:
            console.width = PLAIN_WIDTH
        console.print(renderable)

    def write_json(self, document: Mapping[str, Any]) -> None:
        """Write ``document`` where ``--json`` asked for it; atomically if that is a file, nowhere if it was not given.

        Raises:
            MtlueError: The file cannot be written; whatever the command made is there all the same.
            ValueError: A number is not finite, which JSON cannot say.
        """
        if self.json_target is None:
            return
        text = shown(json.dumps(document, indent=2, allow_nan=False, default=str)) + "\n"
        if self.json_target == STDOUT:
            # Not through rich, which would wrap long lines.
            print(text, end="")
            return
        self.write_file("--json", self.json_target, text.encode())

    def write_file(self, option: str, target: Path, content: bytes) -> None:
        """Put ``content`` where ``option`` asked for it, atomically.

        Raises:
            MtlueError: The file cannot be written; whatever the command made is there all the same.
        """
        try:
            write_atomically(target, shown(content.decode()).encode())
        except OSError as error:
            raise MtlueError(f"the work is done, but {option}: {target} cannot be written: {error.strerror}") from error


class LineProgress:
    """Progress where no bar can be drawn: a line at a stage's start and end, and at most one every five seconds."""

    def __init__(self, say: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._say = say
        self._clock = clock
        self._lock = threading.Lock()
        self._stage: str | None = None
        self._total: int | None = None
        self._done = 0
        self._figures: dict[str, float] = {}
        self._began = self._spoke = 0.0

    def start(self, stage: str, total: int | None) -> None:
        """Say that ``stage`` begins; an unfinished stage before it ends first."""
        self.finish()
        with self._lock:
            self._stage, self._total, self._done = stage, total, 0
            self._figures = {}
            self._began = self._spoke = self._clock()
            self._say(f"{stage} ..." if total is None else f"{stage}: {total} to do")

    def advance(self, steps: int = 1, figures: Mapping[str, float] | None = None) -> None:
        """Count; say so if the last line is long enough ago."""
        with self._lock:
            self._done += steps
            self._figures.update(figures or {})
            now = self._clock()
            if self._stage is not None and now - self._spoke >= LINE_SECONDS:
                self._spoke = now
                self._say(self._line(now))

    def finish(self) -> None:
        """Say how far the stage came and how long it took; nothing if none is running."""
        with self._lock:
            if self._stage is None:
                return
            is_cut = self._total is not None and self._done < self._total
            how_far = f"ended at {self._done} of {self._total}" if is_cut else f"done, {self._done}"
            parts = [f"{self._stage}: {how_far} in {duration(self._clock() - self._began)}"]
            parts.extend(written(self._figures))
            self._stage = None
            self._say(", ".join(parts))

    def note(self, message: str) -> None:
        """Say ``message``."""
        with self._lock:
            self._say(message)

    def _line(self, now: float) -> str:
        elapsed = now - self._began
        if self._total:
            parts = [f"{self._stage}: {self._done} of {self._total} ({100 * self._done // self._total} %)"]
            if 0 < self._done < self._total:
                parts.append(f"{duration(elapsed * (self._total - self._done) / self._done)} left")
        else:
            parts = [f"{self._stage}: {self._done}, {duration(elapsed)} so far"]
        return ", ".join(parts + written(self._figures))


class BarProgress:
    """Progress as a bar with time left and the latest figures, on a terminal."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bar: RichProgress | None = None
        self._task: Any = None
        self._figures: dict[str, float] = {}

    def start(self, stage: str, total: int | None) -> None:
        """Draw a bar for ``stage``; an unfinished stage before it ends first."""
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
        from rich.progress import Progress as RichProgress

        self.finish()
        self._figures = {}
        left = TimeElapsedColumn() if total is None else TimeRemainingColumn()
        unit = "so far" if total is None else "left"
        self._bar = RichProgress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            left,
            TextColumn(unit),
            TextColumn("{task.fields[figures]}", markup=False),
            console=self._console,
            refresh_per_second=4,
        )
        self._task = self._bar.add_task(stage, total=total, figures="")
        _drawing.append(self._bar)
        self._bar.start()

    def advance(self, steps: int = 1, figures: Mapping[str, float] | None = None) -> None:
        """Move the bar."""
        if self._bar is None:
            return
        self._figures.update(figures or {})
        self._bar.update(self._task, advance=steps, figures=", ".join(written(self._figures)))

    def finish(self) -> None:
        """Leave the bar as it is and go on below it; nothing if none is drawn."""
        if self._bar is not None:
            self._bar.stop()
            _drawing.remove(self._bar)
            self._bar = None

    def note(self, message: str) -> None:
        """A line above the bar."""
        self._console.print(shown(message), soft_wrap=True)


_drawing: "list[RichProgress]" = []


def check_target(option: str, target: Path) -> None:
    """Refuse a result file that could not be put in place, by making and removing what would be written first."""
    try:
        if target.exists() and not target.is_file():
            raise InputError(f"{option}: {target} is not a regular file; give a file name, or - for stdout")
        if not target.absolute().parent.is_dir():
            raise InputError(f"{option}: the folder of {target} does not exist")
        temporary_beside(target).touch()
        temporary_beside(target).unlink()
    except OSError as error:
        raise InputError(f"{option}: {target} cannot be written: {error.strerror}") from error


def stop_drawing() -> None:
    """Give the terminal back, cursor and all, before an error is printed."""
    while _drawing:
        _drawing[-1].stop()
        _drawing.pop()


def visible(text: str) -> str:
    """``text`` with every character that is not seen spelled out: a name must not control a terminal or forge a line.

    Such are control characters, line breaks, marks that turn the direction of writing, and lone surrogates.
    """
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() or char in _JOINERS or unicodedata.category(char) == "Zs"
        else char.encode("unicode_escape").decode()
        for char in text
    )  # fmt: skip


def grouped(faults: Sequence[str], where_all: str) -> list[str]:
    """``faults`` by kind, shortened: five examples of each kind, then how many more there are.

    Two faults are of one kind if they differ only in quoted text, file names and numbers.

    Args:
        faults: One line each.
        where_all: Where the complete list is, such as ``--json lists all``.
    """
    kinds: dict[str, list[str]] = {}
    for fault in faults:
        kinds.setdefault(_VARIABLE_PART.sub("#", fault), []).append(fault)
    shown: list[str] = []
    for alike in list(kinds.values())[:MOST_KINDS]:
        shown += alike[:MOST_EXAMPLES]
        if len(alike) > MOST_EXAMPLES:
            shown.append(f"... and {len(alike) - MOST_EXAMPLES} more like this ({where_all})")
    others = sum(map(len, list(kinds.values())[MOST_KINDS:]))
    return [*shown, f"... and {others} more of other kinds ({where_all})"] if others else shown


def table_of(rows: Mapping[str, str]) -> Table:
    """Names and values side by side; rows without a value are left out."""
    table = Table(show_header=False, box=None, pad_edge=False)
    for name, value in rows.items():
        if value:
            table.add_row(name, shown(value))
    return table


def duration(seconds: float) -> str:
    """``75`` as ``1:15``, ``3700`` as ``1:01:40``."""
    whole = round(max(seconds, 0.0))
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours}:{minutes:02d}:{whole % 60:02d}" if hours else f"{minutes}:{whole % 60:02d}"


def written(figures: Mapping[str, float]) -> list[str]:
    """Named values, each with four significant digits."""
    return [f"{name} {value:.4g}" for name, value in figures.items()]
