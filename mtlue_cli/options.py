"""How options are described: each field of a config class says once how a user sets it.

Flags, range and environment variable are part of the field's type, ``Annotated[int, Option(...)]``; the help is what
the docstring of the class says of the field. The command line (:mod:`mtlue_cli.commands.from_config`), config files
(:mod:`mtlue_cli.commands.config_file`) and :func:`range_faults` read them from there. Imports nothing heavy: ``--help``
loads this module and the config classes.
"""

import csv
import functools
import inspect
import io
import math
import os
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass, replace
from enum import StrEnum
from fractions import Fraction
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin

from mtlue_cli import choices
from mtlue_cli.choices import MAX_EPSILON, EngineName

ConfigT = TypeVar("ConfigT")

INPUT = "Input"
PROTECTION = "Protection"
TRAINING = "Training"
COMPUTATION = "Computation"
OUTPUT = "Output"
LIMITS = "Limits"

_CONSTANTS = {
    name: ", ".join(value) if isinstance(value, type) and issubclass(value, StrEnum) else value
    for name, value in vars(choices).items()
}
"""What names in braces stand for in a help text: a constant of :mod:`mtlue_cli.choices`, or all values of an enum."""


@dataclass(frozen=True, kw_only=True)
class Option:
    """How a user sets a field. A field that holds a tuple is an option that may be repeated.

    Attributes:
        flags: Such as ``--out -o`` or ``--control/--no-control``, separated by blanks. Unset: the field's
            name with two dashes before it.
        argument: Whether it is an argument of the command instead, which has no flags.
        help: What it does, its unit, and what happens if it is not given. Unset: what the docstring of the config class
            says of the field.
        panel: Heading of the help that it stands under.
        metavar: How the help names the value.
        minimum, maximum: Range of a number, both ends allowed.
        shared: Whether every command that has the option means the same by it; else the environment variable carries
            the command's name.
        environment: Whether there is a variable at all.
        typed: Type of what is typed, where it is not the field's.
        convert: Makes the field's value of what is typed.

            Raises: InputError: It is not understood.
        listed: Whether the text is a list separated by commas; given more than once, all of them count. So it is where
            ``convert`` is :func:`listed_names`.
        explain: What to write instead of text that is no whole number, or None; takes the text, and what stands before
            a value (``--epsilon ``).
        optional: Whether the command finds a value itself if none is given, although the field has no default.
        takes: What a path leads to, if anything is there.
        exists: Whether something must be there.
        dash: Whether ``-`` may stand for a stream.
        file_or_name: Whether the text may be a path; in a config file it is then relative to that file.
        completions: What a shell offers.
        bare: What is meant where no value follows on the command line, and by ``true`` in a config file. A word that
            names none of ``completions``, or no number where there is a ``minimum``, is then no value.
        result: Whether it names a file that the command writes, which must not replace anything that it reads.
        url: Whether a path may be a URL (:mod:`mtlue_cli.storage`), and what is done there.
    """

    flags: str = ""
    argument: bool = False
    help: str = ""
    panel: str | None = None
    metavar: str | None = None
    minimum: float | None = None
    maximum: float | None = None
    shared: bool = False
    environment: bool = True
    typed: Any = None
    convert: Callable[[Any], Any] | None = None
    listed: bool = False
    explain: Callable[[str, str], str | None] | None = None
    optional: bool = False
    takes: Literal["file", "folder", "any"] = "any"
    exists: bool = False
    dash: bool = False
    file_or_name: bool = False
    completions: Collection[str] | None = None
    bare: str | None = None
    result: bool = False
    url: Literal["read", "written"] | None = None

    @property
    def flag(self) -> str:
        """The long form that switches it on, such as ``--out``."""
        return self.flags.split()[0].split("/")[0]

    def variable(self, command: str) -> str | None:
        """Environment variable: ``MTLUE_SEED``, or ``MTLUE_PROTECT_OUT`` for the ``--out`` of ``protect`` alone.

        ``command`` is the command in one word, such as ``train``.
        """
        if not self.environment:
            return None
        words = ("MTLUE", self.flag[2:]) if self.shared else ("MTLUE", command, self.flag[2:])
        return "_".join(words).replace("-", "_").upper()


@dataclass(frozen=True)
class OptionField:
    """A field of a config class that a user can set.

    Attributes:
        field: The field.
        option: How it is set.
        value_type: Type of a value as it is typed, without None; of each one if it may be repeated.
        repeated: Whether it may.
    """

    field: "Field[Any]"
    option: Option
    value_type: Any
    repeated: bool

    @property
    def name(self) -> str:
        """The field's name."""
        return self.field.name

    @property
    def listed(self) -> bool:
        """Whether its text is a list; given more than once, all of them count."""
        return self.option.listed or self.option.convert is listed_names

    @property
    def kinds(self) -> set[Any]:
        """Types of the field's value, or of each of its values."""
        found, kinds = [get_args(self.field.type)[0]], set[Any]()
        while found:
            kind = found.pop()
            found.extend(get_args(kind))
            kinds.add(kind)
        return kinds

    @property
    def default(self) -> Any:  # noqa: ANN401 - whatever the field holds
        """Its value if nothing is given; None where that is worked out, ``MISSING`` where something must be given."""
        if self.option.optional or self.repeated or self.field.default_factory is not MISSING:
            return None
        return self.field.default

    def number_fault(self, value: object, before: str) -> str | None:
        """What is wrong with a number; None for a sound one.

        ``before`` is what stands before a value where the user writes it, such as ``--epsilon ``.
        """
        least, most = self.option.minimum, self.option.maximum
        bounds = (
            f"from {least:g} to {most:g}" if most is not None else f"from {least:g} up" if least is not None else ""
        )
        whole = self.value_type is not float
        if isinstance(value, bool) or not isinstance(value, int if whole else int | float) or not math.isfinite(value):
            advice = None if self.option.explain is None else self.option.explain(str(value), before)
            return advice or f"expected a {'whole ' if whole else ''}number {bounds}".rstrip()
        if (least is None or least <= value) and (most is None or value <= most):
            return None
        return f"expected {bounds.removeprefix('from ')}" if most is not None else f"expected at least {least:g}"


def option_fields(config: type[Any]) -> Iterator[OptionField]:
    """The fields of ``config`` that a user can set, and those of config classes that are fields of it, in order."""
    for field in fields(config):
        if _is_config(field.type):
            yield from option_fields(field.type)  # type: ignore[arg-type]  # just checked
        elif (found := _described(config, field)) is not None:  # type: ignore[arg-type]  # a class is hashable
            yield found


def built(config: type[ConfigT], values: Mapping[str, Any], **more: Any) -> ConfigT:  # noqa: ANN401 - other fields
    """A config of what was typed.

    Args:
        config: Its class.
        values: Field name to what was typed; None, or nothing for an option that may be repeated, leaves the default.
        more: Fields that come from elsewhere.

    Raises:
        InputError: A value is not understood.
    """
    given: dict[str, Any] = {}
    for field in fields(config):  # type: ignore[arg-type]  # config classes are dataclasses
        if field.name in more:
            continue
        if _is_config(field.type):
            given[field.name] = built(field.type, values)  # type: ignore[arg-type]  # just checked
        elif (found := _described(config, field)) is not None:  # type: ignore[arg-type]  # as above
            value = values[field.name]
            several = found.repeated or found.listed
            if value is not None and not (several and not value):
                convert = found.option.convert or (tuple if found.repeated else None)
                if found.listed:
                    convert = _all_names if convert is listed_names else ",".join
                given[field.name] = value if convert is None else convert(value)
    return config(**given, **more)


def _all_names(texts: Sequence[str]) -> tuple[str, ...]:
    return tuple(name for text in texts for name in listed_names(text))


def range_faults(config: object) -> list[str]:
    """Numbers of a config that are none, or out of the range of their option, one per line."""
    faults: list[str] = []
    for found in option_fields(type(config)):
        value, least, most = getattr(config, found.name, None), found.option.minimum, found.option.maximum
        if value is not None and not (found.repeated or least is most is None):
            fault = found.number_fault(value, f"{found.option.flag} ")
            faults += [] if fault is None else [f"{found.option.flag} is {value}, {fault}"]
    return faults


def _is_config(kind: Any) -> bool:  # noqa: ANN401 - any type
    return isinstance(kind, type) and is_dataclass(kind) and next(option_fields(kind), None) is not None


@functools.cache
def _described(config: type[Any], field: "Field[Any]") -> OptionField | None:
    if get_origin(field.type) is not Annotated:
        return None
    annotated, *notes = get_args(field.type)
    for option in (note for note in notes if isinstance(note, Option)):
        if not (option.flags or option.argument):
            option = replace(option, flags=f"--{field.name.replace('_', '-')}")
        if not option.help:
            option = replace(option, help=_help_texts(inspect.getdoc(config) or "").get(field.name, ""))
        typed = annotated if option.typed is None else option.typed
        if get_origin(typed) is UnionType:
            (typed,) = (part for part in get_args(typed) if part is not NoneType)
        repeated = get_origin(typed) in (tuple, list)
        return OptionField(field, option, get_args(typed)[0] if repeated else typed, repeated)
    return None


@functools.cache
def _help_texts(docstring: str) -> Mapping[str, str]:
    """What the ``Attributes`` in the docstring of a config class say of each field, on one line."""
    entries = re.findall(r"^    (\w+): (.+(?:\n {8}.+)*)", docstring, re.MULTILINE)
    return {name: " ".join(text.split()).format_map(_CONSTANTS) for name, text in entries}


def usable_threads() -> int:
    """One thread per core that this process may use; at least two, since disks keep one waiting."""
    return max(2, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)


def launched_as() -> tuple[int, int]:
    """Number of this process and how many a launcher, such as ``accelerate launch``, started: (0, 1) if none did."""
    try:
        rank, count = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    except (KeyError, ValueError):
        return 0, 1
    return (rank, count) if "MASTER_ADDR" in os.environ else (0, 1)


def listed_names(text: str) -> tuple[str, ...]:
    """The names in a comma-separated option; one in quotation marks may hold commas, as a cell of a CSV file does."""
    rows = csv.reader(io.StringIO(text, newline=""), skipinitialspace=True) if '"' in text else [text.split(",")]
    return tuple(name for row in rows for name in (part.strip() for part in row) if name)


def _epsilon_in_255ths(text: str, before: str) -> str | None:
    try:
        share = Fraction(text.replace(" ", ""))
    except (ValueError, ZeroDivisionError):
        return None
    if not 0 < share < 1:
        return None
    levels = round(share * 255)
    return f"expected an integer number of 255ths: {text} is about {levels}/255, write {before}{max(levels, 1)}"


EPSILON = Option(
    flags="--epsilon -e",
    panel=PROTECTION,
    metavar="N",
    minimum=1,
    maximum=MAX_EPSILON,
    explain=_epsilon_in_255ths,
    shared=True,
)
"""The bound."""

Images = Annotated[
    Path,
    Option(
        argument=True,
        help="Folder of images; folders in it are read too. May be a URL.",
        metavar="IMAGES",
        takes="folder",
        exists=True,
        url="read",
    ),
]
Tasks = Annotated[
    tuple[str, ...] | None,
    Option(
        help="Use these columns only, separated by commas. May be repeated.",
        panel=PROTECTION,
        metavar="A,B",
        typed=str,
        convert=listed_names,
        shared=True,
    ),
]
Limit = Annotated[
    int | None,
    Option(help="Use only the first N rows, for a quick test.", panel=INPUT, metavar="N", minimum=1, shared=True),
]
KeyFile = Annotated[
    Path | None,
    Option(
        help="File with the key of 64 hexadecimal digits, for weights that take one. Unset: MTLUE_KEY (the digits or a "
        "file), else your own in the configuration folder, made at first use.",
        panel=PROTECTION,
        metavar="FILE",
        environment=False,
    ),
]
SealKeyFile = Annotated[
    Path | None,
    Option(
        help="File with the key that must have sealed the release: a missing or different seal is an error. Unset: "
        "MTLUE_KEY or your own key is tried.",
        panel=INPUT,
        metavar="FILE",
        environment=False,
    ),
]
SignerFile = Annotated[
    Path | None,
    Option(
        help="File with the public key that must have signed the release (ssh-ed25519 ...). Needs the extra "
        "mtlue[sign].",
        panel=INPUT,
        metavar="FILE",
        takes="file",
        exists=True,
    ),
]
Seed = Annotated[int, Option(help="Random seed.", panel=COMPUTATION, metavar="N", minimum=0, shared=True)]
Device = Annotated[
    str,
    Option(flags="--device -d", help="auto, cpu, cuda, cuda:1 or mps.", panel=COMPUTATION, metavar="NAME", shared=True),
]
Workers = Annotated[
    int,
    Option(
        help="Threads that decode and encode images. Unset: one per processor core, at least two.",
        panel=COMPUTATION,
        metavar="N",
        minimum=1,
        maximum=256,
        shared=True,
    ),
]
Engine = Annotated[
    EngineName,
    Option(
        help="local: this computer. ray: all computers of a Ray cluster, which need IMAGES and the release under the "
        "same paths. Needs the extra mtlue[ray].",
        panel=COMPUTATION,
        shared=True,
    ),
]
RayAddress = Annotated[
    str | None,
    Option(
        help="Ray cluster for --engine ray: HOST:PORT, or auto for the one that this computer belongs to. Unset: one "
        "is started on this computer alone, with --workers processes.",
        panel=COMPUTATION,
        metavar="auto|HOST:PORT",
        shared=True,
    ),
]
Overwrite = Annotated[bool, Option(help="Replace an earlier result.", panel=OUTPUT, shared=True)]
