"""JSON Lines: one object per line, whose keys are the columns."""

import json
from typing import Any

from mtlue_cli.choices import LabelFormat
from mtlue_cli.tasks.readers.base import Cell, LabelReader, LabelSource, RawTable
from mtlue_cli.tasks.readers.text import read_text
from mtlue_cli.tasks.readers.values import number_text
from mtlue_cli.tasks.wording import quoted

_KINDS = {list: "a list", dict: "an object", str: "text", bool: "true or false", type(None): "null"}


class _Number(str):
    """A number of the file, already as text."""


class _Repeated(ValueError):
    """A key stands twice in one object."""


def read_json_lines(source: LabelSource) -> RawTable:
    """Read one object per line; a key that a line lacks, or that is null, is a missing cell.

    Numbers keep their value, not their spelling: ``1`` and ``1.0`` are both ``1``. ``true`` is ``true``.

    Raises:
        InputError: The file is no text, or empty.
    """
    header: dict[str, None] = {}
    found: list[tuple[str, dict[str, Cell]]] = []
    faults: list[str] = []
    for number, line in enumerate(read_text(source.path).split("\n"), 1):
        if not line.strip():
            continue
        place = f"row {number}"
        try:
            cells = _cells(line)
        except (ValueError, RecursionError) as error:
            faults.append(f"{place}: {_described(error)}")
            continue
        header.update(dict.fromkeys(cells))
        found.append((place, cells))
    rows = tuple(tuple(cells.get(name) for name in header) for _, cells in found)
    return RawTable(tuple(header), rows, tuple(place for place, _ in found), tuple(faults))


def _cells(line: str) -> dict[str, Cell]:
    document = json.loads(
        line,
        parse_int=_Number,
        parse_float=lambda text: _Number(number_text(float(text))),
        parse_constant=_Number,
        object_pairs_hook=_distinct,
    )
    if not isinstance(document, dict):
        kind = "a number" if isinstance(document, _Number) else _KINDS[type(document)]
        raise ValueError(f'expected an object such as {{"file_name": "a.jpg", "smiling": 1}}, found {kind}')
    return {name.strip(): _cell(name, value) for name, value in document.items()}


def _cell(name: str, value: Any) -> Cell:  # noqa: ANN401 - whatever JSON holds
    if isinstance(value, str):
        return str(value).strip()
    if value is None or isinstance(value, bool):
        return None if value is None else str(value).lower()
    raise ValueError(f"column {quoted(name)} holds {_KINDS[type(value)]}, expected text, a number, true, false or null")


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document: dict[str, Any] = {}
    for name, value in pairs:
        if name.strip() in document:
            raise _Repeated(f"the key {quoted(name)} appears more than once")
        document[name.strip()] = value
    return document


def _described(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"not JSON at character {error.pos + 1}: {error.msg}"
    return "nested too deeply" if isinstance(error, RecursionError) else str(error)


JSON_LINES = LabelReader(LabelFormat.JSONL, "one JSON object per line", read_json_lines, (".jsonl", ".ndjson"))
