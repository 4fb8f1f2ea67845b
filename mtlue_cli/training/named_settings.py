"""Names with settings, as options give them: ``sparse:share=0.1``, ``adversarial-training:steps=10,radius=4``."""

import dataclasses
import math
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from types import NoneType
from typing import Any, Generic, TypeVar, get_args, get_origin, get_type_hints

import msgspec

from mtlue_cli.errors import InputError

SettingsT = TypeVar("SettingsT")

RANGE, NONE = "..", "none"
"""Between the two ends of a range, as in ``intensity=0.5..1``; and the text for None."""

_WORDS = {int: "a whole number", float: "a number", bool: "yes or no", str: "a name"}
_TRUTHS = {"yes": True, "true": True, "no": False, "false": False}


@dataclass(frozen=True)
class NoSettings:
    """Settings of what has none."""


@dataclass(frozen=True, kw_only=True)
class Choice(Generic[SettingsT]):
    """One variant of a kind (a countermeasure, a training method) with its settings.

    A registry holds every variant with its usual settings; :func:`choose` gives the same with others.

    Attributes:
        name: As an option takes it, such as ``jpeg-10`` or ``jpeg:quality=20``. The same settings always have the same
            name: that of the registered variant that has them, or the family's with all that differ from its first.
        settings: A frozen dataclass of numbers, truth values, names and ranges; ``ValueError`` for what is out of
            range.
        family: Common name of variants that differ in their settings alone; its own unless given.
    """

    name: str
    settings: SettingsT
    family: str = ""

    def __post_init__(self) -> None:
        if not self.family:
            object.__setattr__(self, "family", str(self.name))

    @property
    def variant(self) -> str:
        """Its name without settings."""
        return self.name.partition(":")[0]

    @property
    def changed(self) -> tuple[str, ...]:
        """The settings that its name states, each as ``SETTING=VALUE``."""
        return tuple(filter(None, self.name.partition(":")[2].split(",")))

    def settings_to_json(self) -> dict[str, Any]:
        """Every setting by name, JSON-ready."""
        values = {field.name: getattr(self.settings, field.name) for field in dataclasses.fields(self.settings)}  # type: ignore[arg-type]  # a dataclass
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


ChoiceT = TypeVar("ChoiceT", bound=Choice[Any])


def choose(kind: str, text: str, registered: Collection[ChoiceT]) -> ChoiceT:
    """Read ``NAME`` or ``NAME:SETTING=VALUE,...`` of a ``kind``, which messages name.

    Raises:
        InputError: There is no such name or setting, or a value is unfit; every fault of ``text`` is listed.
    """
    head, colon, rest = text.partition(":")
    found = next((known for known in registered if head in (known.name, known.family)), None)
    if found is None:
        names = dict.fromkeys(name for known in registered for name in (known.family, known.name))
        raise InputError(f"there is no {kind} {head!r}", hint=f"known: {', '.join(names)}")
    given, faults = _read_settings(rest, found.settings) if colon else ({}, [])
    settings = found.settings
    if not faults:
        try:
            settings = dataclasses.replace(found.settings, **given)
        except (ValueError, InputError) as error:
            faults.append(str(error))
    if faults:
        raise InputError(f"{kind} {text!r} cannot be used", faults, f"settings of {head}: {described(found.settings)}")
    family = [known for known in registered if known.family == found.family]
    same = next((known for known in family if known.settings == settings), None)
    if same is not None:
        return same
    changed = assignments(settings, unlike=family[0].settings)
    return dataclasses.replace(family[0], name=f"{found.family}:{','.join(changed)}", settings=settings)


def choose_all(read: Callable[[str], ChoiceT], texts: Iterable[str], errors: list[InputError]) -> tuple[ChoiceT, ...]:
    """Read several; the error of one that is at fault goes to ``errors``, for :func:`combined`."""
    chosen: list[ChoiceT] = []
    for text in texts:
        try:
            chosen.append(read(text))
        except InputError as error:
            errors.append(error)
    return tuple(chosen)


def combined(message: str, errors: Collection[InputError]) -> InputError:
    """One error of several: all their faults, each after its message, and every hint once."""
    faults = [line for error in errors for line in ([f"{error}: {fault}" for fault in error.faults] or [str(error)])]
    return InputError(message, faults, "; ".join(dict.fromkeys(error.hint for error in errors if error.hint)) or None)


def assignments(settings: Any, unlike: Any = None) -> list[str]:  # noqa: ANN401 - any dataclass
    """``name=value`` of every setting, or of those that differ from ``unlike``."""
    return [
        f"{field.name}={_text(getattr(settings, field.name))}"
        for field in dataclasses.fields(settings)
        if unlike is None or getattr(settings, field.name) != getattr(unlike, field.name)
    ]


def described(settings: Any) -> str:  # noqa: ANN401 - any dataclass
    """Every setting with its value and what else it may be, for a message."""
    kinds = get_type_hints(type(settings))
    parts = [f"{line} ({_expected(kinds[line.partition('=')[0]])})" for line in assignments(settings)]
    return ", ".join(parts) or "it has none"


def check_ranges(settings: Any) -> None:  # noqa: ANN401 - any dataclass
    """Check every field of a dataclass that states its range, such as ``Annotated[int, Meta(ge=1, le=95)]``.

    Raises:
        ValueError: Names a value out of range, and what is expected.
    """
    plain = get_type_hints(type(settings))
    for name, kind in get_type_hints(type(settings), include_extras=True).items():
        if kind != plain[name]:
            try:
                msgspec.convert(getattr(settings, name), kind)
            except msgspec.ValidationError as error:
                expected = str(error).replace("`int`", _WORDS[int]).replace("`float`", _WORDS[float])
                expected = expected.replace("Expected", "expected")
                raise ValueError(f"{name} is {_text(getattr(settings, name))}, {expected}") from None


def _read_settings(text: str, defaults: Any) -> tuple[dict[str, Any], list[str]]:  # noqa: ANN401 - any dataclass
    kinds = get_type_hints(type(defaults))
    given: dict[str, Any] = {}
    faults: list[str] = []
    for part in text.split(","):
        name, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals:
            faults.append(f"{part!r} is not a setting, expected NAME=VALUE")
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
    """A value of one of the types that settings have; ValueError if ``text`` is none."""
    if NoneType in get_args(kind):
        return None if text == NONE else _read(text, _not_none(kind))
    if get_origin(kind) is tuple:
        return tuple(_read(end, part) for end, part in zip(text.split(RANGE), get_args(kind), strict=True))
    if kind is str:
        return text
    if kind is bool:
        if text not in _TRUTHS:
            raise ValueError(text)
        return _TRUTHS[text]
    value = kind(text)
    if not math.isfinite(value):
        raise ValueError(text)
    return value


def _text(value: Any) -> str:  # noqa: ANN401 - of any type that settings have
    if value is None:
        return NONE
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return RANGE.join(map(_text, value))
    return value if isinstance(value, str) else str(value).removesuffix(".0")


def _expected(kind: Any) -> str:  # noqa: ANN401 - a type
    if NoneType in get_args(kind):
        return f"{_expected(_not_none(kind))} or {NONE}"
    if get_origin(kind) is tuple:
        return f"a range such as 0.3{RANGE}0.7"
    return _WORDS[kind]


def _not_none(kind: Any) -> Any:  # noqa: ANN401 - a type
    return next(part for part in get_args(kind) if part is not NoneType)
