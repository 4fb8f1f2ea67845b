"""Label files: files, tasks and classes. Every fault is found before any work starts."""

import io
import os
import re
import shlex
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mtlue_cli.budget import check_table
from mtlue_cli.choices import LabelFormat, TaskKind
from mtlue_cli.errors import InputError
from mtlue_cli.tasks.bins import Bins, parse_bins, parse_number
from mtlue_cli.tasks.classes import as_missing, class_faults, class_notes, make_task, ordered_classes
from mtlue_cli.tasks.columns import MANY, Column, ColumnKind, infer_column, settled_column
from mtlue_cli.tasks.label_options import LabelOptions
from mtlue_cli.tasks.maps import MAP_SUFFIXES, LookAtMaps, MapColumn, find_maps, may_be_maps, named_files, not_maps_note
from mtlue_cli.tasks.multi_label import MultiLabel, labels_of, separator_of, vector_cells, vector_length
from mtlue_cli.tasks.names import resolved_names
from mtlue_cli.tasks.paths import is_unicode, names_below, path_fault, shortest
from mtlue_cli.tasks.presets.preset import Preset
from mtlue_cli.tasks.readers.base import FILE_COLUMNS, Cell, LabelSource, RawTable
from mtlue_cli.tasks.readers.celeba import read_partition
from mtlue_cli.tasks.readers.delimited import escaped, escaped_name, write_row
from mtlue_cli.tasks.readers.registry import reader_of
from mtlue_cli.tasks.spec import LabelTable, Task, TaskSet
from mtlue_cli.tasks.spelling import alike, differing_in_case, likely_missing
from mtlue_cli.tasks.wording import counted, first_of, listed, quoted

LONGEST_CELL = 100_000
"""Characters of a cell; the CSV reader of Python stops a little above."""

TRIED_ROWS = 100
"""Rows whose cells are looked for as files, to find the file column."""


def released_options(file_column: str | None) -> LabelOptions:
    """How the label file of a release is read, whatever the original labels were."""
    return LabelOptions(LabelFormat.CSV, file_column)


@dataclass(frozen=True)
class LabelFile:
    """A label file, understood.

    Attributes:
        table: File names and class indices.
        header: Columns in order, the file column among them.
        file_index: Position of the file column in ``header``.
        notes: What a user should know and is no fault, one per line.
        other_parts: Files with a row, and their maps, of other parts of the split than the one that was asked for.
        format: How it was written down.
        columns: What each column is, those that are not read included, in order.
        bins: Of the numeric columns; quantiles as the edges that they came to.
    """

    table: LabelTable
    header: tuple[str, ...]
    file_index: int
    notes: tuple[str, ...] = ()
    other_parts: frozenset[str] = frozenset()
    format: LabelFormat = LabelFormat.CSV
    columns: tuple[Column, ...] = ()
    bins: tuple[Bins, ...] = ()

    @property
    def left_out(self) -> dict[str, str]:
        """Columns that are no tasks unless the user names them, with the reason."""
        reasons = ((column.name, column.left_out) for column in self.columns if column.name in self.table.tasks)
        return {name: reason for name, reason in reasons if reason is not None}

    @property
    def usual_tasks(self) -> TaskSet:
        """The columns that are tasks if the user names none."""
        return self.table.tasks.subset(set(self.table.tasks.names) - self.left_out.keys())


def read_label_file(
    path: Path,
    options: LabelOptions | None = None,
    *,
    for_learning: bool = True,
    learned: Collection[str] | None = None,
    image_names: Sequence[str] = (),
    look: LookAtMaps | None = None,
    folder: Path | None = None,
) -> LabelFile:
    """Labels together with how they are written in their file.

    Args:
        path: Label file, or the image folder for a format that reads file names.
        options: How it is read.
        for_learning: Whether a column with fewer than two classes, with two spellings of one class, or with so many
            that it looks like an identifier, is a fault. A folder that is only to be protected may be small, and may
            carry columns that are no tasks.
        learned: The columns that ``for_learning`` looks at; None: those that are tasks by default.
        image_names: The folder's images, for a format that reads file names.
        look: Understands a column of maps by its files; None: every cell is a class, as it is written.
        folder: The image folder, to find out which column holds the file names; None: the headers alone decide.

    Raises:
        InputError: Lists every fault with its row.
    """
    options = options or LabelOptions()
    reader = reader_of(path, options.format, image_names)
    if reader.reads_names and not path.is_dir():
        raise InputError(f"--label-format {reader.name.value} reads file names, not {path}", hint="leave out --labels")
    if path.is_dir() and not reader.reads_names:
        raise InputError(f"{path} is a folder, expected a label file")
    file_columns = FILE_COLUMNS if options.file_column is None else (options.file_column,)
    raw = reader.read(LabelSource(path, file_columns, tuple(image_names), options.levels or ()))
    if options.preset is not None:
        raw = options.preset.applied(raw, options.uncertain, folder)
        options = _with_preset(options, options.preset, raw.header)
    elif options.uncertain is not None:
        raise InputError("--uncertain is for the uncertain cells of a --preset", hint="add --preset, or leave it out")
    raw, unread = _without_unnamed(raw)
    unread += [Column(name, ColumnKind.NESTED, reason) for name, reason in raw.unread.items()]
    faults: list[str] = []
    if not raw.rows and not raw.faults:
        form = "no image name has the form that this format expects"
        faults.append(form if reader.reads_names else "no row below the header")
    missing, missing_notes = _missing_cells(raw, options.missing_values)
    raw = _with_multi_labels(path, raw, options.multi_labels, missing)
    file_index = _find_file_column(path, raw, options, file_columns, folder, unread)
    faults += _header_faults(raw.header, options)
    if len(raw.header) < 2:
        faults.append("no column besides the file column: there is nothing to learn or to protect")
        faults += [column.fault for column in unread]
    names, raw = _sound_rows(raw, file_index)
    faults += raw.faults
    rows: Sequence[int] = range(len(names))
    if options.split_file is not None:
        rows, odd = _wanted_part(names, raw.places, options, options.split_file)
        faults += odd
    reading = _Reading(
        raw=raw,
        options=options,
        names=names,
        rows=rows,
        maps_folder=options.maps_folder or (path if path.is_dir() else path.parent),
        look=look,
        folder=folder,
        for_learning=for_learning and bool(names),
        learned=None if learned is None else resolved_names(learned, raw.header),
        faults=faults,
        notes=list(raw.notes),
    )
    for position, name in enumerate(raw.header):
        if position != file_index:
            reading.add(name, _marked(raw, position, missing))
    reading.notes += missing_notes
    left_out = [column.fault for column in (*reading.columns, *unread) if column.left_out is not None]
    nothing = len(left_out) == len(reading.columns) + len(unread) and len(raw.header) > 1
    if reading.for_learning and learned is None and nothing:
        faults += left_out
    if faults:
        raise InputError(f"{path} has {counted(len(faults), 'fault')}", faults)
    table = reading.table
    taken = table.take(rows)
    named = reading.named | (table.all_map_files - taken.all_map_files)
    named |= set() if folder is None else names_below(folder, named, reading.maps_folder)
    others = raw.others | set(names).difference(taken.file_names) | (named - set(names))
    columns = (*reading.columns, *unread)
    return LabelFile(
        taken, raw.header, file_index, tuple(reading.notes), others, reader.name, columns, tuple(reading.bins)
    )


@dataclass
class _Reading:
    """The columns of a label file while they are read, one after the other.

    ``names`` are the images of the rows, ``rows`` the wanted part of these. ``named`` are files that cells name though
    they are read as classes; they are labels too, not images.
    """

    raw: RawTable
    options: LabelOptions
    names: tuple[str, ...]
    rows: Sequence[int]
    maps_folder: Path
    look: LookAtMaps | None
    folder: Path | None
    for_learning: bool
    learned: Collection[str] | None
    faults: list[str]
    notes: list[str]
    columns: list[Column] = field(default_factory=list)
    tasks: list[Task] = field(default_factory=list)
    indices: dict[str, npt.NDArray[np.int64]] = field(default_factory=dict)
    maps: dict[str, tuple[str | None, ...]] = field(default_factory=dict)
    turns: dict[str, int] = field(default_factory=dict)
    named: set[str] = field(default_factory=set)
    bins: list[Bins] = field(default_factory=list)

    @property
    def table(self) -> LabelTable:
        """All rows."""
        tasks = TaskSet(tuple(self.tasks))
        return LabelTable(self.names, self.indices, tasks, self.raw.places, self.maps, self.maps_folder, self.turns)

    def add(self, name: str, cells: Sequence[Cell]) -> None:
        """Read a column."""
        bins = next((bins for bins in self.options.bins if bins.column == name), None)
        declarations = (*self.options.declarations, *self.raw.declarations)
        declaration = next((found for found in declarations if found.column == name), None)
        if bins is not None:
            cells = self._binned(bins, cells)
        column = MapColumn(name, self.maps_folder, tuple(cells), self.raw.places, self.names, declaration)
        if self.look is not None and bins is None and may_be_maps(column, self.folder):
            self._add_maps(column, self.look)
        else:
            self._add_classes(column, is_settled=bins is not None or declaration is not None)

    def _binned(self, bins: Bins, cells: Sequence[Cell]) -> list[Cell]:
        """The class of each cell; None for those that are none, which are faults."""
        classes: list[Cell] = [None] * len(cells)
        try:
            bins = bins.fitted(cells)
        except ValueError as error:
            self.faults.append(str(error))
            cells = ()
        for row, cell in enumerate(cells):
            try:
                classes[row] = None if cell is None else bins.class_of(cell)
            except ValueError as error:
                self.faults.append(f"{self.raw.places[row]}: {quoted(bins.column)}: {error}")
        self.bins.append(bins)
        return classes

    def _add_maps(self, column: MapColumn, look: LookAtMaps) -> None:
        is_learned = self.for_learning and (self.learned is None or column.name in self.learned)
        found = find_maps(column, self.rows, look, for_learning=is_learned, images=self.folder)
        self.faults += found.faults
        self.notes += found.notes
        if found.task is not None:
            self.maps[column.name] = found.files
            self.turns.update(found.turns)
            self.tasks.append(found.task)
            self.columns.append(Column(column.name, found.task.kind.value))

    def _add_classes(self, column: MapColumn, *, is_settled: bool) -> None:
        """Read a column of classes; ``is_settled``: the user says that it is a task."""
        name, cells, declaration = column.name, column.files, column.declaration
        if is_settled or self.raw.file_column is not None or name in self.raw.one_hot:
            kind = settled_column(name, cells)
        else:
            kind = infer_column(name, cells, self.raw.header, self.names)
        is_task = kind.left_out is None
        nowhere = None
        if self.look is not None:
            nowhere = not_maps_note(column)
            if declaration is not None:
                self.named.update(cell for cell in named_files(column) if path_fault(cell) is None)
        if nowhere is not None and kind.kind == ColumnKind.PATH:
            kind = replace(kind, left_out=f"holds file names, but none of them is in {self.maps_folder}")
        if nowhere is not None and is_task:
            self.notes.append(nowhere)
        if is_task and kind.advice.startswith("--multi-label"):
            self.notes.append(
                f"column {quoted(name)} looks like lists of labels: {kind.advice} makes a task of each label"
            )
        task, self.indices[name] = make_task(name, cells, column.places)
        if declaration is not None:
            if declaration.kind is TaskKind.BINARY and task.num_classes > 2:
                shown = listed(task.classes)
                self.faults.append(f"--task {declaration}: the column holds {task.num_classes} classes, {shown}")
            else:
                task = replace(task, kind=declaration.kind)
        self.tasks.append(task)
        self.columns.append(kind)
        if self.for_learning and (is_task if self.learned is None else name in self.learned):
            self.faults += class_faults(task)
        elif self.names and not task.classes:
            self.notes.append(f"column {quoted(name)} has no labels")
        if is_task or (self.learned is not None and name in self.learned):
            self.notes += class_notes(task)


def released_labels(labels: LabelFile, names: Mapping[int, str]) -> bytes:
    """A CSV file in UTF-8 with the columns of ``labels`` in their order, and class names or paths of maps as cells.

    Read again with the same file column, it gives the same labels: bins are written as their classes, missing values
    as empty cells. Cells that a spreadsheet would execute are escaped (:mod:`mtlue_cli.tasks.readers.delimited`).
    ``names`` has the released file of each row; other rows are left out.
    """
    table = labels.table
    rows = sorted(names)
    columns: list[list[str]] = []
    for position, name in enumerate(labels.header):
        if position == labels.file_index:
            columns.append([escaped_name(names[row]) for row in rows])
        elif name in table.maps:
            columns.append([escaped_name(table.maps[name][row] or "") for row in rows])
        else:
            texts = (*map(escaped, table.tasks[name].classes), "")  # the last is for UNLABELLED, which is -1
            columns.append([texts[index] for index in table.columns[name][rows].tolist()])
    text = io.StringIO()
    write_row(text, [escaped(name) for name in labels.header])
    for cells in zip(*columns, strict=True):
        write_row(text, cells)
    return text.getvalue().encode()


def _with_preset(options: LabelOptions, preset: Preset, header: Sequence[str]) -> LabelOptions:
    """The options with the missing values and the bins of a preset, except for columns with bins of the user's.

    Bins of a column that ``header`` lacks are left out.
    """
    own = {bins.column for bins in options.bins}
    added = (bins for bins in parse_bins(preset.bins) if bins.column in header and bins.column not in own)
    missing = (*options.missing_values, *preset.missing_values)
    return replace(options, missing_values=missing, bins=(*options.bins, *added))


def _find_file_column(
    path: Path,
    raw: RawTable,
    options: LabelOptions,
    candidates: Sequence[str],
    folder: Path | None,
    unread: Sequence[Column],
) -> int:
    """Position of the file column.

    Raises:
        InputError: There is none, or it names hardly any file of the folder and another column names most of them.
    """
    if raw.file_column is not None:
        return raw.header.index(raw.file_column)
    tried = raw.rows[:TRIED_ROWS] if folder is not None else ()
    found = [sum(_is_file(row[at], folder) for row in tried) for at in range(len(raw.header))]
    most = max(found, default=0)
    hint = f"use --file-column {shlex.quote(raw.header[found.index(most)])}" if 2 * most > len(tried) else None
    named = next((candidate for candidate in candidates if candidate in raw.header), None)
    if named is not None:
        at = raw.header.index(named)
        if hint is not None and 2 * found[at] < len(tried) and options.split_file is None:
            raise InputError(
                f"{path}: column {quoted(named)} does not hold the file names: "
                f"{len(tried) - found[at]} of {counted(len(tried), 'row')} looked at name no file in {folder}",
                hint=hint,
            )
        return at
    shown = ", ".join(map(quoted, raw.header[:40]))
    if any(name.lower().endswith(MAP_SUFFIXES) for name in raw.header):
        hint = "give the table a header, such as file_name,smiling"
    raise InputError(
        f"{path}: no file column, looked for {' or '.join(map(quoted, candidates))}",
        [
            f"the columns are {shown}" if shown else "there are no columns",
            *(column.fault for column in unread),
            *raw.faults,
        ],
        hint or "name the column that holds the file names with --file-column",
    )


def _is_file(cell: Cell, folder: Path | None) -> bool:
    return bool(folder and cell and path_fault(cell) is None and os.path.isfile(folder / cell))


def _header_faults(header: Sequence[str], options: LabelOptions) -> list[str]:
    repeated = [name for name, count in Counter(header).items() if name and count > 1]
    faults = [f"row 1: column {quoted(name)} appears more than once" for name in repeated]
    faults += [f"row 1: column {quoted(name)}: {problem}" for name in header if (problem := _text_fault(name))]
    whose = "" if options.preset is None else f" among those of the preset {options.preset}"
    for option, values in (("--bins", options.bins), ("--task", options.declarations)):
        absent = [value for value in values if value.column not in header]
        faults += [f"{option} {value}: there is no column {quoted(value.column)}{whose}" for value in absent]
    binned = {bins.column for bins in options.bins}
    return faults + [
        f"--task {declaration}: --bins makes classes of that column"
        for declaration in options.declarations
        if declaration.column in binned and declaration.kind is not TaskKind.CATEGORICAL
    ]


def _sound_rows(raw: RawTable, file_index: int) -> tuple[tuple[str, ...], RawTable]:
    """The files of the sound rows, and the table with these; other rows are faults of it, repeated ones notes."""
    rows: dict[str, tuple[str, tuple[Cell, ...]]] = {}
    faults: list[str] = []
    repeated: list[str] = []
    for place, cells in zip(raw.places, raw.rows, strict=True):
        problem = _row_fault(raw.header, cells, file_index)
        if problem is not None:
            faults.append(f"{place}: {problem}")
            continue
        name = shortest(cells[file_index] or "")
        if name not in rows:
            rows[name] = (place, cells)
            continue
        there, earlier = rows[name]
        others = [
            f"{quoted(column)} is {quoted(old or '')} there and {quoted(new or '')} here"
            for at, (column, old, new) in enumerate(zip(raw.header, earlier, cells, strict=True))
            if at != file_index and (old or "") != (new or "")
        ]
        if others:
            faults.append(f"{place}: file {quoted(name)} is already in {there}, with other labels: {others[0]}")
        else:
            repeated.append(f"{place} repeats {there} and is left out: file {quoted(name)}")
    notes = first_of(repeated, lambda more: f"{counted(more, 'further row')} left out that repeat others")
    places, kept = tuple(place for place, _ in rows.values()), tuple(cells for _, cells in rows.values())
    found = replace(raw, rows=kept, places=places, faults=(*raw.faults, *faults), notes=(*raw.notes, *notes))
    return tuple(rows), found


def _row_fault(header: Sequence[str], cells: Sequence[Cell], file_index: int) -> str | None:
    problem = path_fault(cells[file_index] or "")
    if problem is not None:
        return problem
    # A long text in very many rows is a small Parquet: its length is asked first, which costs nothing.
    is_short = sum(map(len, filter(None, cells))) <= LONGEST_CELL
    if is_short and _text_fault("".join(filter(None, cells))) is None:
        return None  # what most rows are: looking at each cell costs far more
    faults = ((name, _text_fault(cell or "")) for name, cell in zip(header, cells, strict=True))
    return next((f"column {quoted(name)}: {problem}" for name, problem in faults if problem is not None), None)


def _text_fault(text: str) -> str | None:
    """Why ``text`` cannot be a column name or a class; None if it can."""
    if len(text) > LONGEST_CELL:
        return f"{len(text)} characters, expected a label"
    if "\0" in text:
        return "contains a NUL character"
    return None if is_unicode(text) else "is not Unicode"


def _missing_cells(raw: RawTable, texts: Sequence[str]) -> tuple[set[str], list[str]]:
    """The cells that mean no label as the user says, numbers in any spelling; and a note for each text without any."""
    missing: set[str] = set()
    notes: list[str] = []
    numbers = {cell: parse_number(cell) for row in raw.rows for cell in row if cell} if texts else {}
    for text in texts:
        number = parse_number(text)
        same = {cell for cell, value in numbers.items() if cell == text or (value is not None and value == number)}
        missing |= same
        if not same:
            near = next((cell for cell in numbers if cell.lower() == text.lower()), None)
            hint = "" if near is None else f"; the labels spell it {quoted(near)}"
            notes.append(f"--missing-value {text} matches no cell{hint}")
    return missing, notes


def _marked(raw: RawTable, position: int, missing: Collection[str]) -> list[Cell]:
    """The cells of a column, None where there is no label."""
    return [None if not row[position] or row[position] in missing else row[position] for row in raw.rows]


def _without_unnamed(raw: RawTable) -> tuple[RawTable, list[Column]]:
    """The table without columns that have no name, and what these were. Pandas writes its row numbers so."""
    kept = [at for at, name in enumerate(raw.header) if name]
    unnamed = sorted(set(range(len(raw.header))).difference(kept))
    filled = [at for at in unnamed if any(row[at] for row in raw.rows)]
    found: list[Column] = []
    for at in filled:
        numbers = all(parse_number(row[at] or "0") is not None for row in raw.rows)
        reason = "has no name (row numbers of pandas?)" if numbers else "has no name"
        found.append(Column(f"column {at + 1}", ColumnKind.UNNAMED, reason))
    empty = len(unnamed) - len(filled)
    notes = [f"{counted(empty, 'column')} without a name and without any label left out"] if empty else []
    header = tuple(raw.header[at] for at in kept)
    rows = tuple(tuple(row[at] for at in kept) for row in raw.rows) if unnamed else raw.rows
    return replace(raw, header=header, rows=rows, notes=(*raw.notes, *notes)), found


def _with_multi_labels(path: Path, raw: RawTable, wanted: Sequence[MultiLabel], missing: Collection[str]) -> RawTable:
    """The table with a binary column for each label of the columns in ``wanted``, and notes on them."""
    for column in wanted:
        name = quoted(column.column)
        if column.column not in raw.header:
            raw = replace(raw, faults=(*raw.faults, f"--multi-label {column}: there is no column {name}"))
            continue
        at = raw.header.index(column.column)
        cells = _marked(raw, at, missing)
        filled = [cell for cell in cells if cell is not None]
        separator = column.separator or separator_of(filled)
        length = vector_length(filled, separator)
        if length is not None:
            check_table(path, len(cells), len(raw.header) + length)
            names = tuple(f"{column.column}:{position}" for position in range(length))
            made = [vector_cells(cell, separator, length) for cell in cells]
            notes, holds = [], "holds 0 or 1 for each position"
        else:
            lists = [None if cell is None else labels_of(cell, separator) for cell in cells]
            labels = ordered_classes(label for found in lists for label in found or ())
            check_table(path, len(cells), len(raw.header) + len(labels))
            taken = set(raw.header) - {column.column}
            clear = all(re.search(r"[^\W\d_]", label) for label in labels) and taken.isdisjoint(labels)
            names = labels if clear else tuple(f"{column.column}:{label}" for label in labels)
            made = [[None if found is None else str(int(label in found)) for label in labels] for found in lists]
            notes, holds = _label_notes(column, labels, lists), "lists labels"
        notes.append(f"column {name} {holds}: {counted(len(names), 'binary task')}, {listed(names)}")
        raw = replace(
            raw,
            header=(*raw.header[:at], *names, *raw.header[at + 1 :]),
            rows=tuple((*row[:at], *new, *row[at + 1 :]) for row, new in zip(raw.rows, made, strict=True)),
            notes=(*raw.notes, *notes),
            one_hot=raw.one_hot | set(names),
        )
    return raw


def _label_notes(column: MultiLabel, labels: Sequence[str], lists: Sequence[Sequence[str] | None]) -> list[str]:
    """What is odd about the labels that a column lists, one per line."""
    name = quoted(column.column)
    notes = [
        f"column {name} lists labels that are likely to be one: {listed(ways)}; each is a task of its own, use one "
        "spelling if they are one"
        for ways in (*alike(labels), *differing_in_case(labels))
    ]
    if all(found is None or len(found) < 2 for found in lists):
        notes.insert(0, f"--multi-label {column}: no cell holds more than one label")
    missing = likely_missing(labels)
    if missing:
        means = f"if a cell of that means no label, add {as_missing(missing)}"
        notes.append(f"column {name} lists the label {listed(missing)}; {means}")
    counts = Counter(label for found in lists for label in found or ())
    once = [label for label in labels if counts[label] == 1]
    if len(once) > MANY // 2:
        notes.append(
            f"column {name} lists {len(once)} labels of one image each, such as {quoted(once[0])}: "
            "is it free text? Leave tasks out with --except"
        )
    return notes


def _wanted_part(
    names: Sequence[str], places: Sequence[str], options: LabelOptions, split_file: Path
) -> tuple[list[int], list[str]]:
    """Rows of the part that is asked for, and a line for each file that is in none."""
    parts = read_partition(split_file)
    odd = [(name, place) for name, place in zip(names, places, strict=True) if name not in parts]
    faults = [f"{place}: file {quoted(name)} is not in {split_file}" for name, place in odd]
    rows = [row for row, name in enumerate(names) if parts.get(name) is options.split]
    if not rows and not faults:
        faults.append(f"{split_file} has no image of these labels in the part {options.split.value}")
    return rows, faults
