"""Palette files of colour-coded masks, as data sets publish them: the colour of each class."""

import csv
import json
import re
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mtlue_cli.errors import ImageError
from mtlue_cli.files import open_regular
from mtlue_cli.tasks.spec import numbered_classes
from mtlue_cli.tasks.wording import quoted

Colour = tuple[int, int, int]

VOID = frozenset({"void", "unlabeled", "unlabelled", "ignore", "ignored"})
"""Names of what is no class, lower case."""

_VOC_OUTLINE = (224, 224, 192)
"""Colour of the outlines in the masks of PASCAL VOC, which its lists of classes leave out."""
_MOST_BYTES = 1 << 20
_LIKE_A_PALETTE = re.compile(r"(label|class|colou?r|palette|object)[^/]*\.(txt|csv|tsv|json|py)$", re.IGNORECASE)
_LIKE_A_COLOUR = re.compile(r"colou?r", re.IGNORECASE)
_HEX = re.compile(r"#?([0-9a-f]{6})", re.IGNORECASE)
_THREE = re.compile(r"(\d{1,3})[\s,;]+(\d{1,3})[\s,;]+(\d{1,3})", re.ASCII)
_NAMES = ("name", "readable", "title", "label", "class", "class_name", "label_name")
_CHANNELS: tuple[tuple[str, ...], ...] = (("r", "g", "b"), ("red", "green", "blue"))


@dataclass(frozen=True)
class Palette:
    """The classes of colour-coded masks.

    Attributes:
        file: Where it was read from, as it was named.
        classes: Names, or numbers where the file has none.
        colours: One per class, then those that are no class.
    """

    file: str
    classes: tuple[str, ...]
    colours: tuple[Colour, ...]

    @property
    def ignore(self) -> tuple[int, ...]:
        """Positions in :attr:`colours` that are no class."""
        return tuple(range(len(self.classes), len(self.colours)))


def read_palette(path: Path, named: str | None = None) -> Palette:
    """The palette in a file: CamVid's ``label_colors.txt``, a table, Cityscapes' ``labels.py``, VOC's ``labelmap.txt``.

    A table has the columns ``r``, ``g``, ``b``, or one for the colour (``(120, 120, 120)`` or ``#787878``), and the
    name, as in ADE20K and CamVid; a JSON document has objects with a ``color`` and a name. If a colour has two names,
    the first counts. Names such as ``void`` are no class.

    Args:
        path: The file.
        named: How messages and records call it; None: its name.

    Raises:
        ImageError: It cannot be read, or holds no colours.
    """
    try:
        with open_regular(path) as stream:
            content = stream.read(_MOST_BYTES + 1)
        text = content.decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ImageError(f"cannot be read: {getattr(error, 'strerror', None) or error}") from error
    if len(content) > _MOST_BYTES:
        raise ImageError("is too large for a palette file")
    colours: dict[Colour, str] = {}
    for name, colour in _entries(path, text):
        if max(colour) > 255:
            raise ImageError(f"holds the colour {colour}, expected numbers from 0 to 255")
        colours.setdefault(colour, name)
    if colours.get((128, 0, 0), "").lower() == "aeroplane":
        colours.setdefault(_VOC_OUTLINE, "void")
    void = [colour for colour, name in colours.items() if name.lower() in VOID]
    kept = [colour for colour in colours if colour not in void]
    if len(kept) < 2:
        raise ImageError("names fewer than two colours, expected lines such as: 128 64 128 road")
    names = [colours[colour] for colour in kept]
    if not all(names) or len(set(names)) < len(names):
        if any(names):
            repeated = next((name for name in names if names.count(name) > 1), "")
            raise ImageError(f"names {quoted(repeated)} for several colours, expected one colour for each class")
        names = list(numbered_classes(len(names)))
    return Palette(named or path.name, tuple(names), (*kept, *void))


def find_palettes(folders: Iterable[Path]) -> Iterator[tuple[Path, Palette]]:
    """The palette files among the files of some folders, those below left out."""
    for folder in dict.fromkeys(folders):
        for path in sorted(folder.iterdir()) if folder.is_dir() else ():
            if _LIKE_A_PALETTE.search(path.name) and path.is_file():
                try:
                    yield path, read_palette(path)
                except ImageError:
                    continue


def _entries(path: Path, text: str) -> Iterator[tuple[str, Colour]]:
    if path.suffix.lower() == ".json":
        yield from _of_json(text)
        return
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith(("#", "//"))]
    header = [cell.strip().lower() for cell in _cells(lines[0])] if lines else []
    channels = next((channels for channels in _CHANNELS if set(channels) <= set(header)), ())
    if not channels and len(header) > 1 and not any(map(_THREE.search, header)):
        channels = tuple(cell for cell in header if _LIKE_A_COLOUR.search(cell))[:1]
    yield from _of_table(lines[1:], header, channels) if channels else filter(None, map(_of_line, lines))


def _of_json(text: str) -> Iterator[tuple[str, Colour]]:
    try:
        waiting: deque[Any] = deque([json.loads(text)])
    except (ValueError, RecursionError) as error:
        raise ImageError(f"is not JSON: {error}") from error
    while waiting:
        value = waiting.popleft()
        if isinstance(value, dict):
            found = next((_colour(value[key]) for key in value if _LIKE_A_COLOUR.search(key)), None)
            if found is not None:
                yield str(next((value[key] for key in _NAMES if key in value), "")), found
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value


def _of_table(lines: Sequence[str], header: Sequence[str], channels: Sequence[str]) -> Iterator[tuple[str, Colour]]:
    """The rows of a table whose columns ``channels`` hold the colour: red, green and blue, or one for all."""
    name = next((wanted for wanted in _NAMES if wanted in header), "")
    for line in lines:
        row = dict(zip(header, _cells(line), strict=False))
        cells = [row.get(channel) for channel in channels]
        found = _colour(cells if len(cells) == 3 else cells[0])
        if found is None:
            raise ImageError(f"holds a line without a colour: {quoted(line)}")
        yield row.get(name, "").strip(), found


def _cells(line: str) -> list[str]:
    for separator in (",", ";", "\t"):
        if separator in line:
            return next(csv.reader([line], delimiter=separator, skipinitialspace=True))
    return line.split()


def _of_line(line: str) -> tuple[str, Colour] | None:
    """Name and colour of one line: ``64 128 64 Animal``, ``road:128,64,128::`` or ``Label('road', (128, 64, 128))``."""
    found = _THREE.search(line)
    label = re.match(r"\s*Label\(\s*(['\"])(.+?)\1.*\(\s*(\d+)\s*,\s*(\d+)\s*,\s*(\d+)\s*\)", line)
    if label is not None:
        return label[2], (int(label[3]), int(label[4]), int(label[5]))
    if found is None or line.lstrip().startswith(("Label(", "from ", "import ", "def ", "class ")):
        return None
    before, after = line[: found.start()].strip(" \t,;:=(['\""), line[found.end() :].strip(" \t,;)]")
    if re.match(r"[\s,;]*\d", line[found.end() :]) and not before:
        # Four numbers: the first is the number of the class.
        numbered = re.match(r"\s*\d+[\s,;]+(.*)", line)
        return None if numbered is None else _of_line(numbered[1])
    name = before if re.search(r"[^\W\d]", before) else after.split(":")[0].strip(" \t'\"")
    return re.sub(r"^\d+[\s,;:]+", "", name), (int(found[1]), int(found[2]), int(found[3]))


def _colour(value: object) -> Colour | None:
    """``[128, 64, 128]``, ``"(128, 64, 128)"``, ``"128 64 128"`` or ``"#804080"``."""
    if isinstance(value, str):
        code, three = _HEX.fullmatch(value.strip()), _THREE.search(value)
        value = [*bytes.fromhex(code[1])] if code else [*three.groups()] if three else None
    if isinstance(value, list) and len(value) >= 3 and all(str(part).strip().isdecimal() for part in value[:3]):
        red, green, blue = (int(part) for part in value[:3])
        return red, green, blue
    return None
