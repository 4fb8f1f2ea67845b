"""NIH ChestX-ray14's ``Data_Entry_2017.csv``: several findings per image in one cell, separated by ``|``.

Source: Wang et al., "ChestX-ray8", CVPR 2017; the table and the list of the published data set.
"""

from mtlue_cli.choices import LabelFormat
from mtlue_cli.errors import InputError
from mtlue_cli.tasks.readers.base import Cell, LabelReader, LabelSource, RawTable, image_table
from mtlue_cli.tasks.readers.delimited import DELIMITERS, header_of, read_delimited
from mtlue_cli.tasks.wording import quoted

FILES, LISTED = "Image Index", "Finding Labels"
NOTHING = "No Finding"
FINDINGS = (
    *("Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Effusion", "Emphysema", "Fibrosis", "Hernia"),
    *("Infiltration", "Mass", "Nodule", "Pleural_Thickening", "Pneumonia", "Pneumothorax"),
)


def read_nih(source: LabelSource) -> RawTable:
    """Read each of the 14 findings as a binary task; ``No Finding`` is 0 in all, an empty cell is no label.

    The other columns (patient, view, sizes) are no tasks and are left out.

    Raises:
        InputError: The two columns are not there.
    """
    table = read_delimited(LabelSource(source.path, (FILES,)))
    missing = [name for name in (FILES, LISTED) if name not in table.header]
    if missing:
        raise InputError(
            f"{source.path} is not a ChestX-ray14 table",
            [f"row 1: column {quoted(name)} is missing" for name in missing],
        )
    file_at, listed_at = table.header.index(FILES), table.header.index(LISTED)
    rows: dict[str, tuple[Cell, ...]] = {}
    faults = list(table.faults)
    for place, cells in zip(table.places, table.rows, strict=True):
        found = [word.strip() for word in (cells[listed_at] or "").split("|")]
        problem = _problem(found)
        if problem is None:
            rows[place] = (cells[file_at], *(str(int(name in found)) if found != [""] else None for name in FINDINGS))
        else:
            faults.append(f"{place}: {problem}")
    return image_table(FINDINGS, rows.values(), rows, faults=tuple(faults))


def _problem(found: list[str]) -> str | None:
    unknown = [name for name in found if name not in (*FINDINGS, NOTHING)]
    if unknown and found != [""]:
        return f"unknown finding {quoted(unknown[0])} (known: {NOTHING}, {', '.join(FINDINGS)})"
    if NOTHING in found and len(found) > 1:
        return f"{quoted('|'.join(found))} says both {NOTHING} and a finding"
    return None


def _looks_like_it(start: str) -> bool:
    return any({FILES, LISTED} <= set(header_of(start, delimiter)) for delimiter in DELIMITERS)


NIH = LabelReader(LabelFormat.NIH, "NIH ChestX-ray14's Data_Entry_2017.csv", read_nih, (".csv",), _looks_like_it)
