"""TSV: cells parted by tabs, quoted as in CSV where they hold a tab or a line end."""

from mtlue_cli.choices import LabelFormat
from mtlue_cli.tasks.readers.base import LabelReader, LabelSource, RawTable
from mtlue_cli.tasks.readers.delimited import read_delimited


def read_tsv(source: LabelSource) -> RawTable:
    """Read a TSV file with a header.

    Raises:
        InputError: The file is no text, or empty.
    """
    return read_delimited(source, ("\t",))


TSV = LabelReader(LabelFormat.TSV, "tab-separated table", read_tsv, (".tsv", ".tab"))
