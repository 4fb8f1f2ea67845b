"""CSV: comma, or ``;`` as spreadsheets in half of Europe write it, or tab; decided by the header."""

from mtlue_cli.choices import LabelFormat
from mtlue_cli.tasks.readers.base import LabelReader, LabelSource, RawTable
from mtlue_cli.tasks.readers.delimited import read_delimited


def read_csv(source: LabelSource) -> RawTable:
    """Read a CSV file with a header.

    Raises:
        InputError: The file is no text, or empty.
    """
    return read_delimited(source, (",", ";", "\t"))


CSV = LabelReader(LabelFormat.CSV, "comma- or semicolon-separated table", read_csv, (".csv",))
