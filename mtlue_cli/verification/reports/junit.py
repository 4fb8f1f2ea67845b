"""A verification as JUnit XML: what CI systems show as tests.

One test suite per judged condition, with a case for its average and one per task. The gate is on the average, so a
task fails only where its condition does; a task above the gate in a condition that passes says so in its output. What
was not tested is skipped, never passed. Controls and comparisons are not judged and have no cases; what they mean for
the verdict is in the case of the verdict, which agrees with the exit code.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from xml.etree import ElementTree

from mtlue_cli.choices import MetricName
from mtlue_cli.metrics.repeated import Repeated
from mtlue_cli.tasks.wording import counted
from mtlue_cli.verification.conditions import Role
from mtlue_cli.verification.document import VerifyDocument
from mtlue_cli.verification.figures import ConditionFigures, TaskFigures
from mtlue_cli.verification.reports.wording import (
    by_place,
    clean_text,
    figure_of,
    learned_with_interval,
    percent,
    share_with_interval,
    task_figure_with_interval,
    victim_in_words,
    with_sign,
)
from mtlue_cli.verification.verdict import Verdict

LISTED_FAULTS = 100
"""Faults of the audit with a case each; one more case counts the rest."""

AVERAGE = "average"


class Outcome(StrEnum):
    """Element of a case that did not simply pass; its plural is the attribute that counts it."""

    FAILURE = "failure"
    ERROR = "error"
    SKIPPED = "skipped"


_COUNTERS = {Outcome.FAILURE: "failures", Outcome.ERROR: "errors", Outcome.SKIPPED: "skipped"}


@dataclass(frozen=True)
class Case:
    """One test case.

    Attributes:
        name: Its name within the suite.
        outcome: None if it passed.
        message: Why it did not pass; for a case that passed, what it has to say all the same, or nothing.
        seconds: What it took; 0 where the time of a part is unknown.
    """

    name: str
    outcome: Outcome | None = None
    message: str = ""
    seconds: float = 0.0


def write_junit(document: VerifyDocument) -> bytes:
    """The result document of ``mtlue verify`` as JUnit XML in UTF-8; the same document gives the same bytes."""
    root = ElementTree.Element("testsuites", name="mtlue verify")
    suites = [_suite("verdict", [_verdict_case(document)])]
    if document.audit is not None:
        suites.append(_suite("audit", list(_audit_cases(document.audit.faults))))
    for condition in document.conditions:
        if condition.role is Role.JUDGED:
            suites.append(_condition_suite(condition, document.max_learned, document.metric))
    if document.not_tested:
        untried = [Case(part.name, Outcome.SKIPPED, f"not tested: {part.reason}") for part in document.not_tested]
        suites.append(_suite("not tested", untried))
    for attribute in ("tests", *_COUNTERS.values()):
        root.set(attribute, str(sum(int(suite.get(attribute, "0")) for suite in suites)))
    root.set("time", f"{document.seconds:.2f}")
    root.extend(suites)
    ElementTree.indent(root)
    written: bytes = ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)
    return written + b"\n"


def _suite(name: str, cases: Sequence[Case], properties: Sequence[tuple[str, str]] = ()) -> ElementTree.Element:
    """A suite whose cases carry its name as their class."""
    suite = ElementTree.Element("testsuite", name=clean_text(name), tests=str(len(cases)))
    for outcome, attribute in _COUNTERS.items():
        suite.set(attribute, str(sum(case.outcome is outcome for case in cases)))
    suite.set("time", f"{sum(case.seconds for case in cases):.2f}")
    if properties:
        holder = ElementTree.SubElement(suite, "properties")
        for key, value in properties:
            ElementTree.SubElement(holder, "property", name=key, value=clean_text(value))
    for case in cases:
        names = {"classname": clean_text(name), "name": clean_text(case.name)}
        element = ElementTree.SubElement(suite, "testcase", names, time=f"{case.seconds:.2f}")
        message = clean_text(case.message)
        if case.outcome is not None:
            ElementTree.SubElement(element, case.outcome.value, message=message)
        elif message:
            ElementTree.SubElement(element, "system-out").text = message
    return suite


def _verdict_case(document: VerifyDocument) -> Case:
    reason = f"{document.verdict}: {document.reason}"
    if document.verdict is Verdict.PROTECTED:
        return Case("verdict", message=f"warning: {document.warning}" if document.warning else reason)
    return Case("verdict", Outcome.FAILURE if document.verdict is Verdict.NOT_PROTECTED else Outcome.ERROR, reason)


def _audit_cases(faults: Sequence[str]) -> Iterator[Case]:
    if not faults:
        yield Case("files of the release")
    for number, fault in enumerate(faults[:LISTED_FAULTS], start=1):
        yield Case(f"fault {number}", Outcome.ERROR, fault)
    left = len(faults) - LISTED_FAULTS
    if left > 0:
        yield Case("further faults", Outcome.ERROR, f"{counted(left, 'more fault')}, all in the JSON result")


def _condition_suite(condition: ConditionFigures, max_learned: float, metric: MetricName) -> ElementTree.Element:
    properties = [
        ("title", condition.title),
        ("victim", victim_in_words(condition)),
        ("countermeasure", condition.countermeasure or "none"),
        ("seeds", ", ".join(map(str, condition.seeds))),
        ("protected_fraction", f"{condition.protected_fraction:g}"),
    ]
    tasks = condition.tasks
    cases = [_average_case(condition, max_learned, metric, {task.task for task in tasks})]
    cases += [_task_case(task, condition, max_learned) for task in tasks]
    return _suite(condition.name, cases, properties)


def _average_case(condition: ConditionFigures, max_learned: float, metric: MetricName, taken: set[str]) -> Case:
    name = AVERAGE if AVERAGE not in taken else f"{AVERAGE} of the tasks"
    seconds = condition.seconds
    average, learned = condition.average, condition.learned
    if average is None or learned is None:
        message = "inconclusive: the clean victim beats the floor clearly on no judged task"
        return Case(name, Outcome.SKIPPED, message, seconds)
    message = (
        f"learned {learned_with_interval(learned, max_learned)}, at most {max_learned:g} allowed; "
        f"{metric} {share_with_interval(learned.score)} %, clean {share_with_interval(average.clean_score)} %, "
        f"floor {percent(average.floor)} %, over {counted(len(average.tasks), 'task')}"
    )
    outcome = Outcome.FAILURE if condition.above_gate else Outcome.ERROR if condition.undecided else None
    return Case(name, outcome, message, seconds)


def _task_case(task: TaskFigures, condition: ConditionFigures, max_learned: float) -> Case:
    learned = task.learned
    score = task.score if learned is None else learned.score
    figures = "; ".join(filter(None, [_task_scores(task, score), by_place(task, max_learned)]))
    if not task.judged:
        return Case(task.task, Outcome.SKIPPED, f"not judged: the release does not mean to protect it; {figures}")
    if learned is None:
        why = "not measured" if task.conclusive else "inconclusive: the clean victim does not beat the floor clearly"
        return Case(task.task, Outcome.SKIPPED, f"{why}; {figures}")
    message = f"learned {learned_with_interval(learned, max_learned)}; {figures}"
    if learned.mean <= max_learned:
        return Case(task.task, message=message)
    if condition.above_gate:
        return Case(task.task, Outcome.FAILURE, f"{message}; at most {max_learned:g} allowed")
    warning = f"warning: above {max_learned:g} taken alone, though the average passes"
    return Case(task.task, message=f"{warning}; {message}")


def _task_scores(task: TaskFigures, score: Repeated) -> str:
    clean, floor = task_figure_with_interval(task, task.clean), with_sign(task, figure_of(task, task.floor))
    return f"{task.metric} {task_figure_with_interval(task, score)}, clean {clean}, floor {floor}"
