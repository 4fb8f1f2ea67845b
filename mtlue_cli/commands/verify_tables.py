"""What ``verify`` shows on a terminal."""

from typing import TYPE_CHECKING

from rich.table import Column, Table
from rich.text import Text

from mtlue_cli.choices import ExitCode
from mtlue_cli.commands.console import Terminal, duration, grouped

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mtlue_cli.metrics.repeated import Repeated
    from mtlue_cli.verification.document import VerifyDocument
    from mtlue_cli.verification.figures import Average, ConditionFigures, TaskFigures
    from mtlue_cli.verification.report import VerifyResult
    from mtlue_cli.verification.tiers import NotTested
    from mtlue_cli.workflows.verify.dry_run import DryRun

STYLES = {ExitCode.SUCCESS: "bold green", ExitCode.NOT_PROTECTED: "bold red", ExitCode.INCONCLUSIVE: "bold yellow"}
HALF_NOTE = "recovers more than half"


def show_verification(terminal: Terminal, result: "VerifyResult", *, brief: bool = False) -> None:
    """Audit faults, or the tables of victims, then the verdict, on stdout; ``brief``: no notes, nothing untested."""
    audit = result.audit
    if audit is not None:
        for line in grouped(audit.faults, "--json lists all"):
            terminal.show(line)
        if audit.max_change is not None:
            terminal.show(f"largest change of a pixel value: {audit.max_change:g}/255 over {audit.measured} files")
    if result.conditions:
        terminal.show(task_table(result))
    if len(result.conditions) > 3 or any(found.best_epoch_average for found in result.conditions):
        terminal.show(condition_table(result))
    for line in said_of_conditions(result):
        terminal.show(line)
    for probe in result.probes:
        terminal.show(f"{probe.name}: {probe.meaning}")
    if result.conditions and not brief:
        show_not_tested(terminal, result.not_tested)
    verdict = Text(result.verdict.value.upper(), style=STYLES[result.exit_code])
    terminal.show(Text.assemble(verdict, f": {result.reason} (took {duration(result.seconds)})"))
    if result.warning is not None:
        terminal.show(Text(f"warning: {result.warning}", style="bold yellow"))
    if result.early_note is not None and not brief:
        terminal.show(f"note: {result.early_note}")


def said_of_conditions(result: "VerifyDocument") -> list[str]:
    """Of kept tasks, of sequences of releases, of concepts: what the tables have no column for."""
    from mtlue_cli.verification.reports.wording import concepts_in_words, trade_off_in_words, trajectory_in_words

    words = trade_off_in_words, trajectory_in_words, concepts_in_words
    pairs = [(found.name, say(found)) for say in words for found in result.conditions]
    return [f"{name}: {said}" for name, said in pairs if said is not None]


def show_not_tested(terminal: Terminal, left: "Sequence[NotTested]") -> None:
    """What was not tried, one line per kind; it must not be taken for passed."""
    kinds: dict[str, list[str]] = {}
    for untried in left:
        kind, _, name = untried.name.partition(" ")
        whole = untried.reason != "not part of this run" or not name
        kinds.setdefault("other" if whole or kind == "a" else kind, []).append(
            f"{untried.name} ({untried.reason})" if whole else name if kind != "a" else untried.name
        )
    for kind, names in kinds.items():
        terminal.show(Text(f"not tested, {kind}: {', '.join(names)}", style="dim"))


def task_table(result: "VerifyDocument") -> Table:
    """One line per task for the first victim: clean images, the release, noise; in %, and learned fractions.

    Where a task is judged by an error, every figure stands with its unit.
    """
    from mtlue_cli.metrics.measures import in_unit
    from mtlue_cli.metrics.repeated import Repeated

    clean = result.conditions[0]
    own = [found for found in result.conditions if found.victim == clean.victim and found.countermeasure is None]
    release = next((found for found in own if found.role.value == "judged"), None)
    noise = next((found for found in own if found.role.value == "control"), None)
    bare = not any(task.lower_is_better for task in clean.tasks)
    several = any(found.victim != clean.victim for found in result.conditions)
    table = Table(f"task, victim {release.name}" if several and release else "task")
    for name in ("clean", "protected", *(("noise",) if noise else ()), "floor"):
        table.add_column(f"{name} %" if bare else name, justify="right")
    table.add_column("learned", justify="right")

    def shown(figure: "Repeated | None", task: "TaskFigures") -> str:
        if figure is None:
            return "-"
        sign = "" if bare or task.lower_is_better else " %"
        half = figure.half_width
        off = "" if half is None else f" ± {in_unit(half, task.metric).removeprefix('error ')}"
        return in_unit(figure.mean, task.metric) + off + sign

    for row, task in enumerate(clean.tasks):
        protected = release.tasks[row] if release else None
        learned = _fraction(protected.learned_fraction if protected else None)
        table.add_row(
            task.task if task.metric == result.metric else f"{task.task} ({task.metric})",
            shown(task.clean, task),
            shown(protected.score if protected else None, task),
            *((shown(noise.tasks[row].score, task),) if noise else ()),
            shown(Repeated.of([task.floor]), task),
            learned if task.judged else f"({learned})",
        )
    average = release.average if release else None
    if average is not None:
        control = noise.average if noise else None
        table.add_section()
        table.add_row(
            f"average of {len(average.tasks)}" + ("" if bare else ", % (errors: below the floor)"),
            _percent(average.clean_score),
            _percent(average.score),
            *((_percent(control.score if control else None),) if noise else ()),
            f"{100 * average.floor:.1f}",
            _learned(average),
            style="bold",
        )
        if control is not None:
            table.caption = (
                f"noise of the same epsilon: learned {control.learned_fraction.mean:.2f} (it must not protect)"
            )
    if release is not None and (by_place := by_place_alone(release)) is not None:
        table.caption = by_place if table.caption is None else f"{table.caption}; {by_place}"
    return table


def by_place_alone(release: "ConditionFigures") -> str | None:
    """What label maps alone teach of where things are, and what is learned beyond; None without dense tasks."""
    from mtlue_cli.metrics.measures import in_unit

    floors = []
    for task in release.tasks:
        if task.place_floor is None:
            continue
        sign = "" if task.lower_is_better else " %"
        floors.append(
            f"{task.task} {in_unit(task.place_floor, task.metric)}{sign}, "
            f"learned beyond it {_fraction(task.learned_beyond_place)}"
        )
    return f"by position alone, without the image: {'; '.join(floors)}" if floors else None


def condition_table(result: "VerifyDocument") -> Table:
    """One line per condition: average figures over the judged, conclusive tasks."""
    table = Table(Column("condition", overflow="fold"))
    for name in (f"{result.metric.value} %", "learned", "at best epoch"):
        table.add_column(name, justify="right")
    table.add_column("")
    for found in result.conditions:
        table.add_row(
            found.name,
            _percent(found.average.score if found.average else None),
            _learned(found.average),
            _learned(found.best_epoch_average),
            _remark(found, result),
        )
    return table


def show_dry_run(terminal: Terminal, planned: "DryRun") -> None:
    """The plan and its estimate, on stdout."""
    table = Table(Column("condition", overflow="fold"), "role")
    for name in ("networks", "about"):
        table.add_column(name, justify="right")
    for start in planned.starts:
        table.add_row(f"start for {start.backbone.value}", "start", "1", duration(start.seconds))
    for row in planned.conditions:
        table.add_row(row.name, row.role.value, str(row.victims), duration(row.seconds))
    table.add_section()
    networks = len(planned.starts) + sum(row.victims for row in planned.conditions)
    table.add_row("all", "", str(networks), duration(planned.seconds))
    terminal.show(table)
    terminal.show(
        f"about {duration(planned.seconds)} on {planned.device} for about {planned.images} training images and "
        f"{planned.epochs} epochs ({planned.steps:,} steps); cached victims take no time"
    )
    show_not_tested(terminal, planned.left_out)


def _remark(found: "ConditionFigures", result: "VerifyDocument") -> Text:
    words: list[str] = []
    if found.recovers_half:
        words.append(HALF_NOTE)
    if found.name == result.worst_condition and len(result.conditions) > 3:
        words.append("the worst")
    if found.average is None:
        words.append("inconclusive")
    if found.undecided:
        words.append("undecided")
    if not words and found.role.value != "judged":
        words.append(f"({found.role.value})")
    return Text(", ".join(words), style="bold red" if found.above_gate else "")


def _learned(average: "Average | None") -> str:
    if average is None or average.interval is None:
        return _fraction(None if average is None else average.learned_fraction)
    return f"{average.learned_fraction.mean:.2f} ({average.interval.low:.2f} to {average.interval.high:.2f})"


def _percent(figure: "Repeated | None") -> str:
    return _with_interval(figure, 100, 1)


def _fraction(figure: "Repeated | None") -> str:
    return _with_interval(figure, 1, 2)


def _with_interval(figure: "Repeated | None", scale: int, digits: int) -> str:
    if figure is None:
        return "-"
    half = "" if figure.half_width is None else f" ± {scale * figure.half_width:.{digits}f}"
    return f"{scale * figure.mean:.{digits}f}{half}"
