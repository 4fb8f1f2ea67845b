"""Cells that a spreadsheet would execute, harmless on output and the same again on input.

A spreadsheet takes a cell that begins with one of ``= + - @`` for a formula, which can run commands or send the sheet
away. Such a cell is written with an apostrophe before it, which spreadsheets show as text; plain numbers such as ``-1``
are left alone. Reading takes the apostrophe off. File names get ``./`` instead, another spelling of the same
path for any program.

Source: OWASP, CSV Injection.
"""

import re

_TRIGGERS = "=+\\-@\uff1d\uff0b\uff0d\uff20"  # the last four are the full-width signs
_EXECUTED = re.compile(f"'*[{_TRIGGERS}]")
_ESCAPED = re.compile(f"'+[{_TRIGGERS}]")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)


def escaped(cell: str) -> str:
    """``cell`` as it may stand in a table for a spreadsheet; :func:`unescaped` takes it back."""
    return f"'{cell}" if _EXECUTED.match(cell) and not _NUMBER.fullmatch(cell) else cell


def unescaped(cell: str) -> str:
    """What :func:`escaped` was given; any other cell as it is."""
    return cell[1:] if _ESCAPED.match(cell) else cell


def escaped_name(name: str) -> str:
    """A relative file name as it may stand in such a table; another spelling of the same path.

    So is a name that begins with a blank, which readers of tables strip.
    """
    return f"./{name}" if _EXECUTED.match(name) or name[:1].isspace() else name
