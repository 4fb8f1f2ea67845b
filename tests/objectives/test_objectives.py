"""Every objective: what it asks of the generator, and what it keeps."""

from collections.abc import Mapping

import pytest
import torch
from torch import Tensor, nn

from mtlue_cli.choices import ObjectiveName
from mtlue_cli.objectives.base import Objective
from mtlue_cli.objectives.error_minimizing import ErrorMinimizing, ErrorMinimizingSettings
from mtlue_cli.objectives.learnable import Learnable
from mtlue_cli.objectives.registry import OBJECTIVES, Ingredients
from mtlue_cli.objectives.self_ensemble import SelfEnsemble, SelfEnsembleSettings
from mtlue_cli.tasks.spec import UNLABELLED
from tests.multitask_sample import TASKS

LABELS = {"colour": torch.tensor([0, 1, 2, UNLABELLED]), "bright": torch.tensor([0, 1, 0, 1])}


class LinearSurrogate(nn.Module):
    """Mean colour to logits, so that losses can be worked out by hand."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        rng = torch.Generator().manual_seed(seed)
        self.colour = nn.Parameter(torch.randn(3, 3, generator=rng))
        self.bright = nn.Parameter(torch.randn(3, 2, generator=rng))

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        mean = images.mean(dim=(2, 3))
        return {"colour": mean @ self.colour, "bright": mean @ self.bright}


def build(name: ObjectiveName) -> Objective:
    members = [LinearSurrogate(seed) for seed in range(3)]
    return OBJECTIVES[name].build(Ingredients(TASKS, members, LinearSurrogate, seed=0))


def images() -> Tensor:
    return torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def expected_loss(logits: Mapping[str, Tensor], colour: list[int], bright: list[int]) -> float:
    first = nn.functional.cross_entropy(logits["colour"][:3], torch.tensor(colour))
    second = nn.functional.cross_entropy(logits["bright"], torch.tensor(bright))
    return ((first + second) / 2).item()


@pytest.mark.parametrize("name", list(ObjectiveName))
def test_the_loss_reaches_the_perturbation_but_not_the_surrogate(name: ObjectiveName) -> None:
    objective = build(name)
    protected = images().requires_grad_(True)
    loss, logits = objective.loss(protected, LABELS)
    loss.backward()  # type: ignore[no-untyped-call]
    assert protected.grad is not None
    assert protected.grad.abs().sum() > 0
    assert logits["colour"].shape == (4, 3)
    surrogates = [module for module in vars(objective).values() if isinstance(module, nn.Module)]
    assert all(parameter.grad is None for module in surrogates for parameter in module.parameters())


@pytest.mark.parametrize("name", list(ObjectiveName))
def test_descending_the_loss_raises_the_agreement(name: ObjectiveName) -> None:
    objective = build(name)
    protected = images().requires_grad_(True)
    optimizer = torch.optim.Adam([protected], 0.5)
    before = objective.agreement(objective.loss(protected, LABELS)[1], LABELS)
    for _ in range(60):
        optimizer.zero_grad()
        loss, logits = objective.loss(protected, LABELS)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    assert objective.agreement(logits, LABELS) > max(before, 0.8)


def test_tap_aims_at_shifted_labels_of_the_last_checkpoint() -> None:
    loss, _ = build(ObjectiveName.TAP).loss(images(), LABELS)
    expected = expected_loss(LinearSurrogate(2)(images()), colour=[1, 2, 0], bright=[1, 0, 1, 0])
    assert loss.item() == pytest.approx(expected, rel=1e-5)


def test_em_aims_at_the_labels_themselves() -> None:
    loss, _ = build(ObjectiveName.EM).loss(images(), LABELS)
    expected = expected_loss(LinearSurrogate(0)(images()), colour=[0, 1, 2], bright=[0, 1, 0, 1])
    assert loss.item() == pytest.approx(expected, rel=1e-5)


def test_sep_over_a_deck_is_tap_averaged_over_its_members() -> None:
    members = [LinearSurrogate(seed) for seed in range(3)]
    whole = SelfEnsemble(TASKS, members, SelfEnsembleSettings(members_per_step=0), seed=0)
    single = SelfEnsemble(TASKS, members, SelfEnsembleSettings(members_per_step=1), seed=0)
    mean = sum(expected_loss(member(images()), colour=[1, 2, 0], bright=[1, 0, 1, 0]) for member in members) / len(
        members
    )
    assert whole.loss(images(), LABELS)[0].item() == pytest.approx(mean, rel=1e-5)
    drawn = [single.loss(images(), LABELS)[0].item() for _ in range(3)]
    assert sum(drawn) / 3 == pytest.approx(mean, rel=1e-5)
    assert len(set(drawn)) == 3


def test_sep_goes_on_with_the_same_draws() -> None:
    first, second = build(ObjectiveName.SEP), build(ObjectiveName.SEP)
    first.loss(images(), LABELS)
    second.load_state_dict(first.state_dict())
    for _ in range(7):
        assert first.loss(images(), LABELS)[0].item() == second.loss(images(), LABELS)[0].item()


def test_em_surrogate_learns_in_its_turns_and_restarts() -> None:
    settings = ErrorMinimizingSettings(generator_steps=3, surrogate_steps=2, restart_after=4)
    objective = ErrorMinimizing(TASKS, LinearSurrogate, settings, seed=0)
    assert [objective.surrogate_turn(step) for step in range(4)] == [2, 0, 0, 2]
    start = objective.loss(images(), LABELS)[0].item()
    for _ in range(4):
        objective.train_surrogate(images(), LABELS)
    assert objective.loss(images(), LABELS)[0].item() < start
    objective.train_surrogate(images(), LABELS)
    assert objective.restarts == 1
    fresh = LinearSurrogate(1)
    assert isinstance(objective.surrogate, LinearSurrogate)
    distance = (objective.surrogate.colour - fresh.colour).abs().max()
    assert distance <= settings.learning_rate * 1.01


@pytest.mark.parametrize("name", [ObjectiveName.TAP, ObjectiveName.SEP])
def test_the_companion_adds_its_weighted_loss_and_trains_its_own_surrogate(name: ObjectiveName) -> None:
    members = [LinearSurrogate(seed) for seed in range(3)]
    both = OBJECTIVES[name].build(Ingredients(TASKS, members, LinearSurrogate, seed=0, learnability=0.5))
    alone, em = build(name), build(ObjectiveName.EM)
    expected = alone.loss(images(), LABELS)[0] + 0.5 * em.loss(images(), LABELS)[0]
    assert both.loss(images(), LABELS)[0].item() == pytest.approx(expected.item(), rel=1e-5)
    assert both.surrogate_turn(0) == em.surrogate_turn(0) > 0
    assert isinstance(both, Learnable)
    before = both.companion.loss(images(), LABELS)[0].item()
    both.train_surrogate(images(), LABELS)
    assert both.companion.loss(images(), LABELS)[0].item() != before
    again = OBJECTIVES[name].build(Ingredients(TASKS, members, LinearSurrogate, seed=0, learnability=0.5))
    again.load_state_dict(both.state_dict())
    assert again.loss(images(), LABELS)[0].item() == both.loss(images(), LABELS)[0].item()


@pytest.mark.parametrize("name", [ObjectiveName.TAP, ObjectiveName.SEP])
def test_a_frozen_surrogate_has_no_turn(name: ObjectiveName) -> None:
    objective = build(name)
    assert objective.surrogate_turn(0) == 0
    with pytest.raises(NotImplementedError, match="frozen"):
        objective.train_surrogate(images(), LABELS)
