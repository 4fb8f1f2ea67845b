"""The closed form without torch adds what the network would, and is taken only where the network draws nothing."""

from pathlib import Path

import numpy as np
import pytest
import torch

from mtlue_cli.choices import TaskKind
from mtlue_cli.errors import InputError
from mtlue_cli.generator.checkpoint import load_checkpoint, save_checkpoint
from mtlue_cli.generator.closed_form import KEPT, ClosedForm, closed_form
from mtlue_cli.generator.generator import Generator
from mtlue_cli.generator.shipped import find_weights
from mtlue_cli.keys import Key
from mtlue_cli.tasks.spec import Task, TaskSet
from tests import dense_sample
from tests.small_set import TASKS, write_checkpoint

KEY = Key(bytes(range(32)))
MANY = TaskSet(tuple(Task(f"t{index}", TaskKind.BINARY, ("0", "1")) for index in range(40)))
SHARES = {"colour": [0.7, 0.2, 0.1], "round": [0.5, 0.5]}


@pytest.mark.parametrize("tasks", [TASKS, MANY], ids=["few", "many"])
@pytest.mark.parametrize("epsilon", [8, 3])
def test_it_adds_what_the_network_adds_but_for_rounding(tasks: TaskSet, epsilon: int) -> None:
    rng = np.random.default_rng(0)
    labels = {task.name: [int(one) for one in rng.integers(-1, task.num_classes, 8)] for task in tasks}
    labels[tasks.names[-1]] = [0] * 8
    shares = {name: own for name, own in SHARES.items() if name in tasks}
    squares = [rng.integers(0, 256, (3, 72, 72), dtype=np.uint8) for _ in range(8)]
    plain = Generator.load("default", key=KEY, tasks=tasks, shares=shares, device="cpu")
    assert not plain.sees_images
    loaded = load_checkpoint(find_weights("default")).bound(KEY, tasks, shares)
    network = Generator(loaded, torch.device("cpu"))
    assert network.sees_images
    ours, theirs = (np.stack(own.perturb(squares, labels, epsilon)) for own in (plain, network))
    difference = np.abs(ours - theirs)
    assert difference.max() <= 1 / 16
    assert (difference > 0).mean() < 1e-4


def test_an_absent_task_adds_nothing() -> None:
    plain = Generator.load("default", key=KEY, tasks=TASKS)
    square = [np.zeros((3, 72, 72), np.uint8)]
    alone, unlabelled = plain.perturb(square, {"round": [1]}), plain.perturb(square, {"round": [1], "colour": [-1]})
    assert np.array_equal(alone[0], unlabelled[0])
    assert not plain.perturb(square, {"round": [-1]})[0].any()


def test_images_with_the_same_labels_share_what_is_added(tmp_path: Path) -> None:
    form = closed_form(write_checkpoint(tmp_path / "d.safetensors", None), KEY, MANY)
    assert isinstance(form, ClosedForm)
    squares = [np.zeros((3, 16, 16), np.uint8)]
    labels = {name: [0] for name in MANY.names}
    first = form(squares, labels)[0]
    assert form(squares, labels)[0] is first
    assert form(squares, labels, 0.5)[0] is not first
    with pytest.raises(ValueError, match="read-only"):
        first[0] = 1
    for number in range(KEPT):
        form(squares, {name: [number >> index & 1] for index, name in enumerate(MANY.names)}, 2.0)
    again = form(squares, labels)[0]
    assert again is not first
    assert np.array_equal(again, first)


def test_a_network_that_draws_masks_and_damaged_files_have_no_closed_form(tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path / "d.safetensors", None)
    assert closed_form(path, KEY, TASKS) is not None
    assert closed_form(path, None, TASKS) is None
    assert closed_form(path, KEY, dense_sample.TASKS) is None
    assert closed_form(write_checkpoint(tmp_path / "own.safetensors"), KEY, TASKS) is None
    content = bytearray(path.read_bytes())
    content[-4:] = b"\x01\x02\x03\x04"
    (tmp_path / "damaged.safetensors").write_bytes(content)
    assert closed_form(tmp_path / "damaged.safetensors", KEY, TASKS) is None
    loaded = load_checkpoint(path)
    with torch.no_grad():
        assert loaded.generator.decoder.draw.bias is not None
        loaded.generator.decoder.draw.bias[0] = 0.1
    save_checkpoint(tmp_path / "draws.safetensors", loaded.generator, loaded.card)
    assert closed_form(tmp_path / "draws.safetensors", KEY, TASKS) is None


def test_a_device_that_is_not_there_is_refused_all_the_same() -> None:
    with pytest.raises(InputError, match="nowhere"):
        Generator.load("default", key=KEY, tasks=TASKS, device="nowhere")
