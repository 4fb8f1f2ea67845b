"""The initial patterns: a simplex within a task, orthogonal between tasks, mirror-symmetric."""

import pytest
import torch

from mtlue_cli.generator.label_embedding import initial_patterns


def cosines(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    unit = [torch.nn.functional.normalize(maps.flatten(1), dim=1) for maps in (first, second)]
    return unit[0] @ unit[1].T


@pytest.fixture(scope="module")
def patterns() -> list[torch.Tensor]:
    return initial_patterns(
        [[1 / 9] * 9, [0.2] * 5, [0.5] * 2], channels=3, grid=9, rng=torch.Generator().manual_seed(0)
    )


@pytest.mark.parametrize("task", [0, 1, 2])
def test_classes_of_a_task_form_a_simplex(patterns: list[torch.Tensor], task: int) -> None:
    count = len(patterns[task])
    between = cosines(patterns[task], patterns[task])[~torch.eye(count, dtype=torch.bool)]
    assert torch.allclose(between, torch.full_like(between, -1 / (count - 1)), atol=1e-4)


def test_tasks_are_orthogonal(patterns: list[torch.Tensor]) -> None:
    assert cosines(patterns[0], patterns[1]).abs().max() < 1e-4
    assert cosines(patterns[1], patterns[2]).abs().max() < 1e-4


def test_patterns_are_symmetric_and_of_unit_variance(patterns: list[torch.Tensor]) -> None:
    for maps in patterns:
        assert torch.allclose(maps, maps.flip(-1), atol=1e-6)
        assert torch.allclose(maps.flatten(1).square().mean(dim=1), torch.ones(len(maps)), atol=1e-4)


def test_frequent_classes_carry_little_and_rare_ones_much() -> None:
    priors = [[0.98, 0.02], [0.5, 0.5], [0.7, 0.2, 0.1]]
    patterns = initial_patterns(priors, channels=3, grid=9, rng=torch.Generator().manual_seed(0))
    for shares, maps in zip(priors, patterns, strict=True):
        mean = (torch.tensor(shares).view(-1, 1, 1, 1) * maps).sum(dim=0)
        assert mean.abs().max() < 1e-5
    frequent, rare = patterns[0].flatten(1).norm(dim=1)
    assert rare / frequent == pytest.approx(49, rel=1e-3)
    # Drawn independently by these shares, the sum over the tasks by the root of their number has unit variance.
    rng = torch.Generator().manual_seed(1)
    drawn = [torch.multinomial(torch.tensor(shares), 4000, replacement=True, generator=rng) for shares in priors]
    summed = sum(maps[index] for maps, index in zip(patterns, drawn, strict=True)) / len(priors) ** 0.5
    assert isinstance(summed, torch.Tensor)
    assert summed.square().mean().item() == pytest.approx(1.0, rel=0.05)


def test_more_classes_than_dimensions_stay_finite_and_distinct() -> None:
    (maps,) = initial_patterns([[1 / 200] * 200], channels=3, grid=9, rng=torch.Generator().manual_seed(1))
    assert maps.isfinite().all()
    between = cosines(maps, maps)[~torch.eye(200, dtype=torch.bool)]
    assert between.max() < 0.6
