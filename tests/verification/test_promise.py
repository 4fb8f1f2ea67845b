import pytest

from mtlue_cli.choices import TaskKind
from mtlue_cli.errors import InputError
from mtlue_cli.manifest import Manifest, RunRecord
from mtlue_cli.tasks.spec import Task, TaskSet
from mtlue_cli.verification.promise import promised, promised_by_manifest

LABELS = TaskSet(tuple(Task(name, TaskKind.BINARY, ("0", "1")) for name in ("a", "b", "c")))


def test_a_release_promises_what_its_run_record_says() -> None:
    run = RunRecord(4, "w", "0", ("c", "a"), "png", keep_metadata=False, complete=True)
    promise = promised_by_manifest(Manifest(run, (), ()), LABELS)
    assert (promise.epsilon, promise.tasks) == (4, ("a", "c"))
    assert promise.notes == ("not protected by design, shown and not judged: b",)


def test_a_release_without_a_manifest_is_held_to_protect_everything() -> None:
    promise = promised_by_manifest(None, LABELS)
    assert promise.tasks == ("a", "b", "c")
    assert "8/255" in promise.notes[0]


def test_a_promise_about_no_column_is_an_error() -> None:
    with pytest.raises(InputError, match="no label column is a protected task"):
        promised(8, ["other"], LABELS)
