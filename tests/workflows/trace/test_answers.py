"""Tables of answers: what is understood, and every fault with its row."""

from pathlib import Path

import numpy as np
import pytest

from mtlue_cli.errors import InputError
from mtlue_cli.workflows.trace.answers import Answers, Renamed, as_scores, of_one_column, read_answers
from mtlue_cli.workflows.trace.sealed import Probe, SealedAnswers

FILES = ("aa.png", "bb.png", "cc.png")
TASKS = {"age": ("young", "old", "none"), "round": ("0", "1")}


@pytest.fixture
def sealed() -> SealedAnswers:
    probes = tuple(Probe(name, "0" * 64, "x.jpg", 0, 0, 8, {"age": "old"}, ("age",)) for name in FILES)
    return SealedAnswers("1" * 64, "", "0" * 64, "f", "0" * 64, 8, TASKS, 1, 2, 1, probes)


def read(tmp_path: Path, sealed: SealedAnswers, text: str, *maps: str, unknown: bool = False) -> Answers:
    path = tmp_path / "answers.csv"
    path.write_text(text)
    return read_answers(path, sealed, Renamed.read(maps, sealed.tasks), unknown_names=unknown)


def faults(tmp_path: Path, sealed: SealedAnswers, text: str, *maps: str) -> tuple[str, ...]:
    with pytest.raises(InputError) as found:
        read(tmp_path, sealed, text, *maps)
    return found.value.faults


def test_labels_in_any_order_and_below_any_folder(tmp_path: Path, sealed: SealedAnswers) -> None:
    found = read(tmp_path, sealed, "image,age,round\nout/cc.png,none,1\naa.png,young,0\nx/bb.png,old,1\n")
    assert found.tasks["age"].labels.tolist() == [0, 1, 2]
    assert found.tasks["round"].labels.tolist() == [0, 1, 1]
    assert found.tasks["age"].scores is None


def test_a_task_that_is_not_answered_is_said_so(tmp_path: Path, sealed: SealedAnswers) -> None:
    found = read(tmp_path, sealed, "file,round,note\naa.png,0,a\nbb.png,1,b\ncc.png,0,c\n")
    assert list(found.tasks) == ["round"]
    assert "task age: not answered" in found.notes
    assert "columns that are not used: 'note'" in found.notes


def test_every_fault_is_found_with_its_row(tmp_path: Path, sealed: SealedAnswers) -> None:
    text = "file,age\naa.png,adult\naa.png,old\nzz.png,old\nbb.png,\nextra,old,1\n"
    assert set(faults(tmp_path, sealed, text)) == {
        "row 3: aa.png stands in row 2 already",
        "row 4: 'zz.png' is not a probe",
        "row 6: 3 cells, expected 2",
        "cc.png: has no row",
        "row 2: age is 'adult', expected 'young', 'old', 'none'",
        "row 5: age is empty, expected 'young', 'old', 'none'",
    }


def test_tables_that_are_none(tmp_path: Path, sealed: SealedAnswers) -> None:
    with pytest.raises(InputError, match="no file column"):
        read(tmp_path, sealed, "name,age\naa.png,old\n")
    with pytest.raises(InputError, match="two columns 'age'"):
        read(tmp_path, sealed, "file,age,age\naa.png,old,old\n")
    assert faults(tmp_path, sealed, "file,note\naa.png,1\nbb.png,1\ncc.png,1\n") == (
        "no column is a task: expected 'age', 'round', or scores such as task:class",
    )


def test_scores_are_probabilities_or_logits(tmp_path: Path, sealed: SealedAnswers) -> None:
    header = "file,age:none,age:young,age:old\n"
    found = read(tmp_path, sealed, header + "aa.png,.1,.8,.1\nbb.png,.2,.2,.6\ncc.png,.9,.05,.05\n").tasks["age"]
    assert found.labels.tolist() == [0, 1, 2]
    assert found.scores is not None
    assert np.exp(found.scores[0]) == pytest.approx([0.8, 0.1, 0.1])
    logits = read(tmp_path, sealed, header + "aa.png,-1,3,0\nbb.png,0,0,4\ncc.png,9,0,0\n")
    assert logits.tasks["age"].labels.tolist() == [0, 1, 2]
    assert "task age: scores are logits, with a softmax" in logits.notes


def test_one_score_column_is_enough_for_two_classes(tmp_path: Path, sealed: SealedAnswers) -> None:
    for name, expected in (("1", [0, 1, 1]), ("0", [1, 0, 0])):
        found = read(tmp_path, sealed, f"file,round:{name}\naa.png,.1\nbb.png,.9\ncc.png,.6\n").tasks["round"]
        assert found.labels.tolist() == expected


def test_scores_that_are_not_complete_or_no_numbers(tmp_path: Path, sealed: SealedAnswers) -> None:
    rows = "aa.png,1,2\nbb.png,1,2\ncc.png,1,nan\n"
    assert faults(tmp_path, sealed, f"file,age:old,age:young\n{rows}") == ("columns of age: no scores of 'none'",)
    assert faults(tmp_path, sealed, f"file,round:0,round:1\n{rows}") == ("row 4: round:1 is 'nan', expected a number",)
    assert "'odd' is no class" in faults(tmp_path, sealed, f"file,age:odd,age:old\n{rows}")[0]


def test_other_names_are_mapped(tmp_path: Path, sealed: SealedAnswers) -> None:
    text = "file,age,round\naa.png,A,no\nbb.png,old,yes\ncc.png,none,no\n"
    found = read(tmp_path, sealed, text, "age:A=young", "no=0", "yes=1")
    assert found.tasks["age"].labels.tolist() == [0, 1, 2]
    assert found.tasks["round"].labels.tolist() == [0, 1, 0]
    with pytest.raises(InputError) as wrong:
        Renamed.read(["A", "A=nothing"], sealed.tasks)
    assert len(wrong.value.faults) == 2


def test_unknown_names_are_taken_as_they_are(tmp_path: Path, sealed: SealedAnswers) -> None:
    found = read(tmp_path, sealed, "file,age\naa.png,q\nbb.png,p\ncc.png,q\n", unknown=True).tasks["age"]
    assert found.names == ("p", "q")
    assert found.labels.tolist() == [1, 0, 1]


def test_one_score_column_of_an_unknown_name_says_both(tmp_path: Path, sealed: SealedAnswers) -> None:
    found = read(tmp_path, sealed, "file,round:x\naa.png,0.9\nbb.png,0.2\ncc.png,0.8\n", unknown=True).tasks["round"]
    assert found.names == ("not x", "x")
    assert found.labels.tolist() == [1, 0, 1]


def test_outputs_of_one_column() -> None:
    scores, words = of_one_column(np.array([0.25, 0.75]))
    assert np.exp(scores) == pytest.approx(np.array([[0.75, 0.25], [0.25, 0.75]]))
    assert "probability" in words
    scores, words = of_one_column(np.array([-2.0, 800.0]))
    assert scores.argmax(axis=1).tolist() == [0, 1]
    assert np.isfinite(scores).all()
    assert "sigmoid" in words
    assert np.isfinite(as_scores(np.array([[1000.0, -1000.0]]))[0]).all()


def test_names_that_were_mapped_are_reported() -> None:
    renamed = Renamed.read(["old=young", "age:new=old"], {"age": ("young", "old")})
    assert renamed.notes() == ("classes were named by --map: age:new=old, age:old=young",)
    assert Renamed().notes() == ()
