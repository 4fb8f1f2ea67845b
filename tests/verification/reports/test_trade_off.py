import pytest

from mtlue_cli.verification.conditions import Role
from mtlue_cli.verification.reports.curves import BOTTOM as CHART_BOTTOM
from mtlue_cli.verification.reports.curves import HEIGHT as CHART_HEIGHT
from mtlue_cli.verification.reports.curves import TOP as CHART_TOP
from mtlue_cli.verification.reports.curves import trajectories
from mtlue_cli.verification.reports.html import write_html
from mtlue_cli.verification.reports.markdown import write_markdown
from mtlue_cli.verification.reports.trade_off import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, trade_off
from tests.verification.reports import documents
from tests.verification.reports.page import read_page

DOCUMENT = documents.with_new_victims()


def test_forgetting_and_utility_by_hand() -> None:
    plot = trade_off(DOCUMENT)
    assert plot is not None
    assert plot.tasks == ("gender", "hat")
    assert [point.condition.role for point in plot.points] == [*[Role.JUDGED] * 3, Role.COMPARISON]
    for point in plot.points:
        assert point.forgetting == pytest.approx(1 - 0.15)
        assert point.utility == pytest.approx(0.9)
        assert point.x == pytest.approx(LEFT + 0.85 * (WIDTH - LEFT - RIGHT), abs=0.06)
        assert point.y == pytest.approx(TOP + 0.1 * (HEIGHT - TOP - BOTTOM), abs=0.06)
    assert plot.gate == pytest.approx(LEFT + 0.75 * (WIDTH - LEFT - RIGHT), abs=0.06)
    assert [tick.text for tick in plot.x_ticks] == ["0", "0.25", "0.5", "0.75", "1"]


def test_without_kept_tasks_there_is_no_plot() -> None:
    assert trade_off(documents.not_protected()) is None
    page = read_page(write_html(documents.not_protected()))
    assert not {"trade-off", "trajectory", "concepts"} & {found.attributes.get("id") for found in page.all("h2")}


def test_a_trajectory_by_hand() -> None:
    (chart,) = trajectories(DOCUMENT)
    assert [tick.text for tick in chart.x_ticks] == ["100", "50", "0"]
    assert [tick.text for tick in chart.y_ticks] == ["50 %", "60 %", "70 %", "80 %", "90 %"]
    down = {line.kind: [float(point.split(",")[1]) for point in line.points.split()] for line in chart.lines}
    bottom = CHART_HEIGHT - CHART_BOTTOM
    assert down["test"] == [bottom, (bottom + CHART_TOP) / 2, CHART_TOP]  # 50, 70, 90 %
    assert down["train"] == sorted(down["train"])  # 90, 85, 80 %: the mean error grows
    assert trajectories(documents.protected()) == ()


def test_all_reports_say_what_the_new_victims_found() -> None:
    page = read_page(write_html(DOCUMENT))
    assert {"trade-off", "trajectory", "concepts"} <= {found.attributes.get("id") for found in page.all("h2")}
    sentences = (
        "forgotten of what is protected 0.85, learned of what is kept (gender, hat) 0.90",
        "learned after each release, by the share that is protected: 0.00 at 100 %, 0.50 at 50 %, 1.00 at 0 %",
        "gender through 12 concepts 60.0 %, with 8 residual vectors 80.0 %; learned through the concepts alone 0.25; "
        "concept utilisation efficiency 0.75, with the vectors 0.50",
        "epoch 2 of 4 by validation",
    )
    written = write_markdown(DOCUMENT).replace("\\", "")
    for sentence in sentences:
        assert sentence in written
    shown = " ".join(page.text.split())
    assert sentences[1] in shown
    assert sentences[3] in shown
