"""UTKFace: the labels are the file names, ``age_gender_race_date.jpg``.

Source: Zhang, Song and Qi, "Age Progression/Regression by Conditional Adversarial Autoencoder", CVPR 2017; the
description of the published data set.
"""

import re

from mtlue_cli.choices import LabelFormat
from mtlue_cli.tasks.readers.base import LabelReader, LabelSource, RawTable, image_table
from mtlue_cli.tasks.wording import first_of, quoted

OLDEST = 116
GENDERS = ("male", "female")
RACES = ("white", "black", "asian", "indian", "other")

_NAME = re.compile(r"(\d{1,3})_(\d)_(\d)_(\d+)(\.[^.]+)+", re.ASCII)


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
    total = f"{len(odd)} of {len(source.image_names)} file names carry no labels:"
    notes = (total, *first_of(odd, "  ... and {} more".format)) if odd else ()
    return image_table(("age", "gender", "race"), rows, notes=notes)


def _problem(age: int, gender: int, race: int) -> str | None:
    if age > OLDEST:
        return f"age {age}, expected 0 to {OLDEST}"
    if gender >= len(GENDERS):
        return f"gender {gender}, expected 0 ({GENDERS[0]}) or 1 ({GENDERS[1]})"
    if race >= len(RACES):
        return f"race {race}, expected 0 to {len(RACES) - 1} ({', '.join(RACES)})"
    return None


UTKFACE = LabelReader(LabelFormat.UTKFACE, "UTKFace's file names", read_utkface, reads_names=True)
