"""Errors of tasks that label every pixel stand in reports with their unit, never as percent."""

import re

import pytest
from msgspec.structs import replace

from mtlue_cli.verification.document import VerifyDocument
from mtlue_cli.verification.reports.curves import charts
from mtlue_cli.verification.reports.html import write_html
from mtlue_cli.verification.reports.junit import write_junit
from mtlue_cli.verification.reports.markdown import write_markdown
from mtlue_cli.verification.reports.wording import figure_of, task_figure_with_interval
from mtlue_cli.verification.verdict import Verdict
from tests.verification.reports.documents import angles, condition, document, task


@pytest.fixture
def judged() -> VerifyDocument:
    tasks = [task("age", 0.1), angles("tilt", 0.2)]
    return document(Verdict.PROTECTED, "a victim learns little", [condition("resnet18", tasks)])


def test_an_error_has_its_unit_and_a_share_its_sign() -> None:
    one = angles("tilt", 0.25, seeds=3)
    assert task_figure_with_interval(one, one.score) == "35.0° (34.5° to 35.5°)"
    assert task_figure_with_interval(task("age", 0.25), task("age", 0.25).score) == "60.0 %"
    depth = replace(one, metric="absolute_error")
    assert figure_of(depth, 0.41234) == "error 0.412"
    assert figure_of(one, None) == "\N{EN DASH}"


def test_junit_tells_errors_in_degrees(judged: VerifyDocument) -> None:
    text = write_junit(judged)
    assert "mean_angle 36.0°, clean 20.0°, floor 40.0°" in (text.decode() if isinstance(text, bytes) else text)


def test_junit_and_markdown_tell_what_place_alone_gives(judged: VerifyDocument) -> None:
    reported = "by position alone 30.0°, learned beyond it -0.60"
    case = next(line for line in write_junit(judged).decode().splitlines() if reported in line)
    assert "age" not in case
    section = write_markdown(judged).split("### Learned beyond position")[1].split("###")[0]
    assert section.strip() == f"- tilt, resnet18: {reported}"
    alone = document(Verdict.PROTECTED, "x", [condition("resnet18", [task("age", 0.1)])])
    assert "beyond position" not in write_markdown(alone)


def test_the_page_tells_errors_in_degrees_and_the_metric(judged: VerifyDocument) -> None:
    page = write_html(judged)
    rows = re.findall(r"<tr>\s*<th scope=\"row\"><span class=\"name\">tilt</span>.*?</tr>", page, re.DOTALL)
    (row,) = [found for found in rows if "mean_angle" in found]
    for expected in ("36.0°", "20.0°", "40.0°", "0.20", "by position 30.0°", "beyond position -0.60"):
        assert expected in row


def test_curves_of_shares_have_no_levels_of_errors(judged: VerifyDocument) -> None:
    alone = document(Verdict.PROTECTED, "x", [condition("resnet18", [task("age", 0.1)])])
    assert ["floor 50.0 %" in chart.summary for chart in charts(alone)] == [True]
    assert ["floor" in chart.summary for chart in charts(judged)] == [False]
