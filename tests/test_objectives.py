"""Every objective: what it asks of the generator, and what it keeps."""

from collections.abc import Mapping
from typing import TypeVar

import pytest
import torch
from torch import Tensor, nn

from mtlue_cli.choices import ObjectiveName
from mtlue_cli.objectives import (
    OBJECTIVES,
    ErrorMinimizing,
    Ingredients,
    Learnable,
    Objective,
    SelfEnsemble,
    TargetedAdversarial,
)
from mtlue_cli.tasks.spec import UNLABELLED
from tests.multitask_sample import TASKS

ObjectiveT = TypeVar("ObjectiveT", bound=Objective)
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
    return OBJECTIVES[name].build(Ingredients(TASKS, [members], LinearSurrogate, seed=0))


def begun(objective: ObjectiveT) -> ObjectiveT:
    """The objective in the next step."""
    objective.begin_step()
    return objective


def images() -> Tensor:
    return torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def expected_loss(logits: Mapping[str, Tensor], colour: list[int], bright: list[int]) -> float:
    first = nn.functional.cross_entropy(logits["colour"][:3], torch.tensor(colour))
    second = nn.functional.cross_entropy(logits["bright"], torch.tensor(bright))
    return ((first + second) / 2).item()


@pytest.mark.parametrize("name", list(ObjectiveName))
def test_the_loss_reaches_the_perturbation_and_only_a_surrogate_that_learns(name: ObjectiveName) -> None:
    objective = build(name)
    protected = images().requires_grad_(True)
    loss, logits = begun(objective).loss(protected, LABELS)
    loss.backward()  # type: ignore[no-untyped-call]
    assert protected.grad is not None
    assert protected.grad.abs().sum() > 0
    assert logits["colour"].shape == (4, 3)
    surrogates = [module for module in vars(objective).values() if isinstance(module, nn.Module)]
    reached = [parameter.grad is not None for module in surrogates for parameter in module.parameters()]
    assert all(reached) if name is ObjectiveName.EM else not any(reached)


@pytest.mark.parametrize("name", list(ObjectiveName))
def test_descending_the_loss_raises_the_agreement(name: ObjectiveName) -> None:
    objective = build(name)
    protected = images().requires_grad_(True)
    optimizer = torch.optim.Adam([protected], 0.5)
    before = objective.agreement(begun(objective).loss(protected, LABELS)[1], LABELS)
    for _ in range(60):
        optimizer.zero_grad()
        loss, logits = begun(objective).loss(protected, LABELS)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    assert objective.agreement(logits, LABELS) > max(before, 0.8)


def test_tap_aims_at_shifted_labels_of_the_last_checkpoint() -> None:
    loss, _ = begun(build(ObjectiveName.TAP)).loss(images(), LABELS)
    expected = expected_loss(LinearSurrogate(2)(images()), colour=[1, 2, 0], bright=[1, 0, 1, 0])
    assert loss.item() == pytest.approx(expected, rel=1e-5)


def test_em_aims_at_the_labels_themselves() -> None:
    loss, _ = begun(build(ObjectiveName.EM)).loss(images(), LABELS)
    expected = expected_loss(LinearSurrogate(0)(images()), colour=[0, 1, 2], bright=[0, 1, 0, 1])
    assert loss.item() == pytest.approx(expected, rel=1e-5)


def test_sep_over_a_deck_is_tap_averaged_over_its_members() -> None:
    members = [LinearSurrogate(seed) for seed in range(3)]
    ensemble = SelfEnsemble(TASKS, members, seed=0)
    each = [expected_loss(member(images()), colour=[1, 2, 0], bright=[1, 0, 1, 0]) for member in members]
    for _ in range(2):
        drawn = [begun(ensemble).loss(images(), LABELS)[0].item() for _ in members]
        assert sorted(drawn) == pytest.approx(sorted(each), rel=1e-5)


def test_sep_continues_with_the_same_draws() -> None:
    first, second = build(ObjectiveName.SEP), build(ObjectiveName.SEP)
    begun(first).loss(images(), LABELS)
    second.load_state_dict(first.state_dict())
    for _ in range(7):
        assert begun(first).loss(images(), LABELS)[0].item() == begun(second).loss(images(), LABELS)[0].item()


def em_step(objective: ErrorMinimizing) -> float:
    loss, _ = begun(objective).loss(images(), LABELS)
    loss.backward()  # type: ignore[no-untyped-call]  # torch's stubs leave it untyped
    objective.step_surrogate()
    return loss.item()


def test_em_surrogate_learns_from_the_pass_that_serves_the_generator() -> None:
    objective = ErrorMinimizing(TASKS, LinearSurrogate, seed=0, solved_loss=0)
    losses = [em_step(objective) for _ in range(5)]
    assert losses == sorted(losses, reverse=True)
    assert (objective.restarts, objective.age) == (0, 5)


def test_em_surrogate_starts_afresh_when_it_has_learned_the_shortcut_and_is_old_enough() -> None:
    def after(steps: int, **settings: float) -> ErrorMinimizing:
        objective = ErrorMinimizing(TASKS, LinearSurrogate, seed=0, **settings)  # type: ignore[arg-type]  # a count among them
        for _ in range(steps):
            em_step(objective)
        return objective

    # Any loss is below 100: only the age counts.
    assert after(3, solved_loss=100.0, least_steps=3).restarts == 0
    restarted = after(4, solved_loss=100.0, least_steps=3)
    assert (restarted.restarts, restarted.age) == (1, 1)
    assert isinstance(restarted.surrogate, LinearSurrogate)
    distance = (restarted.surrogate.colour - LinearSurrogate(1).colour).abs().max()
    assert distance <= restarted.learning_rate * 1.01
    assert after(9, solved_loss=1e-9, least_steps=3).restarts == 0


@pytest.mark.parametrize("name", [ObjectiveName.TAP, ObjectiveName.SEP])
def test_the_companion_adds_its_weighted_loss_and_trains_its_own_surrogate(name: ObjectiveName) -> None:
    members = [LinearSurrogate(seed) for seed in range(3)]
    both = OBJECTIVES[name].build(Ingredients(TASKS, [members], LinearSurrogate, seed=0, learnability=0.5))
    alone, em = build(name), build(ObjectiveName.EM)
    expected = begun(alone).loss(images(), LABELS)[0] + 0.5 * begun(em).loss(images(), LABELS)[0]
    assert begun(both).loss(images(), LABELS)[0].item() == pytest.approx(expected.item(), rel=1e-5)
    assert isinstance(both, Learnable)
    before = begun(both.companion).loss(images(), LABELS)[0].item()
    begun(both).loss(images(), LABELS)[0].backward()  # type: ignore[no-untyped-call]  # torch's stubs leave it untyped
    both.step_surrogate()
    assert begun(both.companion).loss(images(), LABELS)[0].item() != before
    again = OBJECTIVES[name].build(Ingredients(TASKS, [members], LinearSurrogate, seed=0, learnability=0.5))
    again.load_state_dict(both.state_dict())
    assert begun(again).loss(images(), LABELS)[0].item() == begun(both).loss(images(), LABELS)[0].item()


@pytest.mark.parametrize("stopped", [2, 12])
def test_surrogates_take_turns_by_their_shares_after_the_first_alone(stopped: int) -> None:
    pair = [[LinearSurrogate(1)], [LinearSurrogate(2)]]
    each = [TargetedAdversarial(TASKS, member).loss(images(), LABELS)[0].item() for (member,) in pair]

    def made() -> Objective:
        given = Ingredients(TASKS, pair, LinearSurrogate, 0, shares=(0.75, 0.25), alone=3)
        return OBJECTIVES[ObjectiveName.TAP].build(given)

    def turns(objective: Objective, steps: int) -> list[int]:
        return [each.index(begun(objective).loss(images(), LABELS)[0].item()) for _ in range(steps)]

    objective, again = made(), made()
    before = turns(objective, stopped)
    again.load_state_dict(objective.state_dict())
    assert before + turns(again, 14 - stopped) == [0, 0, 0, *[0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1]]


@pytest.mark.parametrize("name", [ObjectiveName.TAP, ObjectiveName.SEP])
def test_a_frozen_surrogate_stays_as_it_is(name: ObjectiveName) -> None:
    objective = build(name)
    probe = torch.zeros_like(images()).requires_grad_()
    loss, _ = begun(objective).loss(images() + probe, LABELS)
    loss.backward()  # type: ignore[no-untyped-call]  # torch's stubs leave it untyped
    objective.step_surrogate()
    assert probe.grad is not None
    # The draw of SEP moves on; a frozen member gives the same loss each time its turn comes.
    losses = {round(begun(objective).loss(images(), LABELS)[0].item(), 5) for _ in range(9)}
    assert round(loss.item(), 5) in losses
    assert len(losses) == (1 if name is ObjectiveName.TAP else 3)
