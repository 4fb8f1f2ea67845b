"""Finding weights by path, by name and by labels."""

from dataclasses import replace
from pathlib import Path

import pytest

from mtlue_cli.choices import TaskKind
from mtlue_cli.errors import InputError
from mtlue_cli.generator import shipped
from mtlue_cli.generator.checkpoint import load_checkpoint, save_checkpoint
from mtlue_cli.generator.code_patterns import cells_for
from mtlue_cli.generator.model import PerturbationGenerator
from mtlue_cli.tasks.spec import Task, TaskSet
from tests.generator.test_checkpoint import CONFIG, make_card
from tests.multitask_sample import TASKS

IN_CHECKOUT = shipped.weights_folder()
OTHER = TaskSet((Task("colour", TaskKind.CATEGORICAL, ("red", "violet")),))


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    save_checkpoint(tmp_path / "squares.safetensors", PerturbationGenerator(CONFIG, TASKS), make_card())
    monkeypatch.setattr(shipped, "weights_folder", lambda: tmp_path)
    return tmp_path


def test_a_name_and_a_path_find_the_same_file(folder: Path) -> None:
    expected = folder / "squares.safetensors"
    assert shipped.resolve_weights("squares", TASKS) == expected
    assert shipped.resolve_weights(str(expected), TASKS) == expected


def test_the_default_weights_fit_whatever_the_labels(folder: Path) -> None:
    card = replace(make_card(), tasks=TaskSet(()), universal=True)
    save_checkpoint(folder / "default.safetensors", PerturbationGenerator(CONFIG, None), card)
    for labels in (TASKS, OTHER):
        assert shipped.resolve_weights("default", labels) == folder / "default.safetensors"


def test_labels_with_fewer_classes_are_served(folder: Path) -> None:
    fewer = TaskSet((Task("colour", TaskKind.BINARY, ("blue", "red")), TASKS["bright"]))
    assert shipped.resolve_weights("squares", fewer) == folder / "squares.safetensors"


def test_when_they_do_not_fit_each_differing_column_and_the_next_command_are_named() -> None:
    with pytest.raises(InputError) as caught:
        shipped.resolve_weights("squares", OTHER)
    assert any("violet" in fault for fault in caught.value.faults)
    assert any("'bright' is missing" in fault for fault in caught.value.faults)
    assert "train-generator" in (caught.value.hint or "")


def test_an_unknown_name_lists_what_is_shipped() -> None:
    with pytest.raises(InputError, match="shipped: squares"):
        shipped.resolve_weights("cats", TASKS)


def test_a_checkout_looks_in_its_own_weights_folder() -> None:
    assert Path(__file__).parents[2] / "weights" == IN_CHECKOUT
    assert IN_CHECKOUT.is_dir()


def test_the_default_weights_are_the_closed_form_in_its_coarsest_patterns() -> None:
    loaded = load_checkpoint(IN_CHECKOUT / "default.safetensors")
    assert loaded.card.universal
    assert loaded.card.epsilon == loaded.generator.config.epsilon == 8
    assert not loaded.generator.decoder.draws
    for count, grid in ((1, 7), (28, 7), (29, 9)):
        tasks = TaskSet(tuple(Task(str(number), TaskKind.BINARY, ("no", "yes")) for number in range(count)))
        assert cells_for(tasks, loaded.generator.codes.pattern_grid) == grid


def test_only_the_chosen_tasks_need_their_columns(folder: Path) -> None:
    bright = TASKS.subset(["bright"])
    expected = folder / "squares.safetensors"
    assert shipped.resolve_weights("squares", bright, lambda known: known.subset(["bright"])) == expected
    with pytest.raises(InputError) as caught:
        shipped.resolve_weights("squares", bright, lambda known: known.subset(["colour"]))
    assert any("'colour' is missing" in fault for fault in caught.value.faults)


def test_the_command_that_trains_weights_that_fit_is_named() -> None:
    with pytest.raises(InputError) as caught:
        shipped.resolve_weights("squares", OTHER, command="mtlue train-generator photos")
    assert "mtlue train-generator photos" in (caught.value.hint or "")


def test_shipped_weights_are_known_as_such(folder: Path, tmp_path: Path) -> None:
    assert shipped.is_shipped(folder / "squares.safetensors")
    assert not shipped.is_shipped(tmp_path / "elsewhere" / "squares.safetensors")
