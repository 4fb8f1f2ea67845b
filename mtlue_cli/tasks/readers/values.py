"""Typed values, as JSON and Parquet have them, as text."""


def number_text(value: float) -> str:
    """A number in one spelling: without decimals where it has none, else as short as it can be told apart.

    ``1.0`` gives ``1``, as an integer column that once held a gap is stored as floating point.
    """
    return str(int(value)) if value.is_integer() and abs(value) < 2**53 else repr(value)
