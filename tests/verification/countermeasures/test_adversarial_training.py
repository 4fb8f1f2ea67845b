"""Adversarial training: within the radius, against the loss, without a trace in the network."""

import copy
from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn

from mtlue_cli.choices import BackboneName
from mtlue_cli.networks.multitask import MultiTaskNetwork, build_network
from mtlue_cli.tasks.losses import mean_loss, task_losses
from mtlue_cli.tasks.spec import UNLABELLED
from mtlue_cli.training.multitask_loop import LearningSettings, train_multitask
from mtlue_cli.verification.countermeasures.adversarial_training import AdversarialTraining, FgsmTraining
from mtlue_cli.verification.countermeasures.base import AttackerView, steady
from tests.multitask_sample import TASKS, draw_sample

pytestmark = pytest.mark.usefixtures("tiny_small")

CPU = torch.device("cpu")
PGD = AdversarialTraining(radius=8, steps=3)


class MeanColour(nn.Module):
    """Logits that are signed sums of the colours: the sign of every gradient is known."""

    def __init__(self) -> None:
        super().__init__()
        self.colour = nn.Parameter(10.0 * torch.eye(3))
        self.bright = nn.Parameter(torch.tensor([[-1.0, 1.0], [-1.0, 1.0], [-1.0, 1.0]]))

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        mean = images.mean((2, 3))
        return {"colour": mean @ self.colour, "bright": mean @ self.bright}


class Trained(NamedTuple):
    """A network, and what it was trained on."""

    network: MultiTaskNetwork
    images: Tensor
    labels: dict[str, Tensor]


SETTINGS = LearningSettings(epochs=3, batch_size=8, crop_size=16, backbone=BackboneName.SMALL, seed=0)


@pytest.fixture(scope="module")
def trained() -> Trained:
    images, labels = draw_sample(32, 16)
    network = train_multitask(images, labels, TASKS, SETTINGS, CPU)
    return Trained(network.train(), images.float() / 255, labels)


def loss_of(network: nn.Module, images: Tensor, labels: Mapping[str, Tensor]) -> float:
    with torch.no_grad(), steady(network):
        return float(mean_loss(task_losses(network(images), labels, TASKS)))


def worst_within(
    network: nn.Module,
    images: Tensor,
    labels: Mapping[str, Tensor],
    training: AdversarialTraining,
    rng: torch.Generator,
) -> Tensor:
    view = AttackerView(labels, TASKS, None, 16, 0, CPU)
    return training.during_training(view)(network, images, labels, rng).images


def attacked(settings: AdversarialTraining, seed: int = 0) -> Tensor:
    network, images, labels = build_network(BackboneName.SMALL, TASKS, 0).train(), *draw_sample(6, 16)
    rng = torch.Generator().manual_seed(seed)
    return worst_within(network, images.float() / 255, labels, settings, rng)


def test_one_step_worked_out_by_hand() -> None:
    images = torch.full((1, 3, 2, 2), 0.5)
    labels = {"colour": torch.tensor([0]), "bright": torch.tensor([UNLABELLED])}
    settings = AdversarialTraining(radius=8, steps=1, step_size=5.1, random_start=False)
    worst = worst_within(MeanColour(), images, labels, settings, torch.Generator())
    # The loss falls in the class's own colour and rises in the others: each value moves by 5.1 / 255 = 0.02.
    assert torch.allclose(worst[0, 0], torch.full((2, 2), 0.48))
    assert torch.allclose(worst[0, 1:], torch.full((2, 2, 2), 0.52))


def test_an_image_without_labels_is_moved_by_nothing_but_the_start() -> None:
    images = torch.full((2, 3, 2, 2), 0.5)
    labels = {name: torch.tensor([UNLABELLED, UNLABELLED]) for name in TASKS.names}
    settings = replace(PGD, random_start=False)
    assert torch.equal(worst_within(MeanColour(), images, labels, settings, torch.Generator()), images)


@pytest.mark.parametrize("settings", [PGD, FgsmTraining(4.0).attack(8)], ids=["pgd", "fgsm"])
def test_it_raises_the_loss_within_radius_and_range(trained: Trained, settings: AdversarialTraining) -> None:
    network, images, labels = trained.network, trained.images.clone(), trained.labels
    images[0] = 0.0
    images[1] = 1.0
    assert settings.radius is not None
    worst = worst_within(network, images, labels, settings, torch.Generator().manual_seed(0))
    assert (worst - images).abs().max() <= settings.radius / 255 + 1e-6
    assert worst.min() >= 0
    assert worst.max() <= 1
    start = worst_within(network, images, labels, replace(settings, steps=0), torch.Generator().manual_seed(0))
    assert (start - images).abs().max() > 0.9 * settings.radius / 255
    assert loss_of(network, worst, labels) > loss_of(network, start, labels)
    assert loss_of(network, worst, labels) > loss_of(network, images, labels)


def test_more_steps_raise_it_further(trained: Trained) -> None:
    network, images, labels = trained
    losses = [
        loss_of(network, worst_within(network, images, labels, settings, torch.Generator().manual_seed(0)), labels)
        for settings in (replace(PGD, steps=0), replace(PGD, steps=1, step_size=4.0), replace(PGD, steps=6))
    ]
    assert losses[0] < losses[1] < losses[2]


def test_it_leaves_the_network_as_it_was(trained: Trained) -> None:
    network, images, labels = copy.deepcopy(trained.network), trained.images, trained.labels
    mean_loss(task_losses(network(images), labels, TASKS)).backward()  # type: ignore[no-untyped-call]
    state = {name: value.clone() for name, value in network.state_dict().items()}
    gradients = {name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None}
    view = AttackerView(labels, TASKS, None, 16, 0, CPU)
    intervention = PGD.during_training(view)
    mixture = intervention(network, images, labels, torch.Generator().manual_seed(0))
    assert all(torch.equal(value, network.state_dict()[name]) for name, value in state.items())
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None
        assert torch.equal(parameter.grad, gradients[name])
    assert all(module.training for module in network.modules())
    assert mixture.labels is labels
    assert mixture.other is None
    assert not mixture.images.requires_grad


@pytest.mark.parametrize(
    "other",
    [
        replace(PGD, radius=4),
        replace(PGD, steps=4),
        replace(PGD, step_size=1.0),
        replace(PGD, random_start=False),
    ],
    ids=["radius", "steps", "step_size", "random_start"],
)
def test_each_setting_changes_the_result(other: AdversarialTraining) -> None:
    assert not torch.equal(attacked(PGD), attacked(other))


def test_the_same_seed_repeats_it_and_another_does_not() -> None:
    assert torch.equal(attacked(PGD), attacked(PGD))
    assert not torch.equal(attacked(PGD), attacked(PGD, seed=1))


def test_the_fast_variant_is_one_step_of_one_and_a_quarter_radius() -> None:
    assert FgsmTraining(8.0).attack(4) == AdversarialTraining(radius=8.0, steps=1, step_size=10.0)
    assert AdversarialTraining(radius=8, steps=5).lengths(4) == (8.0, 4.0)


def test_by_default_the_radius_is_the_bound_of_the_release() -> None:
    assert AdversarialTraining(steps=5).lengths(12) == (12.0, 6.0)
    assert AdversarialTraining(radius=4.0).lengths(12)[0] == 4.0
    assert FgsmTraining().attack(12).step_size == 15.0


class TwoColours(nn.Module):
    """Logistic regression on the mean red and green."""

    def __init__(self) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.zeros(2))

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        score = (images[:, :2].mean((2, 3)) - 0.5) @ self.weights
        return {"bright": torch.stack([-score, score], dim=1)}


def test_a_shortcut_within_the_radius_is_not_learned() -> None:
    rng = torch.Generator().manual_seed(0)
    labels = {"bright": torch.randint(2, (200,), generator=rng)}
    side = 2.0 * labels["bright"].view(-1, 1, 1) - 1.0
    images = torch.full((200, 3, 2, 2), 0.5)
    images[:, 0] += side * 4 / 255
    images[:, 1] += side * 30 / 255 + 30 / 255 * torch.randn(200, 1, 1, generator=rng)
    task = TASKS.subset(["bright"])
    harden = PGD.during_training(AttackerView(labels, task, None, 2, 0, CPU))
    learned = []
    for intervention in (None, harden):
        network = TwoColours()
        optimizer = torch.optim.Adam(network.parameters(), 1.0)
        for _ in range(100):
            batch = images if intervention is None else intervention(network, images, labels, rng).images
            optimizer.zero_grad()
            mean_loss(task_losses(network(batch), labels, task)).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        learned.append(network.weights.detach())
    (plain_red, plain_green), (hardened_red, hardened_green) = (weights.tolist() for weights in learned)
    assert plain_red > plain_green > 0
    assert abs(hardened_red) < 0.2 * hardened_green
