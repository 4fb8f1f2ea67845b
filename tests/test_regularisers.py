"""Both regularisers against values worked out by hand."""

import math

import pytest
import torch

from mtlue_cli.regularisers import inter_task_similarity, intra_task_similarity


def test_intra_is_the_mean_over_tasks_of_the_mean_cosine() -> None:
    right_angle = torch.tensor([[1.0, 0.0], [0.0, 3.0]])
    opposite = torch.tensor([[2.0, 0.0], [-1.0, 0.0]])
    assert intra_task_similarity({"a": right_angle, "b": opposite}).item() == pytest.approx((0.0 - 1.0) / 2)


def test_intra_counts_every_ordered_pair_once() -> None:
    three = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    assert intra_task_similarity({"a": three}).item() == pytest.approx(1 / 3)


def test_inter_is_the_mean_absolute_cosine_over_pairs_of_different_tasks() -> None:
    first = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    second = torch.tensor([[-1.0, 1.0]])
    assert inter_task_similarity({"a": first, "b": second}).item() == pytest.approx(math.sqrt(0.5))


def test_inter_of_one_task_is_zero() -> None:
    assert inter_task_similarity({"a": torch.rand(3, 4)}).item() == 0.0


def test_descending_on_either_drives_it_to_its_least_value() -> None:
    rng = torch.Generator().manual_seed(0)
    maps = {"a": torch.randn(3, 16, generator=rng), "b": torch.randn(2, 16, generator=rng)}
    for parameter in maps.values():
        parameter.requires_grad_(True)
    optimizer = torch.optim.Adam(list(maps.values()), 0.02)
    for _ in range(400):
        optimizer.zero_grad()
        (intra_task_similarity(maps) + inter_task_similarity(maps)).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    assert intra_task_similarity(maps).item() == pytest.approx((-1 / 2 - 1) / 2, abs=0.02)
    assert inter_task_similarity(maps).item() < 0.05
