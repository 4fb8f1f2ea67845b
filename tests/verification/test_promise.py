from pathlib import Path

import pytest

from mtlue_cli.choices import ImageFormat, TaskKind
from mtlue_cli.errors import InputError
from mtlue_cli.release.records import FOLDER, RunRecord, write_run
from mtlue_cli.tasks.spec import Task, TaskSet
from mtlue_cli.verification.promise import promised, promised_by_release, refuse_unkept

LABELS = TaskSet(tuple(Task(name, TaskKind.BINARY, ("0", "1")) for name in ("a", "b", "c")))


def test_a_release_promises_what_its_run_record_says(tmp_path: Path) -> None:
    run = RunRecord(4, "w", "0", ("c", "a"), ImageFormat.PNG, keep_metadata=False, complete=True)
    write_run(tmp_path, run)
    promise = promised_by_release(tmp_path, LABELS)
    assert (promise.epsilon, promise.tasks) == (4, ("a", "c"))
    assert promise.notes == ("not protected by design and left out: b",)


def test_a_release_without_records_is_held_to_protect_everything(tmp_path: Path) -> None:
    promise = promised_by_release(tmp_path, LABELS)
    assert promise.tasks == ("a", "b", "c")
    assert promise.is_assumed
    assert promise.measured(None).epsilon == 8
    assert promise.measured(15.2).epsilon == 16
    assert promise.measured(200.0).epsilon == 64
    assert "16/255, since the largest measured change is 15.2/255" in promise.measured(15.2).notes[0]
    stated = promised(4, ["a"], LABELS)
    assert stated.measured(15.2) is stated


def test_kept_columns_are_learned_and_not_judged(tmp_path: Path) -> None:
    run = RunRecord(8, "w", "0", ("a",), ImageFormat.PNG, keep_metadata=False, complete=True, keep=("b", "gone"))
    write_run(tmp_path, run)
    promise = promised_by_release(tmp_path, LABELS)
    assert (promise.tasks, promise.kept) == (("a",), ("b",))
    assert promise.notes == (
        "not protected by design and left out: c",
        "kept useful by design, so learned too and not judged: b",
    )
    assert "keep" not in RunRecord(8, "w", "0", ("a",), ImageFormat.PNG, keep_metadata=False).to_json()


def test_columns_to_keep_can_be_named(tmp_path: Path) -> None:
    assert promised_by_release(tmp_path, LABELS, keep=("b",)).tasks == ("a", "c")
    run = RunRecord(8, "w", "0", ("a",), ImageFormat.PNG, keep_metadata=False, complete=True, keep=("b",))
    write_run(tmp_path, run)
    promise = promised_by_release(tmp_path, LABELS, keep=("c",))
    assert (promise.tasks, promise.kept) == (("a",), ("c",))
    refuse_unkept(("c",), promise, LABELS)
    with pytest.raises(InputError, match="--keep cannot be measured") as caught:
        refuse_unkept(("a", "c", "x"), promise, LABELS)
    assert caught.value.faults == ("a is protected", "no label column is called x")


def test_a_promise_about_no_column_is_an_error() -> None:
    with pytest.raises(InputError, match="no label column is a protected task"):
        promised(8, ["other"], LABELS)


def test_a_protected_task_without_a_column_is_named() -> None:
    assert promised(8, ["a", "gone", "b", "lost", "c"], LABELS).notes == (
        "protected, but not measured, since the labels have no such column: gone, lost",
    )


def test_columns_that_cannot_be_learned_are_left_out_and_named(tmp_path: Path) -> None:
    constant = Task("d", TaskKind.BINARY, ("same",))
    identifier = Task("id", TaskKind.CATEGORICAL, tuple(str(number) for number in range(2000)))
    promise = promised_by_release(tmp_path, TaskSet((*LABELS, constant, identifier)))
    assert promise.tasks == ("a", "b", "c")
    assert "not measured: column 'd' holds only one class" in promise.notes[0]
    assert "not measured: column 'id' holds 2000 distinct values" in promise.notes[1]
    with pytest.raises(InputError, match="no protected task can be measured") as caught:
        promised(8, ["d"], TaskSet((constant,)))
    assert "only one class" in caught.value.faults[0]


def test_a_manifest_that_cannot_be_read_leaves_the_promise_to_the_audit(tmp_path: Path) -> None:
    (tmp_path / FOLDER).mkdir()
    (tmp_path / FOLDER / "run.json").write_text("{")
    assert promised_by_release(tmp_path, LABELS).tasks == ("a", "b", "c")
