import json

import pytest

from mtlue_cli.choices import TaskKind
from mtlue_cli.tasks.spec import Task, TaskSet
from mtlue_cli.verification.verdict import Judgement, Verdict, failed_audit, judge

TASKS = TaskSet(tuple(Task(name, TaskKind.BINARY, ("0", "1")) for name in ("a", "b", "c")))
FLOOR = {"a": 0.5, "b": 0.5, "c": 0.5}
CLEAN = {"a": 0.9, "b": 0.7, "c": 0.51}


def _judge(
    protected: dict[str, float], control: dict[str, float] | None = None, gated: str = "abc", max_learned: float = 0.25
) -> Judgement:
    return judge(TASKS, FLOOR, CLEAN, protected, control, set(gated), max_learned)


def test_the_gate_is_on_the_average() -> None:
    # Means over a and b: floor 0.5, clean 0.8, protected 0.575: fraction 0.25; b alone has 0.5.
    judgement = _judge({"a": 0.55, "b": 0.6, "c": 0.99})
    assert judgement.verdict is Verdict.PROTECTED
    assert judgement.protected is not None
    assert judgement.protected.fraction == pytest.approx(0.25)
    assert judgement.worst is not None
    assert judgement.worst.name == "b"
    assert "0.25" in judgement.reason
    assert "b with 0.50" in judgement.reason


def test_above_the_gate_is_not_protected() -> None:
    assert _judge({"a": 0.56, "b": 0.6, "c": 0.5}).verdict is Verdict.NOT_PROTECTED
    assert _judge({"a": 0.56, "b": 0.6, "c": 0.5}, max_learned=0.3).verdict is Verdict.PROTECTED


def test_inconclusive_tasks_are_shown_without_a_fraction() -> None:
    line = _judge({"a": 0.5, "b": 0.5, "c": 0.9}).tasks[2]
    assert (line.name, line.learned, line.protected) == ("c", None, 0.9)


def test_no_conclusive_task_is_inconclusive() -> None:
    judgement = _judge({"a": 0.5, "b": 0.5, "c": 0.5}, gated="c")
    assert judgement.verdict is Verdict.INCONCLUSIVE
    assert "clean" in judgement.reason


def test_noise_that_protects_makes_the_measurement_unreliable() -> None:
    release = {"a": 0.5, "b": 0.5, "c": 0.5}
    # Noise: mean 0.64 of a and b against 0.8 clean: 0.14 / 0.3 = 0.47; 0.65 gives 0.5.
    judgement = _judge(release, {"a": 0.68, "b": 0.6, "c": 0.5})
    assert judgement.verdict is Verdict.INCONCLUSIVE
    assert "unreliable" in judgement.reason
    assert "0.47" in judgement.reason
    assert _judge(release, {"a": 0.701, "b": 0.6, "c": 0.5}).verdict is Verdict.PROTECTED


def test_tasks_that_the_release_leaves_open_are_not_judged() -> None:
    protected = {"a": 0.5, "b": 0.7, "c": 0.5}
    assert _judge(protected).verdict is Verdict.NOT_PROTECTED
    judgement = _judge(protected, gated="a")
    assert judgement.verdict is Verdict.PROTECTED
    assert judgement.tasks[1].learned == pytest.approx(1.0)
    assert not judgement.tasks[1].gated


def test_an_audit_fault_is_not_protected() -> None:
    judgement = failed_audit(2, 0.25)
    assert judgement.verdict is Verdict.NOT_PROTECTED
    assert "2 faults" in judgement.reason


def test_document_holds_the_figures_of_every_task() -> None:
    document = _judge({"a": 0.55, "b": 0.6, "c": 0.5}, {"a": 0.9, "b": 0.7, "c": 0.5}).to_json()
    assert json.loads(json.dumps(document, allow_nan=False)) == document
    assert document["verdict"] == "protected"
    assert document["tasks"][0] == {
        "task": "a",
        "judged": True,
        "floor": 0.5,
        "accuracy": {"clean": 0.9, "protected": 0.55, "noise": 0.9},
        "learned_fraction": pytest.approx(0.125),
        "noise_learned_fraction": pytest.approx(1.0),
    }
    assert document["average"]["tasks"] == ["a", "b"]


def test_a_task_learned_entirely_is_named_though_the_average_passes() -> None:
    judgement = _judge({"a": 0.1, "b": 0.7, "c": 0.5})
    assert judgement.verdict is Verdict.PROTECTED
    assert judgement.warning == "taken alone, a victim learns more than 0.25 of: b (1.00)"
    document = judgement.to_json()
    assert document["tasks_above_gate"] == ["b"]
    assert document["warning"] == judgement.warning
    at_ease = _judge({"a": 0.1, "b": 0.7, "c": 0.5}, gated="ac")
    assert (at_ease.warning, at_ease.to_json()["tasks_above_gate"]) == (None, [])


def test_judged_tasks_outside_the_average_are_named() -> None:
    assert _judge({"a": 0.5, "b": 0.5, "c": 0.9}).reason.endswith("hardly more than the floor: c")
    assert "hardly more" not in _judge({"a": 0.5, "b": 0.5, "c": 0.9}, gated="ab").reason
