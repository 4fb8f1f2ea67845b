import pytest
import torch

from mtlue_cli.choices import TaskKind
from mtlue_cli.tasks.label_tensors import class_shares
from mtlue_cli.tasks.spec import Task, TaskSet

TASKS = TaskSet((Task("a", TaskKind.CATEGORICAL, ("x", "y", "z")), Task("b", TaskKind.BINARY, ("0", "1"))))


def test_shares_count_labelled_samples_and_one_more_of_every_class() -> None:
    labels = {"a": torch.tensor([0, 0, 1, -1]), "b": torch.tensor([1, 1, 1, 1])}
    shares = class_shares(labels, TASKS)
    assert shares[0] == pytest.approx([3 / 6, 2 / 6, 1 / 6])
    assert shares[1] == pytest.approx([1 / 6, 5 / 6])
