"""A verification as GitHub-flavoured Markdown: a step summary, a comment, a file.

The verdict comes first. GitHub refuses a step summary of more than 1 MiB, so every part has a budget of bytes; what
does not fit is left out from the end of its table or list, and a sentence in its place says how much that was.
"""

import re
from collections.abc import Callable, Iterable, Sequence

from mtlue_cli.tasks.wording import counted
from mtlue_cli.verification.audit import AuditReport
from mtlue_cli.verification.conditions import Role
from mtlue_cli.verification.document import VerifyDocument
from mtlue_cli.verification.figures import ConditionFigures
from mtlue_cli.verification.probes.base import ProbeFigures
from mtlue_cli.verification.reports.heat_map import Cell, heat_map
from mtlue_cli.verification.reports.wording import (
    BEST_EPOCH,
    NOTHING,
    by_place,
    clipped,
    concepts_in_words,
    elapsed,
    flip_in_words,
    fraction,
    gate_in_words,
    learned_in_parentheses,
    learned_with_interval,
    mean_of,
    percent,
    share_with_interval,
    trade_off_in_words,
    trajectory_in_words,
    victim_in_words,
    worst_first,
)
from mtlue_cli.verification.verdict import Verdict

MOST_BYTES = 1024 * 1024
"""Largest step summary that GitHub takes."""

MOST_NAME, MOST_TEXT, MOST_COMMAND = 80, 2_000, 20_000
"""Characters of a name, of a free text and of the command line; longer ones are cut."""

TABLE_BYTES, MATRIX_BYTES, LIST_BYTES = 250_000, 400_000, 40_000
"""Budgets of the table of conditions, of the table of tasks by conditions, and of every list. With nine lists and the
texts at four bytes a character they stay below :data:`MOST_BYTES`."""

OPEN_COLUMNS = 8
"""A wider table of tasks by conditions is folded away."""

ELSEWHERE = "the JSON result holds all"

_SIGNS = {Verdict.PROTECTED: "✅", Verdict.NOT_PROTECTED: "❌", Verdict.INCONCLUSIVE: "⚠️"}
_SPECIAL = re.compile(r"([\\`*_\[\]<>#|~$&!@])")
_SPACE = re.compile(r"\s+")


def write_markdown(document: VerifyDocument) -> str:
    """The result document of ``mtlue verify`` as Markdown of less than :data:`MOST_BYTES` bytes in UTF-8.

    Names and texts of the document are escaped: they read as they are and form no markup.
    """
    blocks = [
        *_head(document),
        *_audit(document.audit),
        *_conditions(document),
        *_matrix(document),
        *_listed("Learned beyond position", list(_beyond_place(document)), "task"),
        *_listed("Utility and forgetting", _said(document, trade_off_in_words), "condition"),
        *_listed("A sequence of releases", _said(document, trajectory_in_words), "condition"),
        *_listed("Concepts", _said(document, concepts_in_words), "condition"),
        *_listed("Probes", [_probe(probe) for probe in document.probes], "probe"),
        *_listed(
            "Not tested",
            [f"{_name(part.name)}: {_prose(part.reason)}" for part in document.not_tested],
            "part",
        ),
        *_listed("Notes", [_prose(note) for note in document.notes], "note"),
        "### Command",
        _fenced(clipped(document.command_line, MOST_COMMAND)),
        f"Took {elapsed(document.seconds)} on {_prose(document.device)}. Digest {_name(document.digest)}.",
    ]
    return "\n\n".join(blocks) + "\n"


def _head(document: VerifyDocument) -> Iterable[str]:
    verdict = document.verdict
    yield f"## {_SIGNS[verdict]} mtlue verify: {verdict}"
    yield _prose(document.reason)
    if document.warning:
        yield f"⚠️ **Warning:** {_prose(document.warning)}"
    facts = [
        f"Judged: {_prose(document.subject)}",
        f"Gate: {gate_in_words(document)} (0 learned nothing, 1 learned as from clean images, below 0 misled)",
    ]
    if document.worst_condition is not None:
        named = _name(document.worst_condition)
        worst = document.worst
        if worst is not None and worst.learned is not None:
            named += f", learned {learned_with_interval(worst.learned, document.max_learned)}"
        facts.append(f"Worst condition: **{named}**")
    if document.tier is not None:
        facts.append(f"Tier: {_name(document.tier)}")
    counts = document.counts
    if counts is not None:
        facts.append(f"Images: {counts.train_images:,} to train on, {counts.test_images:,} to test on")
    facts.append(f"Epsilon: {document.epsilon}/255")
    if document.flip is not None:
        facts.append(f"FLIP: {flip_in_words(document.flip)}")
    if document.audit is not None and document.audit.trace is not None:
        facts.append(f"Was a model trained on this release? {_name(document.audit.trace)}")
    yield "\n".join(f"- {fact}" for fact in facts)


def _audit(audit: AuditReport | None) -> Iterable[str]:
    if audit is None:
        return
    change = "" if audit.max_change is None else f"; largest change of a pixel value {audit.max_change:g}/255"
    yield "### Audit of the release"
    yield f"{counted(audit.files, 'file')}, {audit.measured:,} measured{change}."
    yield from _listed(None, [f"❌ {_prose(fault)}" for fault in audit.faults], "fault")
    yield from _listed(None, [_prose(note) for note in audit.notes], "note")


def _conditions(document: VerifyDocument) -> Iterable[str]:
    conditions = worst_first(document.conditions)
    if not conditions:
        return
    yield "### Conditions"
    figures = ["learned", "last epoch", "best epoch", f"{document.metric} %", "clean %", "floor %"]
    header = ["condition", "role", *figures, "worst task", "gate"]
    rows = (_condition_row(one, document.max_learned) for one in conditions)
    yield from _table(header, rows, len(conditions), "condition", TABLE_BYTES, text_columns=2)
    broken = [one for one in conditions if one.recovers_half]
    if broken:
        gate = document.max_learned
        named = [
            f"{_name(one.name)} ({learned_in_parentheses(one.learned, gate)})" for one in broken[:20] if one.learned
        ]
        rest = "" if len(broken) <= 20 else f" and {counted(len(broken) - 20, 'more condition')}"
        yield f"More than half of the gap to clean images is recovered under: {', '.join(named)}{rest}."


def _condition_row(condition: ConditionFigures, gate: float) -> list[str]:
    name = f"**{_name(condition.name)}**" if condition.above_gate else _name(condition.name)
    if condition.title != condition.name:
        name += f": {_name(condition.title)}"
    average, best, learned = condition.average, condition.best_epoch_average, condition.learned
    worst = condition.worst_task
    if average is None or learned is None:
        figures = ["inconclusive", *[NOTHING] * 5]
    else:
        figures = [
            learned_with_interval(learned, gate),
            fraction(average.learned_fraction.mean, gate),
            fraction(mean_of(best.learned_fraction) if best else None, gate),
            share_with_interval(learned.score),
            percent(average.clean_score.mean),
            percent(average.floor),
        ]
    task = f"{_name(worst[0].task)} ({learned_in_parentheses(worst[1], gate)})" if worst else NOTHING
    if condition.role is not Role.JUDGED or average is None:
        passed = NOTHING
    elif condition.undecided:
        passed = "⚠️ undecided"
    else:
        passed = "❌ above" if condition.above_gate else "✅ below"
    victim = _escaped(clipped(victim_in_words(condition), MOST_NAME))
    return [f"{name} ({victim})", condition.role, *figures, task, passed]


def _matrix(document: VerifyDocument) -> Iterable[str]:
    """Learned fractions, the longer of tasks and conditions downward."""
    grid = heat_map(document)
    if not grid.columns or not grid.tasks:
        return
    yield "### Learned fraction by task"
    yield (
        f"Bold: above {document.max_learned:g}. {BEST_EPOCH}: higher than after the last epoch. In parentheses: not "
        f"judged. {NOTHING}: inconclusive, the clean victim does not clearly beat the floor."
    )
    tasks, conditions = list(map(_name, grid.tasks)), [_name(column.condition.name) for column in grid.columns]
    down, across, cells = conditions, tasks, [[_cell(cell) for cell in column.cells] for column in grid.columns]
    if len(conditions) <= len(tasks):
        down, across, cells = tasks, conditions, [list(row) for row in zip(*cells, strict=True)]
    noun = "task" if down is tasks else "condition"
    rows = ([name, *row] for name, row in zip(down, cells, strict=True))
    table = list(_table([noun, *across], rows, len(down), noun, MATRIX_BYTES, text_columns=1))
    if len(across) > OPEN_COLUMNS:
        yield f"<details><summary>{counted(len(tasks), 'task')}, {counted(len(conditions), 'condition')}</summary>"
        yield from table
        yield "</details>"
    else:
        yield from table


def _cell(cell: Cell) -> str:
    return (f"**{cell.text}**" if cell.colour.startswith("above") else cell.text or NOTHING) + cell.remark


def _said(document: VerifyDocument, words: Callable[[ConditionFigures], str | None]) -> list[str]:
    """A line for every condition that ``words`` says something of."""
    pairs = [(one, words(one)) for one in worst_first(document.conditions)]
    return [f"{_name(one.name)}: {_prose(said)}" for one, said in pairs if said is not None]


def _beyond_place(document: VerifyDocument) -> Iterable[str]:
    """Of every task that labels pixels, condition after condition: what its label maps alone teach is no leak."""
    for one in worst_first(document.conditions):
        if one.role is not Role.REFERENCE:
            for task in one.tasks:
                line = by_place(task, document.max_learned)
                if line is not None:
                    yield f"{_name(task.task)}, {_name(one.name)}: {line}"


def _probe(probe: ProbeFigures) -> str:
    figures = ", ".join(f"{_name(name)} {value:.4g}" for name, value in list(probe.figures.items())[:20])
    return f"{_name(probe.title)}: {figures} ({_prose(probe.meaning)})"


def _listed(title: str | None, entries: Sequence[str], noun: str) -> Iterable[str]:
    """A heading and a bullet list within :data:`LIST_BYTES`; nothing if there is no entry."""
    if not entries:
        return
    if title is not None:
        yield f"### {title}"
    kept, left = _within([f"- {entry}" for entry in entries], len(entries), LIST_BYTES)
    if kept:
        yield "\n".join(kept)
    if left:
        yield _left_out(left, noun)


def _table(
    header: Sequence[str], rows: Iterable[Sequence[str]], count: int, noun: str, budget: int, *, text_columns: int
) -> Iterable[str]:
    """A table within ``budget`` bytes, and what was left out of it; the first ``text_columns`` are not figures."""
    rule = ["---" if column < text_columns else "---:" for column in range(len(header))]
    top = [_line(header), _line(rule)]
    used = sum(len(line.encode()) + 1 for line in top)
    kept, left = _within((_line(row) for row in rows), count, budget - used)
    if kept:
        yield "\n".join([*top, *kept])
    if left:
        yield _left_out(left, noun)


def _within(lines: Iterable[str], count: int, budget: int) -> tuple[list[str], int]:
    """The first of ``count`` lines that fit into ``budget`` bytes with their line ends, and how many do not."""
    kept: list[str] = []
    for line in lines:
        budget -= len(line.encode()) + 1
        if budget < 0:
            break
        kept.append(line)
    return kept, count - len(kept)


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _left_out(number: int, noun: str) -> str:
    return f"*Shortened: {counted(number, f'more {noun}')} left out here; {ELSEWHERE}.*"


def _name(text: object) -> str:
    return _escaped(clipped(text, MOST_NAME))


def _prose(text: object) -> str:
    return _escaped(clipped(text, MOST_TEXT))


def _escaped(text: str) -> str:
    """``text`` on one line, with everything that Markdown or HTML could read as markup escaped."""
    return _SPECIAL.sub(r"\\\1", _SPACE.sub(" ", text).strip())


def _fenced(text: str) -> str:
    """``text`` as a code block, with a fence longer than any run of backticks in it."""
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}text\n{text}\n{fence}"
