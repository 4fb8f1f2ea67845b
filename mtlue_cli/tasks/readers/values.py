"""Typed values, as JSON and Parquet have them, as text."""

from collections.abc import Iterable

from mtlue_cli.tasks.readers.base import Cell


def number_text(value: float) -> str:
    """A number in one spelling: without decimals where it has none, else as short as it can be told apart.

    ``1.0`` gives ``1``, as an integer column that once held a gap is stored as floating point.
    """
    return str(int(value)) if value.is_integer() and abs(value) < 2**53 else repr(value)


def list_text(cells: Iterable[Cell]) -> Cell:
    """A list of values as one cell, ``a|b``; missing values are left out, and a list without any is a missing cell."""
    return "|".join(cell for cell in cells if cell) or None
