"""CelebA's ``list_eval_partition.txt``: which part of the data set each image belongs to."""

from collections.abc import Mapping
from pathlib import Path

from mtlue_cli.choices import SplitPart
from mtlue_cli.errors import InputError
from mtlue_cli.tasks.readers.text import read_text
from mtlue_cli.tasks.wording import counted, quoted

PARTS = {"0": SplitPart.TRAIN, "1": SplitPart.VALIDATION, "2": SplitPart.TEST}


def read_partition(path: Path) -> Mapping[str, SplitPart]:
    """Part of each file: rows of a name and 0 (train), 1 (validation) or 2 (test), parted by blanks.

    Raises:
        InputError: Lists every row of another form, and every file that stands twice.
    """
    parts: dict[str, SplitPart] = {}
    faults: list[str] = []
    for number, line in enumerate(read_text(path).split("\n"), 1):
        words = line.split()
        if not words:
            continue
        if len(words) != 2 or words[1] not in PARTS:
            faults.append(f"row {number}: {quoted(line.strip())}, expected a file name and 0, 1 or 2")
        elif words[0] in parts:
            faults.append(f"row {number}: file {quoted(words[0])} appears more than once")
        else:
            parts[words[0]] = PARTS[words[1]]
    if faults:
        raise InputError(f"{path} has {counted(len(faults), 'fault')}", faults)
    return parts
