"""Each weighting against values worked out by hand, and each of its options."""

import math
from collections.abc import Callable, Sequence
from functools import partial

import pytest
import torch
from torch import Tensor

from mtlue_cli.choices import WeightingName
from mtlue_cli.weightings import (
    DynamicWeightAverage,
    RandomLossWeighting,
    RepresentationWeighting,
    UncertaintyWeighting,
    Weighting,
    excess_mtl,
    torchjd,
)
from tests.weightings.small_network import weighting

ORTHOGONAL = ((2.0, 0.0), (0.0, 1.0))
CONFLICTING = ((1.0, 0.0), (-1.0, 1.0))


def weights_of(made: Weighting, rows: Sequence[Sequence[float]]) -> Tensor:
    """Weights for gradients of a batch of one sample."""
    assert isinstance(made, RepresentationWeighting)
    return made.weights(torch.tensor(rows).unsqueeze(1))


def loss_weights(made: Weighting, *values: float) -> Tensor:
    """The factor of each loss in what is backpropagated."""
    losses = {str(index): torch.tensor(value, requires_grad=True) for index, value in enumerate(values)}
    made.backward(losses, torch.zeros(1, 1))
    return torch.tensor([0.0 if loss.grad is None else loss.grad.item() for loss in losses.values()])


@pytest.mark.parametrize(
    ("name", "rows", "expected"),
    [
        # G = diag(4, 1): each component as large as the smaller, half of each.
        (WeightingName.ALIGNED_MTL, ORTHOGONAL, (0.25, 0.5)),
        # (a, 1 - a) with 4 a^2 + (1 - a)^2 least.
        (WeightingName.MGDA, ORTHOGONAL, (0.2, 0.8)),
        # Inverse lengths, scaled to sum to 1.
        (WeightingName.IMTL_G, ORTHOGONAL, (1 / 3, 2 / 3)),
        # First + half of second; second + first.
        (WeightingName.PCGRAD, CONFLICTING, (2.0, 1.5)),
        # The same projections, averaged.
        (WeightingName.UPGRAD, CONFLICTING, (1.0, 0.75)),
        # 1/2 + radius / 2 for two tasks alike.
        (WeightingName.CAGRAD, ((1.0, 0.0), (0.0, 1.0)), (0.7, 0.7)),
        # g w = w^(-1/2) for g = 4 / 2.5 and 1 / 2.5.
        (WeightingName.FAIRGRAD, ORTHOGONAL, (1.6 ** (-2 / 3), 0.4 ** (-2 / 3))),
        # g w = 1 / w for the same.
        (WeightingName.NASH_MTL, ORTHOGONAL, (1.6 ** (-1 / 2), 0.4 ** (-1 / 2))),
        # Excess risks 2 and 1, step size 0.01.
        (WeightingName.EXCESS_MTL, ORTHOGONAL, (1 / (1 + math.exp(-0.01)), 1 / (1 + math.exp(0.01)))),
    ],
    ids=str,
)
def test_weights_of_two_gradients(
    name: WeightingName, rows: Sequence[Sequence[float]], expected: Sequence[float]
) -> None:
    found = weights_of(weighting(name, 2), rows)
    assert found.tolist() == pytest.approx(list(expected), abs=2e-3)


def test_the_weighted_gradient_is_what_the_representation_gets() -> None:
    features = torch.zeros(1, 2, requires_grad=True)
    losses = {"first": features @ torch.tensor([1.0, 0.0]), "second": features @ torch.tensor([-1.0, 1.0])}
    weighting(WeightingName.PCGRAD, 2).backward({name: loss.sum() for name, loss in losses.items()}, features)
    assert features.grad is not None
    assert features.grad.tolist() == [pytest.approx([0.5, 1.5])]  # 2 (1, 0) + 1.5 (-1, 1)


def test_pcgrad_draws_its_order_from_the_seed() -> None:
    rows = ((1.0, 0.0, 0.1), (-1.0, 0.5, 0.0), (-0.5, -1.0, 0.2))
    drawn = [tuple(weights_of(weighting(WeightingName.PCGRAD, 3, seed), rows).tolist()) for seed in range(6)]
    assert len(set(drawn)) > 1


def test_uncertainty_starts_even_and_raises_the_weight_of_small_losses() -> None:
    made = UncertaintyWeighting(2, 0)
    assert loss_weights(made, 3.0, 0.5).tolist() == [0.5, 0.5]
    (log_variance,) = made.parameters()
    assert log_variance.grad is not None
    assert log_variance.grad.tolist() == [0.5 - 1.5, 0.5 - 0.25]
    log_variance.grad = None
    loss_weights(made, 3.0, 0.0)
    assert log_variance.grad.tolist() == [-1.0, 0.0]  # type: ignore[attr-defined]  # set again by the call above


def test_random_weights_are_the_softmax_of_normal_draws() -> None:
    rng = torch.Generator().manual_seed(6)
    made = RandomLossWeighting(3, 6)
    for _ in range(2):
        expected = torch.randn(3, generator=rng).softmax(dim=0)
        assert torch.allclose(loss_weights(made, 1.0, 2.0, 3.0), expected)
    drawn = torch.randn(3, generator=rng).softmax(dim=0)
    assert torch.allclose(loss_weights(made, 1.0, 0.0, 3.0), drawn * torch.tensor([1, 0, 1]) / drawn[[0, 2]].sum())


@pytest.mark.parametrize("temperature", [2.0, 0.5])
def test_dynamic_average_weighs_the_slower_task_more(temperature: float) -> None:
    made = DynamicWeightAverage(2, 0, temperature)
    for losses in ((1.0, 1.0), (0.5, 1.0)):
        made.new_epoch()
        assert loss_weights(made, *losses).tolist() == [0.5, 0.5]
    made.new_epoch()
    expected = torch.tensor([0.5 / temperature, 1.0 / temperature]).softmax(dim=0)
    assert torch.allclose(loss_weights(made, 1.0, 1.0), expected)


def test_dynamic_average_remembers_the_loss_of_an_absent_task() -> None:
    made = DynamicWeightAverage(2, 0)
    for losses in ((1.0, 4.0), (1.0, 2.0)):
        made.new_epoch()
        loss_weights(made, *losses)
        loss_weights(made, losses[0], 0.0)
    made.new_epoch()
    expected = torch.tensor([1.0 / 2, 0.5 / 2]).softmax(dim=0)
    assert torch.allclose(loss_weights(made, 1.0, 1.0), expected)


def test_excess_risk_accumulates_and_waits_for_an_absent_task() -> None:
    made = excess_mtl(2, 0)
    first, second = weights_of(made, ORTHOGONAL), weights_of(made, ((2.0, 0.0), (0.0, 3.0)))
    assert second[1] > first[1]  # the second task's risk grew against its own start
    weights_of(made, ((2.0, 0.0), (0.0, 0.0)))
    late = weights_of(made, ((2.0, 0.0), (0.0, 3.0)))
    assert late[1] > first[1]


def test_nash_settles_where_one_task_conflicts_with_the_sum_of_all() -> None:
    rows = torch.tensor(((2.0, 0.0, 0.3), (0.4, 1.0, 0.0), (-1.2, -0.6, 0.2)))
    gramian = rows @ rows.T / rows.square().sum(dim=1).mean()
    assert gramian[2].sum() < 0
    weights = weights_of(weighting(WeightingName.NASH_MTL, 3), rows.tolist())
    assert (gramian @ weights * weights).tolist() == pytest.approx([1, 1, 1], abs=1e-3)


@pytest.mark.parametrize(
    ("name", "other"),
    [
        (WeightingName.MGDA, torchjd("MGDAWeighting", epsilon=1e-3, max_iters=1)),
        (WeightingName.MGDA, torchjd("MGDAWeighting", epsilon=0.5, max_iters=100)),
        (WeightingName.CAGRAD, torchjd("CAGradWeighting", c=0.0)),
        (WeightingName.FAIRGRAD, torchjd("FairGradWeighting", alpha=1.0)),
        (WeightingName.EXCESS_MTL, partial(excess_mtl, step_size=0.5)),
    ],
    ids=["mgda steps", "mgda tolerance", "cagrad radius", "fairgrad alpha", "excess-mtl step"],
)
def test_every_option_changes_the_weights(name: WeightingName, other: Callable[[int, int], Weighting]) -> None:
    rows = ((2.0, 0.0, 0.3), (0.4, 1.0, 0.0), (-0.5, 0.2, 0.7))
    usual = weights_of(weighting(name, 3), rows)
    assert not torch.allclose(usual, weights_of(other(3, 0), rows), rtol=1e-3)


def test_a_radius_of_zero_is_the_mean() -> None:
    weighting(WeightingName.CAGRAD, 2)
    assert weights_of(torchjd("CAGradWeighting", c=0.0)(2, 0), CONFLICTING).tolist() == pytest.approx([0.5, 0.5])


def test_a_solver_that_fails_leaves_the_tasks_equal() -> None:
    made = RepresentationWeighting(3, 0, lambda gradients: torch.full((len(gradients.tasks),), torch.nan))
    assert weights_of(made, ((2.0, 0.0), (0.0, 0.0), (0.0, 1.0))).tolist() == [0.5, 0.0, 0.5]
