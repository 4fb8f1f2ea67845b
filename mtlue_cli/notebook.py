"""How results show in a notebook."""

from collections.abc import Mapping
from html import escape
from typing import Any


def html_table(title: str, rows: Mapping[str, Any]) -> str:
    """A table of labels and values in HTML, all of it escaped; rows of None or nothing are left out.

    Args:
        title: Stands above it.
        rows: Label to value; several values become a list with commas, numbers of floating point four digits.
    """
    cells = "".join(
        f"<tr><th style='text-align:left'>{escape(label)}</th><td style='text-align:left'>{escape(_text(value))}</td>"
        "</tr>"
        for label, value in rows.items()
        if value is not None and _text(value)
    )
    return f"<table><caption style='text-align:left'>{escape(title)}</caption>{cells}</table>"


def _text(value: Any) -> str:  # noqa: ANN401 - whatever a result holds
    if isinstance(value, tuple | list):
        return ", ".join(map(_text, value))
    return f"{value:.4g}" if isinstance(value, float) else str(value)
