"""JSON Lines: one object per line, whose keys are the columns."""

import json
from typing import Any

from mtlue_cli.budget import check_table
from mtlue_cli.choices import LabelFormat
from mtlue_cli.tasks.readers.base import Cell, LabelReader, LabelSource, ListText, RawTable, list_text, number_text
from mtlue_cli.tasks.readers.text import MOST_ENTRY, lines_of, read_text
from mtlue_cli.tasks.wording import quoted

_KINDS = {list: "a list", dict: "an object", str: "text", bool: "true or false", type(None): "null"}
_EXPECTED = "expected text, a number, true, false, null, or a list of these"


class _Number(str):
    """A number of the file, already as text."""


class _Nested(str):
    """In place of a cell that holds more than a value: what it holds, in words."""


def read_json_lines(source: LabelSource) -> RawTable:
    """Read one object per line; a key that a line lacks, or that is null, is a missing cell.

    Numbers keep their value, not their spelling: ``1`` and ``1.0`` are both ``1``. ``true`` is ``true``; ``NaN`` is a
    missing cell. A list of values is a cell with ``|`` between them, an empty one a missing cell. A column that holds
    anything else is not read.

    Raises:
        InputError: The file is no text, or empty.
    """
    header: dict[str, None] = {}
    unread: dict[str, str] = {}
    found: list[tuple[str, dict[str, Cell]]] = []
    faults: list[str] = []
    for number, line in enumerate(lines_of(read_text(source.path)), 1):
        if not line.strip():
            continue
        place = f"row {number}"
        try:
            if len(line) > MOST_ENTRY:
                raise ValueError(f"has {len(line):,} characters, expected at most {MOST_ENTRY:,}")
            cells = _cells(line)
        except (ValueError, RecursionError) as error:
            faults.append(f"{place}: {_described(error)}")
            check_table(source.path, len(found) + len(faults), len(header))
            continue
        header.update(dict.fromkeys(cells))
        found.append((place, cells))
        check_table(source.path, len(found), len(header))
        for name, cell in cells.items():
            if isinstance(cell, _Nested):
                unread.setdefault(name, f"holds {cell} ({place}), {_EXPECTED}")
    read = tuple(name for name in header if name not in unread)
    rows = tuple(tuple(cells.get(name) for name in read) for _, cells in found)
    return RawTable(read, rows, tuple(place for place, _ in found), tuple(faults), unread=unread)


def _cells(line: str) -> dict[str, Cell]:
    document = json.loads(
        line,
        parse_int=_Number,
        parse_float=lambda text: _Number(number_text(float(text))),
        parse_constant=lambda text: None if text == "NaN" else _Number(text),
        object_pairs_hook=_distinct,
    )
    if not isinstance(document, dict):
        kind = "a number" if isinstance(document, _Number) else _KINDS[type(document)]
        raise ValueError(f'expected an object such as {{"file_name": "a.jpg", "smiling": 1}}, found {kind}')
    return {name.strip(): _cell(value) for name, value in document.items()}


def _cell(value: Any) -> Cell:  # noqa: ANN401 - whatever JSON holds
    if isinstance(value, str):
        return str(value).strip()
    if value is None or isinstance(value, bool):
        return None if value is None else str(value).lower()
    parts = [_cell(part) for part in value] if isinstance(value, list) else [_Nested()]
    if any(isinstance(part, _Nested | ListText) for part in parts):
        return _Nested("a list of lists or objects" if isinstance(value, list) else _KINDS[type(value)])
    return list_text(parts)


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document: dict[str, Any] = {}
    for name, value in pairs:
        if name.strip() in document:
            raise ValueError(f"the key {quoted(name)} appears more than once")
        document[name.strip()] = value
    return document


def _described(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"not JSON at character {error.pos + 1}: {error.msg}"
    return "nested too deeply" if isinstance(error, RecursionError) else str(error)


JSON_LINES = LabelReader(LabelFormat.JSONL, "one JSON object per line", read_json_lines, (".jsonl", ".ndjson"))
