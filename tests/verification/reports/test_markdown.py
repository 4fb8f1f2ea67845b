import re

import pytest
from msgspec.structs import replace

from mtlue_cli.verification.reports.markdown import MOST_BYTES, MOST_NAME, write_markdown
from mtlue_cli.verification.reports.wording import NOTHING
from mtlue_cli.verification.tiers import NotTested
from mtlue_cli.verification.verdict import Verdict
from tests.verification.reports import documents


def _rows(text: str, title: str) -> list[list[str]]:
    """Cells of the table below a heading, header and rule included; a pipe that is escaped is no border."""
    section = text.split(f"### {title}\n", 1)[1].split("\n### ", 1)[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


def test_the_verdict_comes_first_in_word_and_sign() -> None:
    assert write_markdown(documents.protected()).startswith("## ✅ mtlue verify: protected\n\na victim learns 0.14")
    assert write_markdown(documents.not_protected()).startswith("## ❌ mtlue verify: not protected\n")
    assert write_markdown(documents.inconclusive()).startswith("## ⚠️ mtlue verify: inconclusive\n")


def test_a_row_a_condition_worst_first() -> None:
    rows = _rows(write_markdown(documents.not_protected()), "Conditions")
    assert [row[0].split(" (")[0] for row in rows[2:]] == [
        "**resnet18 + regression**: Label regression",
        "resnet18 + jpeg-10: JPEG, quality 10",
        "resnet18 + none: As released",
        "resnet18 + noise: Noise of the same size",
        "resnet18: Clean images",
    ]
    # Of the learned fractions 0.2, 0.71 and 0.95 with equal floors the average is 0.62; the best epoch is 0.05 lower.
    assert rows[2][2:5] == ["0.62 (0.56 to 0.68)", "0.62", "0.57"]
    assert rows[2][8:] == ["gender (0.95)", "❌ above"]
    assert rows[3][9] == "✅ below"
    assert rows[5][9] == rows[6][9] == NOTHING


def test_the_interval_over_test_images_decides_where_confidence_is_asked_for() -> None:
    text = write_markdown(documents.undecided())
    assert "- Gate: the 95 % interval of no condition's average learned fraction may reach above 0.25 (0" in text
    assert "- Worst condition: **small, learned 0.20 (0.05 to 0.37)**\n" in text
    row = _rows(text, "Conditions")[2]
    assert (row[2], row[9]) == ("0.20 (0.05 to 0.37)", "⚠️ undecided")


def test_the_best_epoch_ranks_and_is_reported_where_it_decides() -> None:
    text = write_markdown(documents.stopped_early())
    assert "- Worst condition: **small, learned 0.75 (best epoch)**\n" in text
    assert "recovered under: small (0.75, best epoch)." in text
    rows = _rows(text, "Conditions")[2:]
    assert [row[0].split(" (")[0] for row in rows] == ["**small**", "resnet18 + none", "resnet18 + noise", "resnet18"]
    assert rows[0][2:6] == ["0.75 (best epoch)", "0.13", "0.75", "80.0"]
    assert rows[0][8:] == ["age (1.03, best epoch)", "❌ above"]
    assert rows[1][2:6] == ["0.20", "0.20", "0.15", "58.0"]
    # A control and a reference: the last epoch, although the best is higher.
    assert [row[2:5] for row in rows[2:]] == [["0.90", "0.90", "0.97"], ["1.00", "1.00", "1.07"]]
    assert rows[2][8] == "age (0.90)"
    cells = {row[0]: row[1:] for row in _rows(text, "Learned fraction by task")[2:]}
    assert cells == {
        "age": ["**1.03** (best epoch)", "0.20", "**0.90**"],
        "race": ["**0.47** (best epoch)", "0.20", NOTHING],
        "glasses": ["(0.30) (best epoch)", NOTHING, NOTHING],
    }


def test_without_a_best_epoch_the_last_one_decides() -> None:
    text = write_markdown(documents.other_metric())
    rows = _rows(text, "Conditions")
    assert rows[0][5] == "balanced-accuracy %"
    assert rows[2][2:6] == ["0.40", "0.40", NOTHING, "66.0"]


def test_tasks_by_conditions() -> None:
    rows = _rows(write_markdown(documents.protected()), "Learned fraction by task")
    assert rows[0] == ["task", "resnet18 + jpeg-10", "resnet18 + none", "resnet18 + noise"]
    cells = {row[0]: row[1:] for row in rows[2:]}
    assert cells == {
        "age": ["-0.02", "-0.40", "**0.97**"],
        "race": ["**0.30**", "0.10", "**0.99**"],
        "gender": [NOTHING, NOTHING, NOTHING],
        "glasses": ["(1.02)", "(0.90)", NOTHING],
    }


def test_more_conditions_than_tasks_stand_downward() -> None:
    rows = _rows(write_markdown(documents.large(2, 5)), "Learned fraction by task")
    assert rows[0] == ["condition", "attribute 0", "attribute 1"]
    assert len(rows) == 7


def test_what_an_attacker_recovers_by_half_is_named() -> None:
    text = write_markdown(documents.not_protected())
    assert "recovered under: resnet18 + regression (0.62)." in text
    assert "recovered under" not in write_markdown(documents.protected())


def test_warning_probes_notes_and_what_was_not_tested_are_there() -> None:
    text = write_markdown(documents.protected())
    assert "**Warning:** taken alone, a victim learns more than 0.25 of: race (0.30)" in text
    assert "- Linear detector: auroc 0.987, accuracy 0.951" in text
    assert "- vit-b-16: left out by --tier smoke" in text
    assert "3 images are in quarantine" in text
    assert "Worst condition: **resnet18 + jpeg-10, learned 0.14**" in text
    assert "```text\nmtlue verify faces --labels" in text
    bare = write_markdown(documents.generator())
    assert "### Not tested" not in bare
    assert "### Audit" not in bare


def test_flip_is_reported_where_it_was_measured() -> None:
    assert "- FLIP: 0.150 (mean of 24 images; 0 = identical" in write_markdown(documents.protected())
    assert "FLIP" not in write_markdown(documents.failed_audit())


def test_how_to_trace_a_keyed_release_is_told() -> None:
    assert "- Was a model trained on this release? mtlue trace probes" in write_markdown(documents.protected())
    assert "mtlue trace" not in write_markdown(documents.generator())


def test_audit_faults_show_without_any_condition() -> None:
    text = write_markdown(documents.failed_audit(2))
    assert "- ❌ 00001.png: its bytes are not those of the manifest" in text
    assert "### Conditions" not in text


def test_many_audit_faults_are_counted() -> None:
    text = write_markdown(documents.failed_audit(5000))
    listed = text.count("its bytes are not")
    assert 100 < listed < 5000
    assert f"{5000 - listed:,} more faults left out here" in text


def test_names_form_no_markup() -> None:
    document = documents.hostile()
    text = write_markdown(document)
    outside = text.split("### Command", 1)[0]
    assert not re.search(r"(?<!\\)<(?!/?details|/?summary)", outside)
    assert not re.search(r"(?<!\\)`", outside)
    assert "\x00" not in text
    for row in _rows(text, "Conditions"):
        assert len(row) == 10
    matrix = _rows(text, "Learned fraction by task")
    assert {len(row) for row in matrix} == {7}
    assert "a \\& b \\| c" in {row[0] for row in matrix}


def test_the_command_stays_in_its_fence() -> None:
    text = write_markdown(documents.hostile())
    fence, body = re.findall(r"^(`{3,})text\n(.*?)\n\1$", text, re.MULTILINE | re.DOTALL)[0]
    assert fence == "`````"
    assert body.endswith("```` </pre>")


@pytest.mark.parametrize(
    ("name", "tasks"),
    [("task {}", 200), ("\N{GRINNING FACE}" * 90 + "{}", 40), ("|" * 90 + "{}", 40)],
    ids=["many", "wide", "escaped"],
)
def test_it_always_fits_a_step_summary(name: str, tasks: int) -> None:
    document = replace(
        documents.large(tasks, 60, name, epochs=0),
        **dict.fromkeys(("reason", "warning", "subject"), name * 100),
        command_line=name * 1000,
        notes=(name,) * 3000,
        not_tested=(NotTested(name, name),) * 3000,
    )
    text = write_markdown(document)
    assert len(text.encode()) < MOST_BYTES
    assert ("more notes left out here; the JSON result holds all" in text) == (len(name) > 90)


def test_a_table_that_is_too_long_is_shortened_and_says_so() -> None:
    document = documents.large(3, 3, epochs=0)
    text = write_markdown(replace(document, conditions=document.conditions * 600))
    rows = len(_rows(text, "Conditions")) - 2
    assert rows < 2400
    assert f"{2400 - rows:,} more conditions left out here" in text


def test_long_names_are_cut() -> None:
    document = documents.document(
        Verdict.PROTECTED, "fine", [documents.condition("none", [documents.task("t" * 500, 0.1)])]
    )
    assert _rows(write_markdown(document), "Learned fraction by task")[2][0] == "t" * (MOST_NAME - 1) + "…"


def test_a_fraction_just_above_the_gate_does_not_read_as_the_gate() -> None:
    made = documents.document(
        Verdict.NOT_PROTECTED, "just", [documents.condition("none", [documents.task("age", 0.2503)])]
    )
    assert _rows(write_markdown(made), "Learned fraction by task")[2][1] == "**0.2503**"
