"""The columns of a label file as a table for people, shown before work starts: what each is, and what becomes of it."""

from collections.abc import Collection, Mapping, Sequence

import numpy as np

from mtlue_cli.documents import Document
from mtlue_cli.tasks.labels import LabelFile
from mtlue_cli.tasks.wording import LONGEST

SHOWN_CLASSES = 4
"""Classes of a column that are shown with their numbers of images, the most frequent first."""

SHOWN_COLUMNS = 60
"""Columns of a table that are shown; the others are counted."""

WIDEST = 60
"""Characters of one cell of the table, at most."""


class ColumnUse(Document, frozen=True):
    """One row of the table.

    Attributes:
        name: The column.
        kind: What it is.
        classes: The most frequent classes and their numbers of images.
        num_classes: How many it has.
        unlabelled: Rows without a label.
        used: Whether it is a task of this run.
        reason: Why it is left out; empty if it is used.
        advice: Another way to read it, as an option; empty if there is none.
    """

    name: str
    kind: str
    classes: Mapping[str, int]
    num_classes: int
    unlabelled: int
    used: bool
    reason: str = ""
    advice: str = ""


def column_uses(
    labels: LabelFile, used: Collection[str], why_not: Mapping[str, str] | None = None
) -> tuple[ColumnUse, ...]:
    """What becomes of each column of a label file.

    Args:
        labels: The label file.
        used: Tasks of the run.
        why_not: Why other columns are none, by name, as said after the name; where it says nothing, what the column is.
    """
    reasons = why_not or {}
    found: list[ColumnUse] = []
    for column in labels.columns:
        is_used = column.name in used
        classes, number, unlabelled = _classes(labels, column.name)
        reason = "" if is_used else reasons.get(column.name) or column.left_out or ""
        found.append(ColumnUse(column.name, column.kind, classes, number, unlabelled, is_used, reason, column.advice))
    return tuple(found)


def _classes(labels: LabelFile, name: str) -> tuple[dict[str, int], int, int]:
    """The most frequent classes of a column with their rows, its number of classes, and the rows without a label."""
    table = labels.table
    if name in table.maps:
        task = table.tasks[name]
        return {}, task.num_classes, sum(file is None for file in table.maps[name])
    if name not in table.columns:
        return {}, 0, len(table)
    indices, classes = table.columns[name], table.tasks[name].classes
    counts = np.bincount(indices[indices >= 0], minlength=len(classes))
    order = np.argsort(-counts, kind="stable")[:SHOWN_CLASSES]
    return {classes[at]: int(counts[at]) for at in order}, len(classes), int((indices < 0).sum())


def overview_lines(uses: Sequence[ColumnUse], done: str, *, can_choose: bool = True) -> list[str]:
    """The table as lines of text, with how to overrule it.

    Args:
        uses: Its rows.
        done: What happens to the columns that are used: ``protected``, ``learned``, ``measured``.
        can_choose: Whether the command has ``--tasks``.
    """
    shown = uses if len(uses) <= SHOWN_COLUMNS else uses[:SHOWN_COLUMNS]
    rows = [("column", "kind", "classes (images)", "use")]
    rows += [(_short(use.name), use.kind, _short(_shown(use)), done if use.used else _left_out(use)) for use in shown]
    widths = [max(len(row[at]) for row in rows) for at in range(3)]
    lines = [
        "  ".join((*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[3])) for row in rows
    ]
    if len(uses) > len(shown):
        lines.append(f"... and {len(uses) - len(shown)} more columns, {sum(use.used for use in uses)} of all {done}")
    advice = [use.advice for use in uses if use.advice]
    if advice:
        lines.append(f"to read a column differently: {', '.join(advice[:SHOWN_CLASSES])}")
    if can_choose and any(not use.used for use in uses):
        lines.append(
            "to choose the columns yourself, list all of them with --tasks A,B, or add one with --task NAME=categorical"
        )
    return lines


def _left_out(use: ColumnUse) -> str:
    return f"left out: it {use.reason}" if use.reason else "left out"


def _shown(use: ColumnUse) -> str:
    listed = ", ".join(f"{name[:LONGEST]} ({count})" for name, count in use.classes.items())
    more = use.num_classes - len(use.classes)
    if not use.classes:
        return f"{use.num_classes} classes" if use.num_classes else ""
    text = f"{listed}, {more} more" if more > 0 else listed
    return f"{text}; none ({use.unlabelled})" if use.unlabelled else text


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= WIDEST else f"{text[: WIDEST - 3]}..."
