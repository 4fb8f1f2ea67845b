"""CelebA's ``list_attr_celeba.txt`` and ``list_eval_partition.txt``.

The first holds a count, the attributes, and one row of -1 and 1 per image; the second the part of the split of each.

Source: Liu et al., "Deep Learning Face Attributes in the Wild", ICCV 2015; the files of the published data set.
"""

import re
from collections.abc import Mapping
from pathlib import Path

from mtlue_cli.budget import budget, check_table
from mtlue_cli.choices import LabelFormat, SplitPart
from mtlue_cli.errors import InputError
from mtlue_cli.tasks.readers.base import Cell, LabelReader, LabelSource, RawTable, image_table
from mtlue_cli.tasks.readers.text import lines_of, read_text
from mtlue_cli.tasks.wording import counted, quoted

_CLASSES = {"-1": "0", "1": "1"}
PARTS = {"0": SplitPart.TRAIN, "1": SplitPart.VALIDATION, "2": SplitPart.TEST}


def read_celeba(source: LabelSource) -> RawTable:
    """Read the attributes as binary tasks of the classes ``0`` (-1 in the file) and ``1``.

    Raises:
        InputError: The first two rows are no count and no attributes.
    """
    lines = _lines(source.path)
    if len(lines) < 2 or not _is_count(lines[0][1]):
        raise InputError(
            f"{source.path} is not a list_attr_celeba.txt: expected the number of images, then the attributes",
            [f"{place}: {quoted(' '.join(words))}" for place, words in lines[:2]],
        )
    (_, (stated,)), (_, attributes), *others = lines
    check_table(source.path, len(others), 1 + len(attributes))
    faults: list[str] = []
    if int(stated) != len(others):
        found = counted(len(others), "row")
        faults.append(f"row 1: states {counted(int(stated), 'image')}, the file has {found}: cut off?")
    rows: dict[str, tuple[Cell, ...]] = {}
    for place, (name, *values) in others:
        odd = [
            f"{place}: {quoted(attribute)} is {quoted(value)}, expected -1 or 1"
            for attribute, value in zip(attributes, values, strict=False)
            if value not in _CLASSES
        ]
        if len(values) != len(attributes):
            odd = [f"{place}: {counted(len(values), 'value')}, expected {len(attributes)}"]
        faults += odd
        if not odd:
            rows[place] = (name, *(_CLASSES[value] for value in values))
    return image_table(attributes, rows.values(), rows, faults=tuple(faults))


def read_partition(path: Path) -> Mapping[str, SplitPart]:
    """Part of each file: rows of a name and 0 (train), 1 (validation) or 2 (test), separated by blanks.

    Raises:
        InputError: Lists every row of another form, and every file that appears twice.
    """
    parts: dict[str, SplitPart] = {}
    faults: list[str] = []
    for place, words in _lines(path):
        if len(words) != 2 or words[1] not in PARTS:
            faults.append(f"{place}: {quoted(' '.join(words))}, expected a file name and 0, 1 or 2")
        elif words[0] in parts:
            faults.append(f"{place}: file {quoted(words[0])} appears more than once")
        else:
            parts[words[0]] = PARTS[words[1]]
    if faults:
        raise InputError(f"{path} has {counted(len(faults), 'fault')}", faults)
    return parts


def _lines(path: Path) -> list[tuple[str, list[str]]]:
    """Place and words of each line that is not blank.

    Raises:
        InputError: They are more than a label file may have.
    """
    found: list[tuple[str, list[str]]] = []
    for number, line in enumerate(lines_of(read_text(path)), 1):
        if len(line) > 2 * budget().max_columns:
            check_table(path, 1, sum(1 for _ in _WORD.finditer(line)))
        if words := line.split():
            found.append((f"row {number}", words))
            check_table(path, len(found) - 2, len(words))
    return found


_WORD = re.compile(r"\S+")


def _is_count(words: list[str]) -> bool:
    return len(words) == 1 and words[0].isascii() and words[0].isdecimal() and len(words[0]) < 16


def _looks_like_it(start: str) -> bool:
    return _is_count(start.partition("\n")[0].split())


CELEBA = LabelReader(LabelFormat.CELEBA, "CelebA's list_attr_celeba.txt", read_celeba, (".txt",), _looks_like_it)
