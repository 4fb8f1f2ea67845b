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
        try:
            rows.append((path, *_labels(path.rpartition("/")[2])))
        except ValueError as error:
            odd.append(f"  {quoted(path)}: {error}")
    total = f"{len(odd)} of {len(source.image_names)} file names carry no labels:"
    notes = (total, *first_of(odd, "  ... and {} more".format)) if odd else ()
    return image_table(("age", "gender", "race"), rows, notes=notes)


def _labels(name: str) -> tuple[str, str, str]:
    found = _NAME.fullmatch(name)
    if found is None:
        raise ValueError("no age_gender_race_date")
    age, gender, race = map(int, found.group(1, 2, 3))
    if age > OLDEST:
        raise ValueError(f"age {age}, expected 0 to {OLDEST}")
    if gender >= len(GENDERS):
        raise ValueError(f"gender {gender}, expected 0 ({GENDERS[0]}) or 1 ({GENDERS[1]})")
    if race >= len(RACES):
        raise ValueError(f"race {race}, expected 0 to {len(RACES) - 1} ({', '.join(RACES)})")
    return str(age), GENDERS[gender], RACES[race]


UTKFACE = LabelReader(LabelFormat.UTKFACE, "UTKFace's file names", read_utkface, reads_names=True)
