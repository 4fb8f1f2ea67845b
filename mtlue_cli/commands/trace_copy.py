"""What ``mtlue trace copy`` shows and writes."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from mtlue_cli.choices import ExitCode
from mtlue_cli.commands.console import check_target, grouped, table_of, visible
from mtlue_cli.commands.decoders import reading_photos
from mtlue_cli.commands.from_config import Given
from mtlue_cli.options import OUTPUT, Option
from mtlue_cli.workflows.trace.config import CopyConfig

if TYPE_CHECKING:
    from mtlue_cli.workflows.trace.copy import CopyFile

MOST_LISTED = 20
"""Copies that the table lists, those with the least left first."""


@dataclass(frozen=True)
class CopyReport:
    """What ``trace copy`` writes.

    Attributes:
        report: Write one self-contained HTML page.
    """

    report: Annotated[
        Path | None, Option(panel=OUTPUT, metavar="FILE.html", takes="file", environment=False, result=True)
    ] = None


def show_copies(given: Given) -> None:
    """Compare copies with a release, and show what was found.

    Raises:
        typer.Exit: Not all copies were measured, or too little is left.
    """
    terminal, report = given.terminal, given.build(CopyReport).report
    if report is not None:
        check_target("--report", report)
    config = given.build(CopyConfig)

    from mtlue_cli.workflows.shards import unpacked_release
    from mtlue_cli.workflows.trace.copy import trace_copy

    plain = given.within(unpacked_release(config.release))
    with reading_photos():
        result = trace_copy(config, terminal.progress, plain)
    measured = sorted(
        (one for one in result.files if one.share is not None), key=lambda one: one.share if one.share else 0.0
    )
    if measured:
        terminal.show(copies_table(measured[:MOST_LISTED]))
        if len(measured) > MOST_LISTED:
            terminal.show(
                Text(f"and {len(measured) - MOST_LISTED} more with more left (--json lists all)", style="dim")
            )
    terminal.show(table_of(result.rows()))
    for line in grouped(
        [f"{one.name}: {one.status}: {one.reason}" for one in result.files if one.reason], "--json lists all"
    ):
        terminal.say(line)
    terminal.show(Text(result.reason, style="bold green" if result.exit_code is ExitCode.SUCCESS else "bold yellow"))
    terminal.write_json(result.to_json())
    if report is not None:
        terminal.write_file("--report", report, result.html().encode())
    if result.exit_code is not ExitCode.SUCCESS:
        raise typer.Exit(result.exit_code)


def copies_table(files: "list[CopyFile]") -> Table:
    """A line per measured copy."""
    table = Table()
    for heading in ("copy", "released photo"):
        table.add_column(heading, overflow="fold", min_width=12)
    table.add_column("found by")
    for heading in ("shows", "left", "95 % interval"):
        table.add_column(heading, justify="right", no_wrap=True)
    for one in files:
        found = [
            one.matched_by or "",
            f"turned by {one.rotated}°" if one.rotated else "",
            "mirrored" * bool(one.mirrored),
        ]
        table.add_row(
            Text(visible(one.name)),
            Text(visible(one.released or "")),
            ", ".join(filter(None, found)),
            f"{one.covered or 0:.0%}",
            f"{one.share or 0:.2f}",
            f"{one.share_low or 0:.2f} to {one.share_high or 0:.2f}",
        )
    return table
