"""Every figure against a value worked out by hand."""

import math

import pytest
import torch

from mtlue_cli.choices import TaskKind
from mtlue_cli.metrics.dense import (
    beats_floor,
    dense_floor,
    dense_scores,
    learned_fraction,
    lower_is_better,
    main_metric,
)
from mtlue_cli.tasks.spec import Task, numbered_classes

MASK = Task("mask", TaskKind.SEGMENTATION, numbered_classes(4), ignore=(9,))
FAR = Task("far", TaskKind.DEPTH, ())
FACING = Task("facing", TaskKind.NORMALS, ())


def logits(classes: list[list[int]]) -> torch.Tensor:
    return torch.nn.functional.one_hot(torch.tensor([classes]), 4).permute(0, 3, 1, 2).float()


def turned(degrees: list[float]) -> torch.Tensor:
    """``(1, 3, 1, N)`` unit vectors so many degrees from z."""
    angles = torch.tensor(degrees, dtype=torch.float64).deg2rad()
    return torch.stack([angles.sin(), torch.zeros_like(angles), angles.cos()]).view(1, 3, 1, -1).float()


def test_intersection_over_union_is_the_mean_over_the_classes_that_occur() -> None:
    labels = torch.tensor([[[0, 0, 0, 1], [1, 1, -1, -1]]])
    found = dense_scores(logits([[0, 0, 1, 1], [1, 2, 3, 3]]), labels, MASK)
    # Class 0: 2 of 3. Class 1: 2 of 4. Class 2: 0 of 1. Class 3 stands where nothing is labelled.
    assert found["miou"] == pytest.approx((2 / 3 + 2 / 4 + 0) / 3)
    assert found["pixel_accuracy"] == pytest.approx(4 / 6)


def test_depth_errors_leave_out_what_was_not_measured() -> None:
    labels = torch.tensor([[[[2.0, 4.0, 0.0, 1.0]]]])
    found = dense_scores(torch.tensor([[[[3.0, 4.0, 99.0, 0.5]]]]), labels, FAR)
    assert found == pytest.approx({"absolute_error": 1.5 / 3, "relative_error": (0.5 + 0 + 0.5) / 3})


def test_angles_and_the_shares_within_them() -> None:
    labels = turned([0.0] * 6)
    labels[..., 5] = 0
    found = dense_scores(turned([0, 10, 20, 28, 60, 0]) * 7, labels, FACING)
    assert found == pytest.approx(
        {"mean_angle": 118 / 5, "median_angle": 20, "within_11.25": 0.4, "within_22.5": 0.6, "within_30": 0.8}, abs=1e-4
    )


def test_small_angles_are_not_lost_in_the_cosine() -> None:
    found = dense_scores(turned([0.001] * 3), turned([0.0] * 3), FACING)
    assert found["mean_angle"] == pytest.approx(0.001, rel=1e-3)


def test_a_prediction_without_direction_is_a_right_angle_off() -> None:
    assert dense_scores(torch.zeros(1, 3, 1, 2), turned([0.0, 40.0]), FACING)["mean_angle"] == 90


@pytest.mark.parametrize(
    ("task", "labels"),
    [(MASK, torch.full((1, 2, 2), -1)), (FAR, torch.zeros(1, 1, 2, 2)), (FACING, torch.zeros(1, 3, 2, 2))],
    ids=["mask", "far", "facing"],
)
def test_nothing_labelled_is_reported(task: Task, labels: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="has no labelled pixel"):
        dense_scores(torch.ones(1, task.channels, 2, 2), labels, task)
    with pytest.raises(ValueError, match="has no labelled pixel"):
        dense_floor(labels, torch.ones_like(labels), task)


def test_the_floors_are_constants_of_the_training_labels() -> None:
    train = torch.tensor([[[0, 1, 1, -1]]], dtype=torch.int16)
    test = torch.tensor([[[1, 0, 0, 2]]], dtype=torch.int16)
    assert dense_floor(train, test, MASK) == pytest.approx({"miou": 0.25 / 3, "pixel_accuracy": 0.25})
    depth = dense_floor(torch.tensor([[[[1.0, 2.0, 9.0, 0.0]]]]), torch.tensor([[[[4.0, 2.0, 0.0, 0.0]]]]), FAR)
    assert depth == pytest.approx({"absolute_error": 1.0, "relative_error": 0.25})
    normals = dense_floor(turned([-30, 30]).half(), turned([45, -15]).half(), FACING)
    assert normals["mean_angle"] == pytest.approx(30, abs=0.1)


def test_a_floor_for_each_place_knows_where_things_usually_are() -> None:
    train = torch.tensor([[[0, 1]], [[0, 1]], [[1, -1]]])
    test = torch.tensor([[[0, 1]]])
    assert dense_floor(train, test, MASK, per_place=True)["pixel_accuracy"] == 1
    assert dense_floor(train, test, MASK)["pixel_accuracy"] == 0.5
    train_depth = torch.tensor([[[[1.0, 5.0, 0.0]]], [[[1.0, 7.0, 0.0]]], [[[1.0, 6.0, 0.0]]]])
    found = dense_floor(train_depth, torch.tensor([[[[1.0, 6.0, 5.0]]]]), FAR, per_place=True)
    # Where nothing was measured in training, the median of all places stands in: 1.
    assert found["absolute_error"] == pytest.approx((0 + 0 + 4) / 3, abs=1e-6)
    facing = dense_floor(turned([0, 60]), turned([0, 60]), FACING, per_place=True)
    assert facing["mean_angle"] == pytest.approx(0, abs=1e-4)


def test_no_constant_beats_the_median_in_absolute_error() -> None:
    rng = torch.Generator().manual_seed(0)
    labels = torch.rand((2, 1, 9, 9), generator=rng) * 5 + 0.5
    floor = dense_floor(labels, labels, FAR)["absolute_error"]
    others = [dense_scores(torch.full_like(labels, step / 10), labels, FAR)["absolute_error"] for step in range(60)]
    assert floor <= min(others) + 1e-6


def test_what_leads_and_which_way_is_better() -> None:
    assert [main_metric(task) for task in (MASK, FAR, FACING)] == ["miou", "absolute_error", "mean_angle"]
    scores = {
        **dense_scores(logits([[0]]), torch.tensor([[[0]]]), MASK),
        **dense_scores(torch.ones(1, 1, 1, 1), torch.ones(1, 1, 1, 1), FAR),
        **dense_scores(turned([0.0]), turned([0.0]), FACING),
    }
    perfect = {name: 0 if lower_is_better(name) else 1 for name in scores}
    assert scores == pytest.approx(perfect, abs=1e-6)
    assert sum(perfect.values()) == 5


@pytest.mark.parametrize(
    ("protected", "clean", "floor", "expected"),
    [(0.3, 0.5, 0.1, 0.5), (30.0, 20.0, 40.0, 0.5), (45.0, 20.0, 40.0, -0.25), (20.0, 20.0, 40.0, 1.0)],
)
def test_the_learned_fraction_works_for_errors_too(
    protected: float, clean: float, floor: float, expected: float
) -> None:
    assert math.isclose(learned_fraction(protected, clean, floor), expected)


@pytest.mark.parametrize(
    ("clean", "floor", "metric", "expected"),
    [
        (0.12, 0.1, "miou", True),
        (0.119, 0.1, "miou", False),
        (0.98, 1.0, "absolute_error", True),
        (0.985, 1.0, "mean_angle", False),
    ],
)
def test_a_clean_victim_must_be_clear_of_the_floor(clean: float, floor: float, metric: str, expected: bool) -> None:
    assert beats_floor(clean, floor, metric) is expected
