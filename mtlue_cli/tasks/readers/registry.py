"""The label formats, and which of them a file is in."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from mtlue_cli.choices import LabelFormat
from mtlue_cli.errors import InputError
from mtlue_cli.tasks.readers.base import LabelReader
from mtlue_cli.tasks.readers.celeba import CELEBA
from mtlue_cli.tasks.readers.coco import COCO
from mtlue_cli.tasks.readers.delimited import CSV, TSV
from mtlue_cli.tasks.readers.image_folder import IMAGE_FOLDER
from mtlue_cli.tasks.readers.json_lines import JSON_LINES
from mtlue_cli.tasks.readers.mask_folders import MASK_FOLDERS
from mtlue_cli.tasks.readers.nih import NIH
from mtlue_cli.tasks.readers.nyuv2 import NYUV2
from mtlue_cli.tasks.readers.parquet import PARQUET
from mtlue_cli.tasks.readers.text import read_start
from mtlue_cli.tasks.readers.utkface import UTKFACE

_TABLES = (NIH, CSV, TSV, JSON_LINES, PARQUET, CELEBA, COCO)
_NAMES = (UTKFACE, NYUV2, *(layout.reader for layout in MASK_FOLDERS.values()), IMAGE_FOLDER)
READERS: Mapping[LabelFormat, LabelReader] = {reader.name: reader for reader in (*_TABLES, *_NAMES)}
"""Reader of each format. Of those that share a suffix, the first that recognises the content reads the file."""


def layout_of(names: Sequence[str]) -> LabelReader | None:
    """The format of labels that are in the names of images or of their folders; None if that is not clear."""
    return next((reader for reader in READERS.values() if reader.fits is not None and reader.fits(names)), None)


def reader_of(path: Path, wanted: LabelFormat | None = None, names: Sequence[str] = ()) -> LabelReader:
    """The reader of a label file, or of the names of a folder's images if ``path`` is the folder.

    The suffix and the content decide, unless the user names the format ``wanted``.

    Raises:
        InputError: No format fits.
    """
    if wanted is not None:
        return READERS[wanted]
    if path.is_dir():
        found = layout_of(names)
        if found is None:
            raise InputError(f"{path} is a folder, expected a label file")
        return found
    suffix = path.suffix.lower()
    candidates = [reader for reader in READERS.values() if suffix in reader.suffixes]
    start = read_start(path)
    for reader in candidates:
        if reader.recognises is None or reader.recognises(start):
            return reader
    named = f"name the format with --label-format {'|'.join(READERS)}"
    if candidates:
        raise InputError(f"{path} does not look like {' or '.join(reader.title for reader in candidates)}", hint=named)
    known = ", ".join(dict.fromkeys(suffix for reader in READERS.values() for suffix in reader.suffixes))
    what = f"files ending in {suffix}" if suffix else "files without a suffix"
    raise InputError(
        f"{path}: {what} are not a supported label format",
        hint=f"expected {known} (a spreadsheet can save as CSV); or {named}",
    )
