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

    @property
    def shown_classes(self) -> str:
        """Its classes in a few words."""
        if not self.classes:
            return f"{self.num_classes} classes" if self.num_classes else ""
        text = ", ".join(f"{name[:LONGEST]} ({count})" for name, count in self.classes.items())
        more = self.num_classes - len(self.classes)
        text += f", {more} more" if more > 0 else ""
        return f"{text}; none ({self.unlabelled})" if self.unlabelled else text


def column_uses(
    labels: LabelFile, used: Collection[str], why_not: Mapping[str, str] | None = None
) -> tuple[ColumnUse, ...]:
    """What becomes of each column of a label file; ``used`` are the tasks of the run.

    ``why_not`` says why other columns are none, by name, as said after the name; where it says nothing, what the column
    is.
    """
    table, reasons = labels.table, why_not or {}
    found: list[ColumnUse] = []
    for column in labels.columns:
        name = column.name
        classes: dict[str, int] = {}
        number, unlabelled = 0, len(table)
        if name in table.maps:
            number, unlabelled = table.tasks[name].num_classes, table.maps[name].count(None)
        elif name in table.columns:
            indices, known = table.columns[name], table.tasks[name].classes
            counts = np.bincount(indices[indices >= 0], minlength=len(known))
            classes = {known[at]: int(counts[at]) for at in np.argsort(-counts, kind="stable")[:SHOWN_CLASSES]}
            number, unlabelled = len(known), int((indices < 0).sum())
        is_used = name in used
        reason = "" if is_used else reasons.get(name) or column.left_out or ""
        found.append(ColumnUse(name, column.kind, classes, number, unlabelled, is_used, reason, column.advice))
    return tuple(found)


def overview_lines(uses: Sequence[ColumnUse], done: str, *, can_choose: bool = True) -> list[str]:
    """The table as lines of text, with how to overrule it.

    ``done`` is what happens to the columns that are used: ``protected``, ``learned``, ``measured``. ``can_choose``:
    whether the command has ``--tasks``.
    """
    rows = [("column", "kind", "classes (images)", "use")]
    for use in uses[:SHOWN_COLUMNS]:
        left_out = f"left out: it {use.reason}" if use.reason else "left out"
        rows.append((_short(use.name), use.kind, _short(use.shown_classes), done if use.used else left_out))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
    more = len(uses) - SHOWN_COLUMNS
    if more > 0:
        lines.append(f"... and {more} more columns, {sum(use.used for use in uses)} of all {done}")
    advice = [use.advice for use in uses if use.advice]
    if advice:
        lines.append(f"to read a column differently: {', '.join(advice[:SHOWN_CLASSES])}")
    if done == "protected" and any(not use.used for use in uses):
        lines.append("the release holds the columns that are left out too: remove what you do not want to publish")
    if can_choose and any(not use.used for use in uses):
        lines.append(
            "to choose the columns yourself, list all of them with --tasks A,B, or add one with --task NAME=categorical"
        )
    return lines


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= WIDEST else f"{text[: WIDEST - 3]}..."
