"""Names with settings, as options give them: ``sparse:share=0.1``, ``adversarial-training:steps=10,radius=4``."""

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Any, get_args, get_origin, get_type_hints

from mtlue_cli.errors import InputError

RANGE = ".."
"""Stands between the two ends of a range, as in ``intensity=0.5..1``."""

NONE = "none"

_WORDS = {int: "a whole number", float: "a number", bool: "yes or no"}
_TRUTHS = {"yes": True, "true": True, "no": False, "false": False}


@dataclass(frozen=True)
class NoSettings:
    """Settings of what has none."""


@dataclass(frozen=True)
class Entry:
    """One name of a registry.

    Attributes:
        name: As it is registered.
        settings: Its settings, a frozen dataclass of numbers, truth values and ranges that refuses what is out of
            range with a ``ValueError``.
        family: Name that stands for it with other settings; several entries of one family differ in these alone.
    """

    name: str
    settings: Any
    family: str


@dataclass(frozen=True)
class Configured:
    """An entry with its settings.

    Attributes:
        name: The same settings always give the same name: that of the entry that has them, or the family's with all
            settings that differ from its first entry's.
        entry: Name of the entry that is built.
        settings: All of them, as the entry's dataclass.
    """

    name: str
    entry: str
    settings: Any


def configure(kind: str, text: str, entries: Sequence[Entry]) -> Configured:
    """Read ``NAME`` or ``NAME:SETTING=VALUE,...``.

    Args:
        kind: What the entries are, for messages.
        text: What was given.
        entries: All that are known.

    Raises:
        InputError: There is no such name or setting, or a value is unfit; every fault of ``text`` is listed.
    """
    head, colon, rest = text.partition(":")
    found = next((entry for entry in entries if head in (entry.name, entry.family)), None)
    if found is None:
        known = dict.fromkeys(name for entry in entries for name in (entry.family, entry.name))
        raise InputError(f"there is no {kind} {head!r}", hint=f"known: {', '.join(known)}")
    given, faults = _read_settings(rest, found.settings) if colon else ({}, [])
    settings = found.settings
    if not faults:
        try:
            settings = dataclasses.replace(found.settings, **given)
        except (ValueError, InputError) as error:
            faults.append(str(error))
    if faults:
        raise InputError(f"{kind} {text!r} cannot be had", faults, f"settings of {head}: {told(found.settings)}")
    family = [entry for entry in entries if entry.family == found.family]
    same = next((entry for entry in family if entry.settings == settings), None)
    if same is not None:
        return Configured(same.name, same.name, settings)
    changed = written(settings, unlike=family[0].settings)
    return Configured(f"{found.family}:{','.join(changed)}", family[0].name, settings)


def configure_all(kinds: Sequence[tuple[str, Sequence[str], Sequence[Entry]]]) -> list[list[Configured]]:
    """Read the texts of several kinds, each ``(kind, texts, entries)``; all faults are reported together.

    Raises:
        InputError: A text is at fault.
    """
    faults: list[str] = []
    hints: list[str] = []
    results: list[list[Configured]] = []
    for kind, texts, entries in kinds:
        results.append([])
        for text in texts:
            try:
                results[-1].append(configure(kind, text, entries))
            except InputError as error:
                faults += [f"{error}: {fault}" for fault in error.faults] or [str(error)]
                hints += [error.hint] if error.hint is not None and error.hint not in hints else []
    if faults:
        raise InputError("what is to be tried cannot be read", faults, "; ".join(hints))
    return results


def written(settings: Any, unlike: Any = None) -> list[str]:  # noqa: ANN401 - any dataclass
    """``name=value`` of every setting, or of those that differ from ``unlike``."""
    return [
        f"{field.name}={_written(getattr(settings, field.name))}"
        for field in dataclasses.fields(settings)
        if unlike is None or getattr(settings, field.name) != getattr(unlike, field.name)
    ]


def told(settings: Any) -> str:  # noqa: ANN401 - any dataclass
    """Every setting with its value and what else it may be, for a message."""
    kinds = get_type_hints(type(settings))
    parts = [f"{line} ({_expected(kinds[line.partition('=')[0]])})" for line in written(settings)]
    return ", ".join(parts) or "it has none"


def to_json(settings: Any) -> dict[str, Any]:  # noqa: ANN401 - any dataclass
    """Every setting by name, JSON-ready."""
    values = {field.name: getattr(settings, field.name) for field in dataclasses.fields(settings)}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


def _read_settings(text: str, defaults: Any) -> tuple[dict[str, Any], list[str]]:  # noqa: ANN401 - any dataclass
    kinds = get_type_hints(type(defaults))
    given: dict[str, Any] = {}
    faults: list[str] = []
    for part in text.split(","):
        name, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals:
            faults.append(f"{part!r} is no setting, expected NAME=VALUE")
        elif name not in kinds:
            faults.append(f"there is no setting {name!r}")
        elif name in given:
            faults.append(f"{name} is given twice")
        else:
            try:
                given[name] = _read(value, kinds[name])
            except ValueError:
                faults.append(f"{name} is {value!r}, expected {_expected(kinds[name])}")
    return given, faults


def _read(text: str, kind: Any) -> Any:  # noqa: ANN401 - a type, and a value of it
    """A value of one of the types that settings have.

    Raises:
        ValueError: ``text`` is none.
    """
    if isinstance(kind, UnionType):
        return None if text == NONE else _read(text, _not_none(kind))
    if get_origin(kind) is tuple:
        return tuple(_read(end, part) for end, part in zip(text.split(RANGE), get_args(kind), strict=True))
    if kind is bool:
        if text not in _TRUTHS:
            raise ValueError(text)
        return _TRUTHS[text]
    value = kind(text)
    if not math.isfinite(value):
        raise ValueError(text)
    return value


def _written(value: Any) -> str:  # noqa: ANN401 - of any type that settings have
    if value is None:
        return NONE
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return RANGE.join(map(_written, value))
    return str(value).removesuffix(".0")


def _expected(kind: Any) -> str:  # noqa: ANN401 - a type
    if isinstance(kind, UnionType):
        return f"{_expected(_not_none(kind))} or {NONE}"
    if get_origin(kind) is tuple:
        return f"a range such as 0.3{RANGE}0.7"
    return _WORDS[kind]


def _not_none(kind: UnionType) -> Any:  # noqa: ANN401 - a type
    return next(part for part in get_args(kind) if part is not NoneType)
