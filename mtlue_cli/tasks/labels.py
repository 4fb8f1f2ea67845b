"""Label files understood: files, tasks and classes; every fault found before any work starts."""

import os
import re
import shlex
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from mtlue_cli.choices import LabelFormat, SplitPart, TaskKind
from mtlue_cli.errors import InputError
from mtlue_cli.tasks.bins import Bins, parse_bins, parse_number
from mtlue_cli.tasks.classes import class_faults, class_notes, make_task, ordered_classes
from mtlue_cli.tasks.columns import MANY, Column, ColumnKind, infer_column, settled_column
from mtlue_cli.tasks.declared import Declaration
from mtlue_cli.tasks.label_options import LabelOptions
from mtlue_cli.tasks.maps import LookAtMaps, MapColumn, find_maps, may_be_maps, named_files, not_maps_notes
from mtlue_cli.tasks.multi_label import MultiLabel, labels_of, separator_of, vector_cells, vector_length
from mtlue_cli.tasks.names import resolved_names
from mtlue_cli.tasks.partition import read_partition
from mtlue_cli.tasks.paths import is_unicode, names_below, path_fault
from mtlue_cli.tasks.presets.preset import Preset
from mtlue_cli.tasks.readers.base import FILE_COLUMNS, Cell, LabelSource, RawTable
from mtlue_cli.tasks.readers.registry import reader_of
from mtlue_cli.tasks.spec import LabelTable, Task, TaskSet
from mtlue_cli.tasks.spelling import alike, differing_in_case, likely_missing
from mtlue_cli.tasks.wording import counted, listed, quoted

_LIKE_A_FILE = re.compile(r"\.(jpe?g|png|webp|bmp|tiff?|gif|p[gbpn]m|avif)$", re.IGNORECASE)
LONGEST_CELL = 100_000
"""Characters of a cell; the CSV reader of Python stops a little above."""

MOST_REPEATS = 5
"""Rows that repeat another and are named one by one."""

TRIED_ROWS = 100
"""Rows whose cells are looked for as files, to find the file column."""


def released_options(file_column: str | None) -> LabelOptions:
    """How the label file of a release is read, whatever the original labels were."""
    return LabelOptions(LabelFormat.CSV, file_column)


def with_preset(options: LabelOptions, preset: Preset, header: Sequence[str]) -> LabelOptions:
    """The options with the missing values and the bins of a preset; bins that the user states for a column stay.

    Bins of a column that ``header`` lacks are left out.
    """
    own = {bins.column for bins in options.bins}
    added = tuple(bins for bins in parse_bins(preset.bins) if bins.column in header and bins.column not in own)
    return replace(
        options, missing_values=(*options.missing_values, *preset.missing_values), bins=(*options.bins, *added)
    )


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
        return {
            column.name: column.left_out
            for column in self.columns
            if column.left_out is not None and column.name in self.table.tasks
        }

    @property
    def usual_tasks(self) -> TaskSet:
        """The columns that are tasks if the user names none."""
        left_out = self.left_out
        return self.table.tasks.subset(name for name in self.table.tasks.names if name not in left_out)


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
    """Labels together with how they stand in their file.

    Args:
        path: Label file, or the image folder for a format that reads file names.
        options: How it is read.
        for_learning: Whether a column with fewer than two classes, with two spellings of one class, or with so many
            that it looks like an identifier, is a fault. A folder that is only to be protected may be small, and may
            carry columns that are no tasks.
        learned: The columns that ``for_learning`` looks at; None: those that are tasks by default.
        image_names: The folder's images, for a format that reads file names.
        look: Understands a column of maps by its files; None: every cell is a class, as it stands.
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
        options = with_preset(options, options.preset, raw.header)
    elif options.uncertain is not None:
        raise InputError("--uncertain is for the uncertain cells of a --preset", hint="add --preset, or leave it out")
    raw, unread = _without_unnamed(raw)
    unread += [Column(name, ColumnKind.NESTED, reason) for name, reason in raw.unread.items()]
    missing = _Missing(options.missing_values)
    absent = [column for column in options.multi_labels if column.column not in raw.header]
    raw, listed_notes = _with_multi_labels(raw, options.multi_labels, missing)
    file_index = _find_file_column(path, raw, file_columns, folder, unread)
    if folder is not None and raw.file_column is None and options.split_file is None:
        _refuse_other_column(path, raw, file_index, folder)
    kept, faults, notes = _check_rows(raw, file_index)
    faults = [*_header_faults(raw.header, options), *raw.faults, *faults]
    faults += [f"--multi-label {column}: there is no column {quoted(column.column)}" for column in absent]
    if not raw.rows and not raw.faults:
        faults.append(
            "no image name has the form that this format expects" if reader.reads_names else "no row below the header"
        )
    if len(raw.header) < 2:
        faults.append("no column besides the file column: there is nothing to learn or to protect")
        faults += [column.fault for column in unread]
    notes = [*raw.notes, *listed_notes, *notes]
    columns, tasks = {}, []
    kinds: list[Column] = []
    fitted: list[Bins] = []
    learned = None if learned is None else resolved_names(learned, raw.header)
    bins_of = {bins.column: bins for bins in options.bins}
    declared = {declaration.column: declaration for declaration in (*raw.declarations, *options.declarations)}
    places = tuple(raw.places[row] for row in kept)
    names = tuple(str(PurePosixPath(raw.rows[row][file_index] or "")) for row in kept)
    rows: Sequence[int] = range(len(kept))
    other_parts = raw.others
    if options.split_file is not None:
        rows, of_others, odd = _wanted_part(names, places, read_partition(options.split_file), options)
        other_parts |= of_others
        faults += odd
    maps: dict[str, tuple[str | None, ...]] = {}
    turns: dict[str, int] = {}
    named: set[str] = set()
    maps_folder = options.maps_folder or (path if path.is_dir() else path.parent)
    for position, name in enumerate(raw.header):
        if position == file_index:
            continue
        cells = missing.marked(raw.rows[row][position] for row in kept)
        if name in bins_of:
            bins, cells, odd = _binned(bins_of[name], cells, places)
            fitted.append(bins)
            faults += odd
        declaration = declared.get(name)
        is_learned = bool(kept) and for_learning and (learned is None or name in learned)
        names_photos = declaration is None and (
            name in FILE_COLUMNS or _names_own_photo(cells, names, folder, maps_folder)
        )
        is_text = names_photos or name in bins_of
        if look is not None and not is_text and may_be_maps(cells, maps_folder, declaration, folder):
            column = MapColumn(name, maps_folder, tuple(cells), places, names, declaration)
            found = find_maps(column, rows, look, for_learning=is_learned, images=folder)
            faults += found.faults
            notes += found.notes
            if found.task is not None:
                maps[name] = found.files
                turns.update(found.turns)
                tasks.append(found.task)
                kinds.append(Column(name, found.task.kind.value))
            continue
        if look is not None:
            named |= named_files(cells, declaration)
        settled = raw.file_column is not None or declaration is not None or name in bins_of or name in raw.one_hot
        kinds.append(settled_column(name, cells) if settled else infer_column(name, cells, raw.header, names))
        is_task = kinds[-1].left_out is None
        nowhere = [] if look is None else not_maps_notes(name, cells, maps_folder, declaration)
        if nowhere and kinds[-1].kind == ColumnKind.PATH:
            kinds[-1] = replace(kinds[-1], left_out=f"holds file names, but none of them is in {maps_folder}")
        notes += nowhere if is_task else []
        if is_task and kinds[-1].advice.startswith("--multi-label"):
            notes.append(
                f"column {quoted(name)} looks like lists of labels: {kinds[-1].advice} makes a task of each label"
            )
        task, columns[name] = make_task(name, cells, places)
        if declaration is not None:
            task, odd = _declared(task, declaration)
            faults += odd
        tasks.append(task)
        if kept and for_learning and (is_task if learned is None else name in learned):
            faults += class_faults(task)
        elif kept and not task.classes:
            notes.append(f"column {quoted(name)} has no labels")
        if is_task or (learned is not None and name in learned):
            notes += class_notes(task)
    notes += missing.notes(raw)
    if (
        kept
        and for_learning
        and learned is None
        and len(raw.header) > 1
        and not (maps or any(not kind.left_out for kind in kinds))
    ):
        faults += [column.fault for column in (*kinds, *unread) if column.left_out is not None]
    if faults:
        raise InputError(f"{path} has {counted(len(faults), 'fault')}", faults)
    table = LabelTable(names, columns, TaskSet(tuple(tasks)), places, maps, maps_folder, turns)
    taken = table.take(rows)
    named |= table.all_map_files - taken.all_map_files
    others = named if folder is None else named | names_below(folder, named, maps_folder)
    other_parts |= others - set(names)
    kinds += unread
    return LabelFile(taken, raw.header, file_index, tuple(notes), other_parts, reader.name, tuple(kinds), tuple(fitted))


def _names_own_photo(cells: Sequence[str | None], names: Sequence[str], folder: Path | None, maps_folder: Path) -> bool:
    """Whether each cell is the file name of its own row once more, and none leads to another file of that name.

    The mask of ``images/a.png`` may well be ``masks/a.png``.
    """
    filled = [(cell, name) for cell, name in zip(cells, names, strict=True) if cell is not None]
    if not filled or any(PurePosixPath(cell).name != PurePosixPath(name).name for cell, name in filled):
        return False
    photos = folder or maps_folder

    def is_other(path: Path, photo: Path) -> bool:
        return os.path.isfile(path) and not (os.path.isfile(photo) and os.path.samefile(path, photo))

    return not any(is_other(root / cell, photos / name) for root in {photos, maps_folder} for cell, name in filled)


def _find_file_column(
    path: Path, raw: RawTable, candidates: Sequence[str], folder: Path | None, unread: Sequence[Column]
) -> int:
    if raw.file_column is not None:
        return raw.header.index(raw.file_column)
    for candidate in candidates:
        if candidate in raw.header:
            return raw.header.index(candidate)
    looked_for = " or ".join(quoted(name) for name in candidates)
    found = ", ".join(quoted(name) for name in raw.header[:40])
    raise InputError(
        f"{path}: no file column, looked for {looked_for}",
        [
            f"the columns are {found}" if found else "there are no columns",
            *(column.fault for column in unread),
            *raw.faults,
        ],
        "give the table a header, such as file_name,smiling"
        if any(_LIKE_A_FILE.search(name) for name in raw.header)
        else _file_column_hint(raw, folder) or "name the column that holds the file names with --file-column",
    )


def _refuse_other_column(path: Path, raw: RawTable, file_index: int, folder: Path) -> None:
    """Refuse a file column that names hardly any file of the folder, if another column names most of them."""
    hint = _file_column_hint(raw, folder)
    if hint is None:
        return
    tried = _tried_rows(raw)
    found = _files_named(tried, file_index, folder)
    if 2 * found < len(tried):
        raise InputError(
            f"{path}: column {quoted(raw.header[file_index])} does not hold the file names: "
            f"{len(tried) - found} of {counted(len(tried), 'row')} looked at name no file in {folder}",
            hint=hint,
        )


def _file_column_hint(raw: RawTable, folder: Path | None) -> str | None:
    """The option that names the column whose cells are files of the folder; None if there is no such column."""
    tried = _tried_rows(raw)
    if folder is None or not tried:
        return None
    found = [_files_named(tried, position, folder) for position in range(len(raw.header))]
    most = max(found)
    return f"use --file-column {shlex.quote(raw.header[found.index(most)])}" if 2 * most > len(tried) else None


def _tried_rows(raw: RawTable) -> list[tuple[Cell, ...]]:
    return [row for row in raw.rows[:TRIED_ROWS] if len(row) == len(raw.header)]


def _files_named(rows: Sequence[Sequence[Cell]], position: int, folder: Path) -> int:
    """How many rows name a file of the folder in the cell at ``position``."""
    cells = [row[position] for row in rows]
    return sum(path_fault(cell) is None and os.path.isfile(folder / cell) for cell in cells if cell)


def _header_faults(header: Sequence[str], options: LabelOptions) -> list[str]:
    faults: list[str] = []
    repeated = [name for name, count in Counter(header).items() if name and count > 1]
    faults += [f"row 1: column {quoted(name)} appears more than once" for name in repeated]
    faults += [f"row 1: column {quoted(name)}: {problem}" for name in header if (problem := _text_fault(name))]
    said = [("--bins", bins.column, str(bins)) for bins in options.bins]
    said += [("--task", declaration.column, str(declaration)) for declaration in options.declarations]
    whose = "" if options.preset is None else f" among those of the preset {options.preset.given}"
    faults += [
        f"{option} {text}: there is no column {quoted(column)}{whose}"
        for option, column, text in said
        if column not in header
    ]
    binned = {bins.column for bins in options.bins}
    return faults + [
        f"--task {declaration}: --bins makes classes of that column"
        for declaration in options.declarations
        if declaration.column in binned and declaration.kind is not TaskKind.CATEGORICAL
    ]


def _declared(task: Task, declaration: Declaration) -> tuple[Task, list[str]]:
    """An image-level task in the kind that is declared, and why it cannot be of that kind."""
    if declaration.kind is TaskKind.BINARY and task.num_classes > 2:
        shown = listed(list(task.classes))
        return task, [f"--task {declaration}: the column holds {task.num_classes} classes, {shown}"]
    return replace(task, kind=declaration.kind), []


def _check_rows(raw: RawTable, file_index: int) -> tuple[list[int], list[str], list[str]]:
    """Positions of the sound rows, one line per fault, and one line for each of the first rows that repeat another."""
    kept: list[int] = []
    faults: list[str] = []
    notes: list[str] = []
    first: dict[str, int] = {}
    for position, (cells, place) in enumerate(zip(raw.rows, raw.places, strict=True)):
        problem = _row_fault(raw.header, cells, file_index)
        if problem is not None:
            faults.append(f"{place}: {problem}")
            continue
        name = str(PurePosixPath(cells[file_index] or ""))
        earlier = first.setdefault(name, position)
        if earlier == position:
            kept.append(position)
            continue
        there = raw.places[earlier]
        others = [
            f"{quoted(column)} is {quoted(old or '')} there and {quoted(new or '')} here"
            for at, (column, old, new) in enumerate(zip(raw.header, raw.rows[earlier], cells, strict=True))
            if at != file_index and (old or "") != (new or "")
        ]
        if others:
            faults.append(f"{place}: file {quoted(name)} is already in {there}, with other labels: {others[0]}")
        else:
            notes.append(f"{place} repeats {there} and is left out: file {quoted(name)}")
    more = len(notes) - MOST_REPEATS
    if more > 0:
        notes = [*notes[:MOST_REPEATS], f"{counted(more, 'further row')} left out that repeat others"]
    return kept, faults, notes


def _row_fault(header: Sequence[str], cells: Sequence[Cell], file_index: int) -> str | None:
    if len(cells) != len(header):
        return _width_fault(cells, header)
    problem = path_fault(cells[file_index] or "")
    if problem is not None:
        return problem
    together = "".join(filter(None, cells))
    if len(together) <= LONGEST_CELL and _text_fault(together) is None:
        return None  # what most rows are: looking at each cell costs far more
    for name, cell in zip(header, cells, strict=True):
        problem = _text_fault(cell or "")
        if problem is not None:
            return f"column {quoted(name)}: {problem}"
    return None


def _text_fault(text: str) -> str | None:
    """Why ``text`` cannot be a column name or a class; None if it can."""
    if len(text) > LONGEST_CELL:
        return f"{len(text)} characters, expected a label"
    if "\0" in text:
        return "contains a NUL character"
    return None if is_unicode(text) else "is not Unicode"


class _Missing:
    """Which cells mean no label.

    Args:
        texts: What the user says means so, besides the empty cell; a number means so in any spelling.
    """

    def __init__(self, texts: Collection[str]) -> None:
        self._texts = texts
        self._numbers = {number: text for text in texts if (number := parse_number(text)) is not None}
        self._unused = set(texts)

    def marked(self, cells: Iterable[Cell]) -> list[Cell]:
        """The cells, None where there is no label."""
        return [None if not cell or self._means_none(cell) else cell for cell in cells]

    def _means_none(self, cell: str) -> bool:
        if not self._texts:
            return False
        number = parse_number(cell) if self._numbers else None
        text = cell if cell in self._texts else None if number is None else self._numbers.get(number)
        self._unused.discard(text or "")
        return text is not None

    def notes(self, raw: RawTable) -> list[str]:
        """What the user said means no label and stands nowhere, one per line."""
        notes = []
        for text in self._texts:
            if text in self._unused:
                near = next((cell for row in raw.rows for cell in row if cell and cell.lower() == text.lower()), None)
                hint = "" if near is None else f"; the labels spell it {quoted(near)}"
                notes.append(f"--missing-value {text} matches no cell{hint}")
        return notes


def _binned(bins: Bins, cells: Sequence[Cell], places: Sequence[str]) -> tuple[Bins, list[Cell], list[str]]:
    """The bins with their edges, the class of each cell, and a line for each that is none."""
    sorted_in: list[Cell] = []
    faults: list[str] = []
    try:
        bins = bins.fitted(cells)
    except ValueError as error:
        return bins, [None] * len(cells), [str(error)]
    for cell, place in zip(cells, places, strict=True):
        try:
            sorted_in.append(None if cell is None else bins.class_of(cell))
        except ValueError as error:
            sorted_in.append(None)
            faults.append(f"{place}: {quoted(bins.column)}: {error}")
    return bins, sorted_in, faults


def _without_unnamed(raw: RawTable) -> tuple[RawTable, list[Column]]:
    """The table without columns that have no name, and without empty cells after its last column; and what they were.

    A spreadsheet that once held more writes such columns, and pandas its row numbers.
    """
    unnamed = {position for position, name in enumerate(raw.header) if not name}
    width = len(raw.header)
    if not unnamed and all(len(row) <= width for row in raw.rows):
        return raw, []
    rows = []
    for row in raw.rows:
        if len(row) > width and not any(row[width:]):
            row = row[:width]
        elif len(row) < width and unnamed.issuperset(range(len(row), width)):
            row = (*row, *(None,) * (width - len(row)))
        rows.append(row)
    raw = _of_width(replace(raw, rows=tuple(rows)))
    filled = {at for row in raw.rows for at in unnamed if row[at]}
    found = [
        Column(
            f"column {at + 1}",
            ColumnKind.UNNAMED,
            "has no name"
            + (
                " (row numbers of pandas?)" if all(parse_number(row[at] or "0") is not None for row in raw.rows) else ""
            ),
        )
        for at in sorted(filled)
    ]
    empty = len(unnamed) - len(filled)
    notes = [f"{counted(empty, 'column')} without a name and without any label left out"] if empty else []
    kept = [position for position in range(width) if position not in unnamed]
    header = tuple(raw.header[position] for position in kept)
    cut = tuple(tuple(row[at] for at in kept) for row in raw.rows)
    return replace(raw, header=header, rows=cut, notes=(*raw.notes, *notes)), found


def _of_width(raw: RawTable) -> RawTable:
    """The table without rows that have another number of cells than the header, which are faults of it."""
    odd = [at for at, row in enumerate(raw.rows) if len(row) != len(raw.header)]
    if not odd:
        return raw
    faults = [f"{raw.places[at]}: {_width_fault(raw.rows[at], raw.header)}" for at in odd]
    kept = [at for at in range(len(raw.rows)) if at not in set(odd)]
    rows, places = tuple(raw.rows[at] for at in kept), tuple(raw.places[at] for at in kept)
    return replace(raw, rows=rows, places=places, faults=(*raw.faults, *faults))


def _width_fault(row: Sequence[Cell], header: Sequence[str]) -> str:
    return f"{counted(len(row), 'cell')}, expected {len(header)}"


def _with_multi_labels(raw: RawTable, wanted: Sequence[MultiLabel], missing: "_Missing") -> tuple[RawTable, list[str]]:
    """The table with a binary column for each label of the columns in ``wanted``, and what was made of them."""
    notes: list[str] = []
    for column in wanted:
        if column.column not in raw.header:
            continue  # a fault
        raw = _of_width(raw)
        at = raw.header.index(column.column)
        cells = missing.marked(row[at] for row in raw.rows)
        filled = [cell for cell in cells if cell is not None]
        separator = column.separator or separator_of(filled)
        length = vector_length(filled, separator)
        if length is not None:
            names = tuple(f"{column.column}:{position}" for position in range(length))
            made = [vector_cells(cell, separator, length) for cell in cells]
            raw = _with_columns(raw, at, names, made)
            notes.append(
                f"column {quoted(column.column)} holds 0 or 1 for each position: {counted(length, 'binary task')}, "
                f"{listed(list(names))}"
            )
            continue
        lists = [None if cell is None else labels_of(cell, separator) for cell in cells]
        labels = ordered_classes(label for found in lists for label in found or ())
        taken = set(raw.header) - {column.column}
        clear = all(re.search(r"[^\W\d_]", label) for label in labels) and not taken & set(labels)
        names = labels if clear else tuple(f"{column.column}:{label}" for label in labels)
        if not any(found and len(found) > 1 for found in lists):
            notes.append(f"--multi-label {column}: no cell holds more than one label")
        made = [[None if found is None else str(int(label in found)) for label in labels] for found in lists]
        raw = _with_columns(raw, at, names, made)
        notes += _label_notes(column, labels, lists)
        notes.append(
            f"column {quoted(column.column)} lists labels: {counted(len(names), 'binary task')}, {listed(list(names))}"
        )
    return raw, notes


def _label_notes(column: MultiLabel, labels: Sequence[str], lists: Sequence[Sequence[str] | None]) -> list[str]:
    """What is odd about the labels that a column lists, one per line."""
    name = quoted(column.column)
    notes = [
        f"column {name} lists labels that are likely to be one: {listed(ways)}; each is a task of its own, use one "
        "spelling if they are one"
        for ways in (*alike(labels), *differing_in_case(labels))
    ]
    missing = likely_missing(labels)
    if missing:
        words = " ".join(f"--missing-value {shlex.quote(label)}" for label in missing)
        notes.append(f"column {name} lists the label {listed(missing)}; if a cell of that means no label, add {words}")
    counts = Counter(label for found in lists for label in found or ())
    once = [label for label in labels if counts[label] == 1]
    if len(once) > MANY // 2:
        notes.append(
            f"column {name} lists {len(once)} labels of one image each, such as {quoted(once[0])}: "
            "is it free text? Leave tasks out with --except"
        )
    return notes


def _with_columns(raw: RawTable, at: int, names: tuple[str, ...], cells: Sequence[Sequence[Cell]]) -> RawTable:
    """The table with the columns ``names`` in place of the one at ``at``."""
    header = (*raw.header[:at], *names, *raw.header[at + 1 :])
    rows = tuple((*row[:at], *new, *row[at + 1 :]) for row, new in zip(raw.rows, cells, strict=True))
    return replace(raw, header=header, rows=rows, one_hot=raw.one_hot | set(names))


def _wanted_part(
    names: Sequence[str], places: Sequence[str], parts: Mapping[str, SplitPart], options: LabelOptions
) -> tuple[list[int], frozenset[str], list[str]]:
    """Rows of the part that is asked for, files of the others, and one line for each file that is in none."""
    faults = [
        f"{place}: file {quoted(name)} is not in {options.split_file}"
        for name, place in zip(names, places, strict=True)
        if name not in parts
    ]
    rows = [row for row, name in enumerate(names) if parts.get(name) is options.split]
    if not rows and not faults:
        faults.append(f"{options.split_file} has no image of these labels in the part {options.split.value}")
    others = frozenset(name for name in names if parts.get(name) is not options.split)
    return rows, others, faults
