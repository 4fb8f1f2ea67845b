"""The label file of a release: what was understood, under the released names."""

import csv
import io
from collections.abc import Mapping, Sequence

from mtlue_cli.tasks.formula import escaped, escaped_name
from mtlue_cli.tasks.labels import LabelFile


def released_labels(labels: LabelFile, names: Mapping[int, str]) -> bytes:
    """A CSV file in UTF-8 with the columns of ``labels`` in their order, and class names or paths of maps as cells.

    Read again with the same file column, it gives the same labels: bins stand as their classes, missing values as empty
    cells. Cells that a spreadsheet would execute are escaped (:mod:`mtlue_cli.tasks.formula`).

    Args:
        labels: The labels.
        names: Row to released file; rows that are not in it are left out.
    """
    table = labels.table
    text = io.StringIO()
    write_row(text, [escaped(name) for name in labels.header])
    # The last of each stands for UNLABELLED, which is -1.
    texts = {task.name: (*map(escaped, task.classes), "") for task in table.tasks}
    columns: list[list[str] | None] = []
    for position, name in enumerate(labels.header):
        if position == labels.file_index:
            columns.append(None)
        elif name in table.maps:
            columns.append(["" if file is None else escaped_name(file) for file in table.maps[name]])
        else:
            columns.append([texts[name][index] for index in table.columns[name].tolist()])
    for row in sorted(names):
        name = escaped_name(names[row])
        write_row(text, [name if column is None else column[row] for column in columns])
    return text.getvalue().encode()


def write_row(text: io.StringIO, cells: Sequence[str], delimiter: str = ",") -> None:
    """Append a row of a delimited table."""
    # A lone carriage return would end the row where the writer does not quote it, as Python's did not before 3.13.
    if any("\r" in cell for cell in cells):
        csv.writer(text, lineterminator="\n", delimiter=delimiter, quoting=csv.QUOTE_ALL).writerow(cells)
    else:
        csv.writer(text, lineterminator="\n", delimiter=delimiter).writerow(cells)
