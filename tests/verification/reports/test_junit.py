from collections.abc import Iterator

import pytest
from junitparser import Error, Failure, JUnitXml, Skipped, TestCase, TestSuite
from msgspec.structs import replace

from mtlue_cli.verification.document import VerifyDocument
from mtlue_cli.verification.reports.junit import LISTED_FAULTS, write_junit
from mtlue_cli.verification.verdict import Verdict
from tests.verification.reports import documents


def _suites(document: VerifyDocument) -> dict[str, TestSuite]:
    parsed = JUnitXml.fromstring(write_junit(document))
    found = list(parsed)
    suites = {suite.name: suite for suite in found if isinstance(suite, TestSuite)}
    assert len(suites) == len(found)
    holders: list[JUnitXml | TestSuite] = [parsed, *suites.values()]
    for holder in holders:
        counted = (holder.tests, holder.failures, holder.errors, holder.skipped)
        holder.update_statistics()  # type: ignore[no-untyped-call]  # untyped in junitparser
        assert (holder.tests, holder.failures, holder.errors, holder.skipped) == counted
    return suites


def _cases(suite: TestSuite) -> dict[str, TestCase]:
    return {case.name: case for case in suite}


def _outcomes(suite: TestSuite) -> dict[str, list[type]]:
    return {case.name: [type(result) for result in case.result] for case in suite}


def test_a_suite_a_judged_condition_and_a_case_a_task() -> None:
    suites = _suites(documents.protected())
    assert list(suites) == ["verdict", "audit", "resnet18 + none", "resnet18 + jpeg-10", "not tested"]
    assert _outcomes(suites["resnet18 + none"]) == {
        "average": [],
        "age": [],
        "race": [],
        "gender": [Skipped],
        "glasses": [Skipped],
    }
    assert {case.classname for case in suites["resnet18 + none"]} == {"resnet18 + none"}
    assert _outcomes(suites["verdict"]) == {"verdict": []}
    assert _outcomes(suites["audit"]) == {"files of the release": []}


def test_a_task_above_the_gate_passes_with_a_warning_where_the_average_passes() -> None:
    race = _cases(_suites(documents.protected())["resnet18 + jpeg-10"])["race"]
    assert race.result == []
    assert race.system_out.startswith("warning: above 0.25 taken alone")
    assert "learned 0.30" in race.system_out


def test_a_task_fails_only_with_its_condition() -> None:
    suites = _suites(documents.not_protected())
    assert _outcomes(suites["resnet18 + regression"]) == {
        "average": [Failure],
        "age": [],
        "race": [Failure],
        "gender": [Failure],
    }
    assert _outcomes(suites["resnet18 + jpeg-10"])["gender"] == []
    assert _outcomes(suites["verdict"]) == {"verdict": [Failure]}


def test_a_failure_says_its_figures_with_their_interval() -> None:
    # Two seeds 0.01 apart: standard error 0.005, times 12.706 is 0.0635.
    (failure,) = _cases(_suites(documents.not_protected())["resnet18 + regression"])["race"].result
    assert failure.message == (
        "learned 0.71 (0.65 to 0.77); accuracy 78.4 (75.9 to 80.9) %, clean 90.0 (90.0 to 90.0) %, floor 50.0 %; "
        "at most 0.25 allowed"
    )


def test_what_the_interval_leaves_open_is_an_error_like_the_verdict() -> None:
    suites = _suites(documents.undecided())
    (error,) = _cases(suites["small"])["average"].result
    assert isinstance(error, Error)
    assert error.message.startswith("learned 0.20 (0.05 to 0.37), at most 0.25 allowed")
    assert _outcomes(suites["verdict"]) == {"verdict": [Error]}


def test_the_best_epoch_tells_its_figures_where_it_decides() -> None:
    # At the best epoch 1.03 and 0.47, in the mean 0.75, after the last 0.13; of 40 points above the floor of 50.
    suites = _suites(documents.stopped_early())
    (failure,) = _cases(suites["small"])["average"].result
    assert failure.message == (
        "learned 0.75 (best epoch), at most 0.25 allowed; accuracy 80.0 %, clean 90.0 %, floor 50.0 %, over 2 tasks"
    )
    (failure,) = _cases(suites["small"])["race"].result
    assert failure.message.startswith("learned 0.47 (best epoch); accuracy 68.8 %, clean")
    (skipped,) = _cases(suites["small"])["glasses"].result
    assert "accuracy 62.0 %" in skipped.message
    passed = _cases(suites["resnet18 + none"])["average"]
    assert passed.system_out.startswith("learned 0.20, at most 0.25 allowed; accuracy 58.0 %")


def test_the_interval_is_of_the_epoch_that_decides() -> None:
    (failure,) = _cases(_suites(documents.stopped_early(seeds=2))["small"])["average"].result
    assert failure.message.startswith("learned 0.75 (0.69 to 0.81) (best epoch), at most")


def test_a_task_may_be_above_the_gate_at_its_best_epoch_alone() -> None:
    rows = [documents.task("age", -0.4), documents.task("race", 0.2, best_gain=0.1)]
    made = documents.document(Verdict.PROTECTED, "fine", [documents.condition("none", rows)])
    race = _cases(_suites(made)["none"])["race"]
    assert race.result == []
    assert race.system_out.startswith("warning: above 0.25 taken alone, though the average passes; learned 0.30 (best")


def test_figures_carry_the_name_of_the_metric() -> None:
    cases = _cases(_suites(documents.other_metric())["resnet18 + none"])
    messages = {name: case.result[0].message for name, case in cases.items()}
    assert messages == {
        "average": "learned 0.40, at most 0.25 allowed; "
        "balanced-accuracy 66.0 %, clean 90.0 %, floor 50.0 %, over 1 task",
        "age": "learned 0.40; balanced-accuracy 66.0 %, clean 90.0 %, floor 50.0 %; at most 0.25 allowed",
        "race": "inconclusive: the clean victim does not beat the floor clearly; "
        "balanced-accuracy 50.0 %, clean 51.0 %, floor 50.0 %",
    }


def test_the_gate_of_a_condition_is_read_not_judged_again() -> None:
    document = documents.not_protected()
    passed = tuple(replace(condition, above_gate=False) for condition in document.conditions)
    document = replace(document, conditions=passed)
    assert _outcomes(_suites(document)["resnet18 + regression"])["average"] == []


def test_inconclusive_is_skipped_and_the_verdict_an_error() -> None:
    suites = _suites(documents.inconclusive())
    assert _outcomes(suites["resnet18 + none"]) == {"average": [Skipped], "age": [Skipped], "race": [Skipped]}
    assert _outcomes(suites["verdict"]) == {"verdict": [Error]}


def test_what_was_not_tested_is_skipped_with_its_reason() -> None:
    cases = _cases(_suites(documents.protected())["not tested"])
    assert list(cases) == ["pgd", "vit-b-16"]
    (result,) = cases["vit-b-16"].result
    assert isinstance(result, Skipped)
    assert result.message == "not tested: left out by --tier smoke"
    assert "not tested" not in _suites(documents.generator())


@pytest.mark.parametrize(("faults", "cases"), [(2, 2), (LISTED_FAULTS, LISTED_FAULTS), (130, LISTED_FAULTS + 1)])
def test_every_audit_fault_is_an_error_up_to_a_limit(faults: int, cases: int) -> None:
    suite = _suites(documents.failed_audit(faults))["audit"]
    assert (suite.errors, suite.tests) == (cases, cases)
    messages = [case.result[0].message for case in suite]
    assert messages[0] == "00000.png: its bytes are not those of the manifest"
    if faults > LISTED_FAULTS:
        assert messages[-1].startswith("30 more faults")


def test_no_audit_makes_no_suite() -> None:
    assert "audit" not in _suites(documents.generator())


def test_a_task_named_average_keeps_its_own_case() -> None:
    document = documents.document(
        Verdict.PROTECTED, "fine", [documents.condition("resnet18 + none", [documents.task("average", 0.1)])]
    )
    names = [case.name for case in _suites(document)["resnet18 + none"]]
    assert names == ["average of the tasks", "average"]


def test_names_of_any_kind_survive_without_their_control_characters() -> None:
    document = documents.hostile()
    suites = _suites(document)
    expected = [name.translate({0: None, 7: None}).replace("\ud83d", "\ufffd") for name in documents.HOSTILE]
    judged = [suite for name, suite in suites.items() if name.endswith(" + x")]
    assert [suite.name for suite in judged] == [f"{name} + x" for name in expected]
    for suite in judged:
        assert list(_cases(suite)) == ["average", *expected]


def test_seconds_and_victim_of_a_condition_are_reported() -> None:
    suite = _suites(documents.protected())["resnet18 + jpeg-10"]
    assert suite.time == 42.5
    properties = {entry.name: entry.value for entry in suite.properties()}  # type: ignore[no-untyped-call]  # untyped in junitparser
    assert properties == {
        "title": "JPEG, quality 10",
        "victim": "resnet18, mtl, ls, scratch",
        "countermeasure": "jpeg-10",
        "seeds": "0",
        "protected_fraction": "1",
    }


def _made() -> Iterator[VerifyDocument]:
    yield from (documents.protected(), documents.failed_audit(), documents.large())


def test_the_same_document_gives_the_same_bytes() -> None:
    for first, second in zip(_made(), _made(), strict=True):
        assert write_junit(first) == write_junit(second)
