"""A preset, and what it makes of a label table."""

import os
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.resources import files
from pathlib import Path
from typing import Any, get_type_hints

import msgspec

from mtlue_cli.choices import Uncertain
from mtlue_cli.errors import InputError
from mtlue_cli.files import read_regular
from mtlue_cli.tasks.bins import parse_bins
from mtlue_cli.tasks.readers.base import CANONICAL_FILE_COLUMN, Cell, RawTable
from mtlue_cli.tasks.wording import counted, listed, quoted

SUFFIX = ".toml"
_PLACEHOLDER = re.compile(r"\{([^{}:]+)(?::(\d+))?\}")


@dataclass(frozen=True)
class Preset:
    """How a label table is read. The fields are the keys of its TOML file, except for :data:`given`.

    Attributes:
        given: Name or path by which the user called it.
        title: The data set, in a few words.
        file: How the path of an image is made of the cells of its row: ``{Path}``, ``{image}.jpg``. ``{subject:2}``
            takes the first two characters of a cell.
        remove_prefix: Folders that such paths may begin with and that are the image folder itself.
        labels: Names of the label file among the images; the first that is there counts.
        tasks: Columns that are tasks; those that a table lacks are not missed. All others are left out.
        missing_values: Texts that mean no label, besides the empty cell.
        bins: Numeric columns in classes, as ``--bins`` takes them.
        values: Cell to the class that it stands for, in all columns.
        uncertain: Cells that mean that the class is uncertain; none: there are no such cells.
        positive, negative: Classes that ``--uncertain`` makes of them.
    """

    given: str
    title: str
    file: str
    tasks: tuple[str, ...]
    remove_prefix: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    missing_values: tuple[str, ...] = ()
    bins: tuple[str, ...] = ()
    values: Mapping[str, str] = field(default_factory=dict)
    uncertain: tuple[str, ...] = ()
    positive: str = "1"
    negative: str = "0"

    def __str__(self) -> str:
        return self.given

    @property
    def file_columns(self) -> tuple[str, ...]:
        """Columns that a path is made of."""
        return tuple(name for name, _ in _PLACEHOLDER.findall(self.file))

    def path_of(self, row: Mapping[str, Cell], folder: Path | None = None) -> str:
        """Path of the image of a row, relative to the image folder; empty where a cell of it is empty.

        Where ``folder``, the image folder, holds the folder that is left out of paths, that one stays.
        """
        if not all(row[name] for name in self.file_columns):
            return ""
        path = _PLACEHOLDER.sub(lambda match: _cut(row[match[1]] or "", match[2]), self.file)
        if folder is not None and self.remove_prefix and "\0" not in path and os.path.isfile(folder / path):
            return path
        prefix = next(filter(path.startswith, self.remove_prefix), "")
        return path.removeprefix(prefix)

    def applied(self, raw: RawTable, uncertain: Uncertain | None, folder: Path | None = None) -> RawTable:
        """The table with a file column and the columns that are tasks, class names as cells.

        ``uncertain`` is what uncertain cells become; ``folder`` the image folder, if known, to find out where paths
        lead from.

        Raises:
            InputError: Columns are missing, or there are no uncertain cells to decide about.
        """
        if uncertain is not None and not self.uncertain:
            raise InputError(f"the preset {self} has no uncertain cells", hint="leave out --uncertain")
        missing = [name for name in self.file_columns if name not in raw.header]
        found = [name for name in self.tasks if name in raw.header]
        if missing or not found:
            raise InputError(
                f"the table does not fit the preset {self} ({self.title})",
                [f"column {quoted(name)} is missing: paths are made of it" for name in missing]
                + ([] if found else [f"none of its tasks is a column: {listed(self.tasks)}"]),
                f"the columns are {listed(raw.header)}; write a preset of your own, or leave out --preset",
            )
        way = uncertain or Uncertain.UNLABELLED
        made = {Uncertain.POSITIVE: self.positive, Uncertain.NEGATIVE: self.negative}.get(way)
        class_of = {**self.values, **dict.fromkeys(self.uncertain, made)}
        rows: list[tuple[Cell, ...]] = []
        for cells in raw.rows:
            row = dict(zip(raw.header, cells, strict=True))
            rows.append((self.path_of(row, folder), *(class_of.get(row[name] or "", row[name]) for name in found)))
        left = [name for name in raw.header if name not in (*found, *self.file_columns)]
        notes = [f"preset {self}: {self.title}; {counted(len(found), 'task')}: {listed(found)}"]
        notes += [f"columns left out by the preset: {listed(left)}"] if left else []
        notes += self._uncertain_notes(raw, found, way)
        header = (CANONICAL_FILE_COLUMN, *found)
        notes = [*raw.notes, *notes]
        return replace(raw, header=header, rows=tuple(rows), notes=tuple(notes), file_column=CANONICAL_FILE_COLUMN)

    def _uncertain_notes(self, raw: RawTable, found: Sequence[str], way: Uncertain) -> list[str]:
        wanted = [raw.header.index(name) for name in found]
        count = sum(cells[at] in self.uncertain for cells in raw.rows for at in wanted)
        if not count:
            return []
        others = "|".join(other for other in Uncertain if other is not way)
        cells = f"{counted(count, 'cell')} {'|'.join(self.uncertain)} (uncertain)"
        return [f"{cells} read as {way.value}; --uncertain {others} changes that"]


def preset_names() -> list[str]:
    """The presets that come with mtlue."""
    names = (entry.name for entry in files(__package__).iterdir())
    return sorted(name.removesuffix(SUFFIX) for name in names if name.endswith(SUFFIX))


def load_preset(given: str) -> Preset:
    """A preset by its name, or by the path of a TOML file.

    Raises:
        InputError: There is none, or the file is not valid; lists every fault.
    """
    names, path = preset_names(), Path(given)
    if given in names:
        text = files(__package__).joinpath(given + SUFFIX).read_text(encoding="utf-8")
    elif path.suffix == SUFFIX:
        try:
            text = read_regular(path).decode()
        except (OSError, ValueError) as error:
            raise InputError(f"--preset {given} cannot be read: {error}") from error
    else:
        raise InputError(f"there is no preset {quoted(given)}", hint=f"known: {', '.join(names)}; or name a .toml file")
    try:
        document = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise InputError(f"--preset {given} is not TOML: {error}") from error
    faults = list(_faults(document))
    if faults:
        raise InputError(f"--preset {given} is not valid", faults, f"keys: {', '.join(_KEYS)}")
    return msgspec.convert({"given": given, **document}, Preset)


_KEYS = {key: kind for key, kind in get_type_hints(Preset).items() if key != "given"}
_EXPECTED = {str: "text", tuple[str, ...]: "a list of texts", Mapping[str, str]: "a table of texts"}


def _faults(document: Mapping[str, Any]) -> Iterator[str]:
    yield from (f"{key} is missing" for key in ("title", "file", "tasks") if key not in document)
    sound: dict[str, Any] = {}
    for key, value in document.items():
        try:
            sound[key] = msgspec.convert(value, _KEYS[key])
        except KeyError:
            yield f"{key} is not a key of a preset"
        except msgspec.ValidationError:
            yield f"{key} is {value!r}, expected {_EXPECTED[_KEYS[key]]}"
    if "file" in sound and not _PLACEHOLDER.search(sound["file"]):
        yield f"file is {sound['file']!r}, expected a column in braces, such as {{Path}} or {{image}}.jpg"
    try:
        parse_bins(sound.get("bins", ()))
    except InputError as error:
        yield from (f"bins: {fault}" for fault in error.faults)


def _cut(cell: str, length: str) -> str:
    """The first characters of a cell; one that was saved again as floating point counts as a whole number."""
    cell = re.sub(r"^(\d+)\.0$", r"\1", cell)
    return cell[: int(length)] if length else cell
