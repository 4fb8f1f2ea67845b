import pytest
import torch

from mtlue_cli.choices import MetricName, TaskKind
from mtlue_cli.metrics.classification import (
    accuracies,
    aurocs,
    balanced_accuracies,
    floors,
)
from mtlue_cli.metrics.dense import beats_floor
from mtlue_cli.tasks.spec import Task, TaskSet

TASKS = TaskSet(
    (
        Task("shape", TaskKind.CATEGORICAL, ("circle", "square", "star")),
        Task("dark", TaskKind.BINARY, ("0", "1")),
    )
)
LABELS = {"shape": torch.tensor([0, 1, 1, 2, -1]), "dark": torch.tensor([1, 1, 1, 0, 1])}


def _logits(predicted: list[int], classes: int) -> torch.Tensor:
    return torch.nn.functional.one_hot(torch.tensor(predicted), classes).float() * 3 - 1


def test_accuracy_counts_labelled_images_only() -> None:
    logits = {"shape": _logits([0, 1, 2, 2, 0], 3), "dark": _logits([1, 1, 0, 1, 1], 2)}
    assert accuracies(logits, LABELS, TASKS) == {"shape": pytest.approx(3 / 4), "dark": pytest.approx(3 / 5)}


def test_floor_is_the_share_of_the_majority_class() -> None:
    assert floors(LABELS, TASKS) == {"shape": pytest.approx(2 / 4), "dark": pytest.approx(4 / 5)}


@pytest.mark.parametrize(
    "measure", [floors, lambda labels, tasks: accuracies({"dark": torch.zeros(2, 2)}, labels, tasks)]
)
def test_a_task_without_labels_is_an_error(measure) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001 - either function
    with pytest.raises(ValueError, match="'dark' has no labelled image"):
        measure({"dark": torch.tensor([-1, -1])}, TASKS.subset(["dark"]))


def test_two_points_above_the_floor_are_conclusive() -> None:
    assert beats_floor(0.52, 0.50, MetricName.ACCURACY.value)
    assert not beats_floor(0.519, 0.50, MetricName.ACCURACY.value)


def test_balanced_accuracy_is_the_mean_of_the_recalls_of_occurring_classes() -> None:
    logits = {"shape": _logits([0, 1, 2, 2, 0], 3), "dark": _logits([1, 1, 0, 1, 1], 2)}
    # shape: recalls 1/1, 1/2, 1/1; dark: class 0 is never recognised, class 1 in 3 of 4 images.
    assert balanced_accuracies(logits, LABELS, TASKS) == {
        "shape": pytest.approx((1 + 0.5 + 1) / 3),
        "dark": pytest.approx((0 + 3 / 4) / 2),
    }
    only_squares = {**LABELS, "shape": torch.tensor([1, 1, 1, 1, -1])}
    assert balanced_accuracies(logits, only_squares, TASKS)["shape"] == pytest.approx(1 / 4)


def test_auroc_by_hand() -> None:
    # dark: scores of class 1 are 0.9, 0.8, 0.3 where it is true and 0.5 where not: two of three pairs are in order.
    shares = torch.tensor([0.9, 0.8, 0.3, 0.5, 0.7])
    dark = torch.stack([1 - shares, shares], dim=1).log()
    labels = {"dark": torch.tensor([1, 1, 1, 0, -1])}
    tasks = TASKS.subset(["dark"])
    assert aurocs({"dark": dark}, labels, tasks) == {"dark": pytest.approx(2 / 3)}
    assert aurocs({"dark": dark}, {"dark": torch.ones(5, dtype=torch.int64)}, tasks) == {"dark": None}


def test_auroc_of_several_classes_is_the_mean_of_one_against_the_rest() -> None:
    tasks = TASKS.subset(["shape"])
    labels = {"shape": torch.tensor([0, 1, 1, 0])}
    shares = torch.tensor([[0.6, 0.3, 0.1], [0.2, 0.7, 0.1], [0.5, 0.4, 0.1], [0.3, 0.5, 0.2]])
    # Class 0: (0.6, 0.3) against (0.2, 0.5): 3 of 4 pairs; class 1: (0.7, 0.4) against (0.3, 0.5): 3 of 4.
    assert aurocs({"shape": shares.log()}, labels, tasks)["shape"] == pytest.approx(0.75)


def test_what_a_constant_guess_reaches_under_each_metric() -> None:
    assert floors(LABELS, TASKS, MetricName.ACCURACY) == floors(LABELS, TASKS)
    assert floors(LABELS, TASKS, MetricName.BALANCED) == {"shape": pytest.approx(1 / 3), "dark": 0.5}
    assert floors(LABELS, TASKS, MetricName.AUROC) == {"shape": 0.5, "dark": 0.5}
