"""CelebA's ``list_attr_celeba.txt``: a count, the attributes, and one row of -1 and 1 per image.

Source: Liu et al., "Deep Learning Face Attributes in the Wild", ICCV 2015; the file of the published data set.
"""

from mtlue_cli.choices import LabelFormat
from mtlue_cli.errors import InputError
from mtlue_cli.tasks.readers.base import CANONICAL_FILE_COLUMN, Cell, LabelReader, LabelSource, RawTable
from mtlue_cli.tasks.readers.text import read_text
from mtlue_cli.tasks.wording import counted, quoted

_CLASSES = {"-1": "0", "1": "1"}


def read_celeba(source: LabelSource) -> RawTable:
    """Read the attributes as binary tasks of the classes ``0`` (-1 in the file) and ``1``.

    Raises:
        InputError: The first two rows are no count and no attributes.
    """
    lines = [(f"row {number}", line.split()) for number, line in enumerate(read_text(source.path).split("\n"), 1)]
    lines = [(place, words) for place, words in lines if words]
    if len(lines) < 2 or not _is_count(lines[0][1]):
        raise InputError(
            f"{source.path} is not a list_attr_celeba.txt: expected the number of images, then the attributes",
            [f"{place}: {quoted(' '.join(words))}" for place, words in lines[:2]],
        )
    attributes = lines[1][1]
    rows: list[tuple[Cell, ...]] = []
    places: list[str] = []
    faults: list[str] = []
    for place, (name, *values) in lines[2:]:
        if len(values) != len(attributes):
            faults.append(f"{place}: {counted(len(values), 'value')}, expected {len(attributes)}")
            continue
        odd = [
            f"{place}: {quoted(attribute)} is {quoted(value)}, expected -1 or 1"
            for attribute, value in zip(attributes, values, strict=True)
            if value not in _CLASSES
        ]
        faults += odd
        if not odd:
            rows.append((name, *(_CLASSES[value] for value in values)))
            places.append(place)
    stated = int(lines[0][1][0])
    if stated != len(lines) - 2:
        faults.insert(
            0, f"row 1: states {counted(stated, 'image')}, the file has {counted(len(lines) - 2, 'row')}: cut off?"
        )
    header = (CANONICAL_FILE_COLUMN, *attributes)
    return RawTable(header, tuple(rows), tuple(places), tuple(faults), file_column=CANONICAL_FILE_COLUMN)


def _is_count(words: list[str]) -> bool:
    return len(words) == 1 and words[0].isascii() and words[0].isdecimal() and len(words[0]) < 16


def _looks_like_it(start: str) -> bool:
    return _is_count(start.partition("\n")[0].split())


CELEBA = LabelReader(LabelFormat.CELEBA, "CelebA's list_attr_celeba.txt", read_celeba, (".txt",), _looks_like_it)
