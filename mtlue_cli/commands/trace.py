"""``mtlue trace``: evidence that a model was trained on a release, and how much of it is left in copies."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from mtlue_cli.budget import Budget
from mtlue_cli.choices import ExitCode
from mtlue_cli.commands.console import Terminal, check_target, grouped, table_of, visible
from mtlue_cli.commands.decoders import reading_photos
from mtlue_cli.commands.from_config import Given, command_of
from mtlue_cli.commands.targets import refuse_overwriting
from mtlue_cli.options import OUTPUT, Option
from mtlue_cli.tasks.wording import counted
from mtlue_cli.workflows.trace.config import CopyConfig, JudgeConfig, ProbesConfig

if TYPE_CHECKING:
    from mtlue_cli.workflows.trace.copy import CopyFile, CopyResult
    from mtlue_cli.workflows.trace.judge import JudgeResult

MOST_LISTED = 20
"""Copies that the table lists, those with the least left first."""


@dataclass(frozen=True)
class JudgeReport:
    """What ``trace judge`` writes.

    Attributes:
        report: Write one self-contained HTML page for readers who do not know the program.
    """

    report: Annotated[Path | None, Option(panel=OUTPUT, metavar="FILE.html", takes="file", result=True)] = None


@dataclass(frozen=True)
class CopyReport:
    """What ``trace copy`` writes. No variable names it: ``MTLUE_TRACE_REPORT`` is that of ``trace judge``.

    Attributes:
        report: Write one self-contained HTML page.
    """

    report: Annotated[
        Path | None, Option(panel=OUTPUT, metavar="FILE.html", takes="file", environment=False, result=True)
    ] = None


@command_of("trace-probes", ProbesConfig, Budget)
def probes(given: Given) -> None:
    """Make probe images from clean photos, to ask a model about.

    Send the folder, publish the digest of its commitment.json, and keep the sealed answers to yourself. The release
    must hold codes of a key: see --release.

    [bold]Example:[/bold] mtlue trace probes clean --release photos-protected --out probes
    """
    from mtlue_cli.workflows.trace.probes import make_probes

    terminal = given.terminal
    with reading_photos():
        result = make_probes(given.build(ProbesConfig), terminal.progress)
    for note in result.notes:
        terminal.say(note)
    terminal.show(
        table_of(
            {
                "probes": f"{result.count} in {result.probes}: {counted(result.stages, 'stage')} of "
                f"{counted(result.images, 'image')}, each with the true codes and {result.arms - 1} decoys",
                "ask for": ", ".join(result.tasks),
                "smallest p-value": f"{result.smallest_p:.1e}, if the model follows every true code and no decoy",
                "keep to yourself": result.sealed,
                "publish": f"{result.commitment_sha256} (SHA-256 of commitment.json)",
            }
        )
    )
    terminal.say("send these probes once, to one model, and never publish them; fill in answers.csv for trace judge")
    terminal.write_json(result.to_json())


@command_of("trace-judge", JudgeConfig, JudgeReport, Budget)
def judge(given: Given) -> None:
    """Judge from a model's answers to probes whether it was trained on the release.

    Exit code 0: trained on this release; 4: no evidence; 5: too few queries to tell.

    [bold]Example:[/bold] mtlue trace judge probes --answers predictions.csv
    """
    from mtlue_cli.workflows.trace.judge import judge_model
    from mtlue_cli.workflows.trace.sealed import sealed_path

    terminal, report, config = given.terminal, given.build(JudgeReport).report, given.build(JudgeConfig)
    refuse_overwriting(given.results, "--sealed", sealed_path(config.probes))
    if report is not None:
        check_target("--report", report)
    with reading_photos():
        result = judge_model(config, terminal.progress)
    show_judgement(terminal, result)
    finish(terminal, result, report)


def finish(terminal: Terminal, result: "JudgeResult | CopyResult", report: Path | None) -> None:
    """Write what was asked for.

    Raises:
        typer.Exit: The result is not that all is well.
    """
    terminal.write_json(result.to_json())
    if report is not None:
        terminal.write_file("--report", report, result.html().encode())
    if result.exit_code is not ExitCode.SUCCESS:
        raise typer.Exit(result.exit_code)


def show_judgement(terminal: Terminal, result: "JudgeResult") -> None:
    """The figures of each task, then the verdict."""
    table = Table(box=None, pad_edge=False)
    for heading in (
        "task",
        "follows true codes",
        "follows decoys",
        "difference",
        "p-value",
        "corrected p-value",
        "by scores",
    ):
        table.add_column(heading, justify="left" if heading == "task" else "right")
    for task in result.tasks:
        low, high = task.difference_low, task.difference_high
        between = "" if low is None or high is None else f" ({100 * low:+.0f} to {100 * high:+.0f})"
        table.add_row(
            Text(task.name),
            f"{task.follow_true:.1%}",
            f"{task.follow_decoys:.1%}",
            f"{100 * (task.follow_true - task.follow_decoys):+.0f}{between}",
            _shown(task.p_value),
            _shown(task.p_holm),
            _shown(task.p_scores),
        )
    terminal.show(table)
    by_scores = "" if result.p_scores is None else f", by scores {_shown(result.p_scores)}"
    terminal.show(
        table_of(
            {
                "all tasks": f"p-value by labels {_shown(result.p_labels)}{by_scores}; the least possible is "
                f"{_shown(result.smallest_p)}",
                "power": f"{result.power:.0%} for a model that follows {result.full_signal:.0%} of the true codes, at "
                f"the level {result.level:g}",
                "verdict": f"{result.verdict}: {result.reason}",
            }
        )
    )


def _shown(p: float | None) -> str:
    from mtlue_cli.workflows.trace.ranks import p_in_words

    return "" if p is None else p_in_words(p)


@command_of("trace-copy", CopyConfig, CopyReport, Budget)
def copy(given: Given) -> None:
    """Measure how much of the perturbation is left in copies of released photos.

    Copies are matched by their bytes, their names or their pictures, and may be scaled, cropped, turned, mirrored and
    recompressed. Exit code 3: some copies could not be measured; 4: less than --least-share is left; 5: none could be
    measured.

    [bold]Example:[/bold] mtlue trace copy downloaded --release photos-protected --against photos
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
    show_copies(terminal, result)
    finish(terminal, result, report)


def show_copies(terminal: Terminal, result: "CopyResult") -> None:
    """The copies with the least left, then what was found in all."""
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
