"""What a user declares of a label column: ``--task NAME=KIND[:key=value...]``."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from mtlue_cli.choices import TaskKind
from mtlue_cli.tasks.bins import parse_number
from mtlue_cli.tasks.names import parse_by_column
from mtlue_cli.tasks.spec import numbered_classes
from mtlue_cli.tasks.wording import quoted

MAX_MAP_CLASSES = 1000
"""Classes of a segmentation task: more look like instances or depth."""

_WHOLE = re.compile(r"-?\d{1,9}", re.ASCII)


@dataclass(frozen=True)
class Declaration:
    """How one column is to be read.

    Attributes:
        column: Its header.
        kind: What it labels.
        classes: Class names of a segmentation task in the order of the stored numbers; None: as many as its maps show.
        ignore: Stored numbers that are no class, or no depth.
        scale: What one unit of a stored depth is worth; None: not stated.
        colours: The palette file of colour-coded masks; None: not stated.
        ids: As :attr:`~mtlue_cli.tasks.spec.Task.ids`.
    """

    column: str
    kind: TaskKind
    classes: tuple[str, ...] | None = None
    ignore: tuple[int, ...] = ()
    scale: float | None = None
    colours: str | None = None
    ids: Mapping[str, Mapping[int, int]] = field(default_factory=dict, compare=False, repr=False)

    def __str__(self) -> str:
        text = f"{self.column}={self.kind.value}"
        if self.classes is not None:
            named = self.classes != numbered_classes(len(self.classes))
            text += f":classes={'|'.join(self.classes) if named else len(self.classes)}"
        if self.ignore:
            text += f":ignore={','.join(map(str, self.ignore))}"
        if self.colours is not None:
            text += f":colours={self.colours}"
        return text if self.scale is None else f"{text}:scale={self.scale!r}"


def parse_declarations(texts: Sequence[str]) -> tuple[Declaration, ...]:
    """The values of ``--task``, such as ``segmentation=segmentation:classes=12:ignore=11``.

    Raises:
        InputError: Lists everything that is wrong with them.
    """
    form = (
        "NAME=KIND[:key=value...], such as mask=segmentation:classes=12:ignore=11, "
        "mask=segmentation:colours=label_colors.txt or far=depth:scale=0.001:ignore=65535"
    )
    return parse_by_column(texts, _parse, "--task", form, "is declared already")


def _parse(text: str) -> Declaration:
    """One value of ``--task``; a column's name may itself hold a ``=``."""
    kinds = "|".join(TaskKind)
    parts = re.fullmatch(rf"(.+?)=({kinds})((?::[^:]*)*)", text.strip())
    if parts is None:
        raise ValueError(f"expected a column, = and one of {', '.join(TaskKind)}")
    kind = TaskKind(parts[2])
    values: dict[str, object] = {}
    for setting in parts[3].split(":")[1:]:
        key, sign, value = setting.partition("=")
        known = _KEYS.get(kind, {})
        if not sign or key not in known:
            names = ", ".join(known) or "none"
            raise ValueError(f"{quoted(setting)} is not a setting of {kind.value} (known: {names})")
        if key in values:
            raise ValueError(f"{key} appears more than once")
        values[key] = known[key](value)
    if "colours" in values and len(values) > 1:
        raise ValueError("the file of colours states classes and what is no class; leave out classes and ignore")
    return Declaration(parts[1].strip(), kind, **values)  # type: ignore[arg-type]  # each key has its parser


def _classes(text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split("|"))
    if len(names) == 1 and _WHOLE.fullmatch(names[0]):
        names = numbered_classes(min(max(int(names[0]), 0), MAX_MAP_CLASSES + 1))
    if not 2 <= len(names) <= MAX_MAP_CLASSES:
        raise ValueError(f"classes is {quoted(text)}, expected a number from 2 to {MAX_MAP_CLASSES}, or sky|road|...")
    if "" in names or len(set(names)) < len(names):
        raise ValueError("classes holds a name twice, or an empty one")
    return names


def _ignored(text: str) -> tuple[int, ...]:
    values = text.split(",")
    if not all(_WHOLE.fullmatch(value.strip()) for value in values):
        raise ValueError(f"ignore is {quoted(text)}, expected whole numbers such as 255, separated by commas")
    return tuple(sorted({int(value) for value in values}))


def _colours(text: str) -> str:
    if not text.strip():
        raise ValueError("colours is empty, expected a file that names the colour of each class")
    return text.strip()


def _scale(text: str) -> float:
    value = parse_number(text)
    if value is None or value <= 0:
        raise ValueError(f"scale is {quoted(text)}, expected a number above 0")
    return value


_KEYS: Mapping[TaskKind, Mapping[str, Callable[[str], object]]] = {
    TaskKind.SEGMENTATION: {"classes": _classes, "ignore": _ignored, "colours": _colours},
    TaskKind.DEPTH: {"scale": _scale, "ignore": _ignored},
}
