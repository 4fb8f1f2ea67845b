"""Masked task losses and shifted labels, by hand."""

import math

import pytest
import torch

from mtlue_cli.choices import TaskKind
from mtlue_cli.tasks.losses import count_correct, mean_loss, shifted_labels, task_losses
from mtlue_cli.tasks.spec import UNLABELLED, Task, TaskSet

TASKS = TaskSet((Task("five", TaskKind.CATEGORICAL, tuple("abcde")), Task("two", TaskKind.BINARY, ("no", "yes"))))


def test_labels_shift_by_half_the_classes() -> None:
    shifted = shifted_labels({"five": torch.tensor([0, 2, 4, UNLABELLED]), "two": torch.tensor([0, 1, 0, 1])}, TASKS)
    assert shifted["five"].tolist() == [2, 4, 1, UNLABELLED]
    assert shifted["two"].tolist() == [1, 0, 1, 0]


def test_no_class_shifts_onto_itself() -> None:
    for count in range(2, 12):
        tasks = TaskSet((Task("t", TaskKind.CATEGORICAL, tuple(str(index) for index in range(count))),))
        index = torch.arange(count)
        assert (shifted_labels({"t": index}, tasks)["t"] != index).all()


def test_unlabelled_cells_are_masked() -> None:
    logits = {"five": torch.zeros(3, 5), "two": torch.tensor([[0.0, 0.0], [50.0, -50.0], [-50.0, 50.0]])}
    labels = {"five": torch.tensor([1, UNLABELLED, UNLABELLED]), "two": torch.tensor([UNLABELLED, 0, 0])}
    losses = task_losses(logits, labels, TASKS)
    assert losses["five"].item() == pytest.approx(math.log(5))
    assert losses["two"].item() == pytest.approx(50.0)
    assert mean_loss(losses).item() == pytest.approx((math.log(5) + 50) / 2)


def test_a_task_without_labels_gives_zero_and_no_gradient() -> None:
    logits = {"five": torch.zeros(2, 5, requires_grad=True), "two": torch.zeros(2, 2, requires_grad=True)}
    labels = {"five": torch.full((2,), UNLABELLED), "two": torch.tensor([0, 1])}
    mean_loss(task_losses(logits, labels, TASKS)).backward()  # type: ignore[no-untyped-call]
    assert logits["five"].grad is not None
    assert logits["five"].grad.abs().sum() == 0
    assert logits["two"].grad is not None
    assert logits["two"].grad.abs().sum() > 0


def test_counts_leave_unlabelled_cells_out() -> None:
    logits = {"five": torch.eye(5)[:3], "two": torch.tensor([[1.0, 0.0]] * 3)}
    labels = {"five": torch.tensor([0, 4, UNLABELLED]), "two": torch.tensor([0, 0, 1])}
    assert count_correct(logits, labels, TASKS) == {"five": (1, 2), "two": (2, 3)}
