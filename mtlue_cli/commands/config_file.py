"""Options from TOML files: ``--config mtlue.toml``, and ``[tool.mtlue]`` of the ``pyproject.toml`` at hand.

``[protect]`` (``[tool.mtlue.protect]``) holds the options of ``mtlue protect``, by their names without the leading
dashes. An option on the command line comes first, then its environment variable, the config file, ``pyproject.toml``.
"""

import difflib
import tomllib
from collections.abc import Collection, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any

from mtlue_cli.errors import InputError
from mtlue_cli.files import read_regular
from mtlue_cli.options import OptionField
from mtlue_cli.storage.urls import url_of

PYPROJECT = "pyproject.toml"
COMMANDS = ("demo", "protect", "train-generator", "verify", "inspect", "trace-probes", "trace-judge", "trace-copy")
"""The table of each command; ``mtlue trace probes`` has ``[trace-probes]``."""


def values_of_files(
    command: str, options: Sequence[OptionField], config: Path | None
) -> tuple[dict[str, Any], dict[str, str]]:
    """What the config files say for a command.

    Args:
        command: Its name.
        options: Its options; arguments have no key.
        config: The file of ``--config``; None: only ``pyproject.toml`` of the current folder, if it is there.

    Returns:
        Field name to value, as if it had been typed; and to the file and the key that it comes from.

    Raises:
        InputError: A file cannot be read, or holds what is no option or no value of one; lists every fault.
    """
    files: list[tuple[Path, tuple[str, ...]]] = []
    if Path(PYPROJECT).is_file():
        files.append((Path(PYPROJECT), ("tool", "mtlue")))
    if config is not None:
        files.append((config, ()))
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    faults: list[str] = []
    for path, place in files:
        table = _inner(_read(path), place, path, faults)
        for name, own in table.items():
            if not isinstance(own, dict):
                faults.append(f"{path}: {name} is outside the table of a command, such as {_heading(place, command)}")
            elif name not in COMMANDS:
                faults.append(f"{path}: {_heading(place, name)} is not a command; {_nearest(name, COMMANDS)}")
        found = table.get(command)
        if isinstance(found, dict):
            given = _values(found, options, path, _heading(place, command), faults)
            table_name = ".".join((*place, command))  # without brackets, which a terminal takes for markup
            values |= given
            origins |= {each.name: f"{path}: {table_name}.{_key(each)}" for each in options if each.name in given}
    if faults:
        hint = f"mtlue {typed(command)} --help lists the options; a key is one without its leading dashes"
        raise InputError("the config file is not valid", faults, hint)
    return values, origins


def typed(command: str) -> str:
    """The command of a table as it is typed."""
    return command.replace("trace-", "trace ")


def _read(path: Path) -> Mapping[str, Any]:
    try:
        return tomllib.loads(read_regular(path).decode())
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:  # no TOML, or no UTF-8
        raise InputError(f"{path} is not a TOML file: {error}") from error


def _inner(table: Mapping[str, Any], names: Sequence[str], path: Path, faults: list[str]) -> Mapping[str, Any]:
    """The table ``names`` within ``table``; empty if there is none."""
    for position, name in enumerate(names):
        inner = table.get(name, {})
        if not isinstance(inner, dict):
            faults.append(f"{path}: {'.'.join(names[: position + 1])} is {inner!r}, expected a table")
            return {}
        table = inner
    return table


def _heading(place: Sequence[str], name: str) -> str:
    return f"[{'.'.join((*place, name))}]"


def _key(found: OptionField) -> str:
    return found.option.flag.removeprefix("--")


def _nearest(name: str, known: Collection[str]) -> str:
    (nearest,) = difflib.get_close_matches(name, known, 1, cutoff=0.0)
    return f"did you mean {nearest}?"


def _values(
    table: Mapping[str, Any], options: Sequence[OptionField], path: Path, heading: str, faults: list[str]
) -> dict[str, Any]:
    known = {_key(option): option for option in options if option.option.flags}
    values: dict[str, Any] = {}
    for key, value in table.items():
        if key not in known:
            faults.append(f"{path}: {heading} has no key {key}; {_nearest(key, known)}")
            continue
        try:
            values[known[key].name] = _given(known[key], key, value, path.parent)
        except ValueError as fault:
            faults.append(f"{path}: {heading} {key} is {_written(value)}, {fault}")
    return values


def _given(found: OptionField, key: str, value: Any, folder: Path) -> Any:  # noqa: ANN401 - whatever TOML holds
    """``value`` as if it had been typed.

    Raises:
        ValueError: It is no value of the option; says what is expected.
    """
    given: Any
    if found.repeated:
        given = [_single(found, key, each, folder) for each in (value if isinstance(value, list) else [value])]
    elif isinstance(value, list) and (found.listed or found.option.bare == "true"):
        given = ",".join(_single(found, key, each, folder) for each in value)
    else:
        given = _single(found, key, value, folder)
    if found.option.convert is not None:
        try:
            found.option.convert(given)
        except InputError as error:
            raise ValueError("; ".join((str(error), *error.faults))) from error
    return given


def _single(found: OptionField, key: str, value: Any, folder: Path) -> Any:  # noqa: ANN401 - as above
    kind, option = found.value_type, found.option
    if kind is bool:
        if not isinstance(value, bool):
            raise ValueError("expected true or false")
        return value
    if kind is int and value is True and option.bare is not None:
        return int(option.bare)
    if kind in (int, float):
        fault = found.number_fault(value, f"{key} = ")
        if fault is not None:
            raise ValueError(fault)
        return value
    if isinstance(kind, type) and issubclass(kind, StrEnum):
        names = [name.value for name in kind]
        if value not in names:
            raise ValueError(f"expected one of {', '.join(names)}; {_nearest(str(value), names)}")
        return value
    if kind is str and option.minimum is not None and isinstance(value, int) and not isinstance(value, bool):
        return str(value)  # a number, or a word such as auto
    if isinstance(value, bool) and option.bare == "true":
        return str(value).lower()
    if not isinstance(value, str):
        raise ValueError("expected text in quotation marks")
    is_path = kind is Path and not (option.dash and value == "-") and not (option.url and url_of(Path(value)))
    if is_path or (option.file_or_name and (folder / value).is_file()):
        return str(folder.absolute() / value)
    return value


def _written(value: Any) -> str:  # noqa: ANN401 - whatever TOML holds
    """``value`` much as a TOML file writes it."""
    return str(value).lower() if isinstance(value, bool) else f'"{value}"' if isinstance(value, str) else str(value)
