"""Columns as a user names them in options."""

from collections.abc import Callable, Collection, Iterable
from typing import Protocol, TypeVar

from mtlue_cli.errors import InputError
from mtlue_cli.tasks.wording import quoted


class _OfColumn(Protocol):
    @property
    def column(self) -> str: ...


ValueT = TypeVar("ValueT", bound=_OfColumn)


def parse_by_column(
    texts: Iterable[str], parse: Callable[[str], ValueT], option: str, form: str, repeated: str
) -> tuple[ValueT, ...]:
    """The values of an option that may be repeated, each for another column.

    Args:
        texts: What the user wrote.
        parse: Reads one value. Raises ValueError, which says what is wrong.
        option: The option.
        form: How a value is written.
        repeated: What is wrong with a second value for a column, as said after its name.

    Raises:
        InputError: Lists everything that is wrong.
    """
    found: dict[str, ValueT] = {}
    faults: list[str] = []
    for text in texts:
        try:
            value = parse(text)
        except ValueError as error:
            faults.append(f"{quoted(text)}: {error}")
            continue
        if not value.column:
            faults.append(f"{quoted(text)} names no column")
        elif value.column in found:
            faults.append(f"{quoted(text)}: column {quoted(value.column)} {repeated}")
        found.setdefault(value.column, value)
    if faults:
        raise InputError(f"{option} is not valid", faults, f"write {form}")
    return tuple(found.values())


def resolved_names(listed: Collection[str], known: Collection[str]) -> tuple[str, ...]:
    """Listed names, split at every comma, with the parts of a column's name that holds commas put together again.

    A list such as ``--except "width, height"`` cannot tell one column called ``width, height`` from two. A part that
    ``known`` has as it is written is that column; else the most parts that make a known name are taken.
    """
    parts_of = {tuple(part.strip() for part in name.split(",") if part.strip()): name for name in known if "," in name}
    given, found, at = tuple(listed), [], 0
    while at < len(given):
        size = next((size for size in range(len(given) - at, 1, -1) if given[at : at + size] in parts_of), 1)
        if given[at] in known:
            size = 1
        found.append(given[at] if size == 1 else parts_of[given[at : at + size]])
        at += size
    return tuple(found)
