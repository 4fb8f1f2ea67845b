"""UTKFace: the labels are the file names, ``age_gender_race_date.jpg``.

Source: Zhang, Song and Qi, "Age Progression/Regression by Conditional Adversarial Autoencoder", CVPR 2017; the
description of the published data set.
"""

import re

from mtlue_cli.choices import LabelFormat
from mtlue_cli.tasks.readers.base import CANONICAL_FILE_COLUMN, LabelReader, LabelSource, RawTable
from mtlue_cli.tasks.wording import quoted

OLDEST = 116
GENDERS = ("male", "female")
RACES = ("white", "black", "asian", "indian", "other")

_NAME = re.compile(r"(\d{1,3})_(\d)_(\d)_(\d+)(\.[^.]+)+", re.ASCII)
_LISTED = 5


def read_utkface(source: LabelSource) -> RawTable:
    """Read age in years, gender and race from each name, such as ``26_1_3_20170116.jpg`` or ``... .jpg.chip.jpg``.

    A name of another form gives no row, and is listed: the published set has some that lack a part.
    """
    rows: list[tuple[str, ...]] = []
    odd: list[str] = []
    for path in source.image_names:
        found = _NAME.fullmatch(path.rpartition("/")[2])
        problem = "no age_gender_race_date" if found is None else _problem(*(int(found[part]) for part in (1, 2, 3)))
        if problem is not None:
            odd.append(f"  {quoted(path)}: {problem}")
        elif found is not None:
            rows.append((path, str(int(found[1])), GENDERS[int(found[2])], RACES[int(found[3])]))
    notes: list[str] = []
    if odd:
        notes = [f"{len(odd)} of {len(source.image_names)} file names carry no labels:", *odd[:_LISTED]]
        notes += [f"  ... and {len(odd) - _LISTED} more"] if len(odd) > _LISTED else []
    header = (CANONICAL_FILE_COLUMN, "age", "gender", "race")
    places = tuple(quoted(row[0]) for row in rows)
    return RawTable(header, tuple(rows), places, notes=tuple(notes), file_column=CANONICAL_FILE_COLUMN)


def _problem(age: int, gender: int, race: int) -> str | None:
    if age > OLDEST:
        return f"age {age}, expected 0 to {OLDEST}"
    if gender >= len(GENDERS):
        return f"gender {gender}, expected 0 ({GENDERS[0]}) or 1 ({GENDERS[1]})"
    if race >= len(RACES):
        return f"race {race}, expected 0 to {len(RACES) - 1} ({', '.join(RACES)})"
    return None


UTKFACE = LabelReader(LabelFormat.UTKFACE, "UTKFace's file names", read_utkface, reads_names=True)
