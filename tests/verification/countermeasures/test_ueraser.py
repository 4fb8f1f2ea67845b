"""UEraser: strong augmentations in range, of which the hardest is learned."""

import math
from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from mtlue_cli.choices import BackboneName
from mtlue_cli.networks.multitask import build_network
from mtlue_cli.tasks.losses import sample_losses
from mtlue_cli.tasks.spec import UNLABELLED
from mtlue_cli.training.multitask_loop import LearningSettings, train_multitask
from mtlue_cli.verification.countermeasures.base import AttackerView, steady
from mtlue_cli.verification.countermeasures.ueraser import (
    TRIVIAL_OPERATIONS,
    UEraser,
    augment_trivially,
    hardest,
    plasma_brightness,
    plasma_contrast,
    plasma_fields,
)
from tests.multitask_sample import TASKS, draw_sample

pytestmark = pytest.mark.usefixtures("tiny_small")

CPU = torch.device("cpu")
SETTINGS = UEraser(candidates=3)


def batch(count: int = 12, size: int = 16) -> tuple[Tensor, dict[str, Tensor]]:
    images, labels = draw_sample(count, size)
    return images.float() / 255, labels


def view(labels: dict[str, Tensor]) -> AttackerView:
    return AttackerView(labels, TASKS, None, 16, 0, CPU)


class Brightness(nn.Module):
    """Two tasks that are sure of themselves by how light an image is."""

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        mean = images.mean((1, 2, 3))
        return {
            "colour": torch.stack([mean, 0 * mean, 0 * mean], dim=1),
            "bright": torch.stack([-mean, mean], dim=1),
        }


def test_of_several_versions_each_sample_gets_its_own_hardest() -> None:
    def versions() -> Iterator[Tensor]:
        for levels in ([0.1, 0.9], [0.5, 0.2], [0.3, 0.4]):
            yield torch.tensor(levels).view(2, 1, 1, 1).expand(2, 3, 4, 4)

    # Class 0 of both tasks: light is hard for "bright" alone; class 1 of "bright": dark is hard.
    labels = {"colour": torch.tensor([UNLABELLED, UNLABELLED]), "bright": torch.tensor([0, 1])}
    images = hardest(Brightness(), versions(), labels, TASKS)
    assert images[:, 0, 0, 0].tolist() == pytest.approx([0.5, 0.2])


def test_its_loss_is_the_maximum_over_the_candidates() -> None:
    images, labels = batch()
    network = build_network(BackboneName.SMALL, TASKS, 0).train()
    mixture = SETTINGS.during_training(view(labels))(network, images, labels, torch.Generator().manual_seed(5))
    rng = torch.Generator().manual_seed(5)
    candidates = [SETTINGS.augment(images, rng) for _ in range(3)]
    with torch.no_grad(), steady(network):
        losses = torch.stack([sample_losses(network(candidate), labels, TASKS) for candidate in candidates])
    best = losses.argmax(dim=0)
    expected = torch.stack([candidates[int(which)][row] for row, which in enumerate(best)])
    assert torch.equal(mixture.images, expected)
    assert len(set(best.tolist())) > 1


def test_lite_learns_what_was_drawn() -> None:
    images, labels = batch()
    network = build_network(BackboneName.SMALL, TASKS, 0).train()
    lite = UEraser(candidates=1)
    mixture = lite.during_training(view(labels))(network, images, labels, torch.Generator().manual_seed(5))
    drawn = lite.augment(images, torch.Generator().manual_seed(5))
    assert torch.equal(mixture.images, drawn)


def test_no_candidate_is_refused() -> None:
    with pytest.raises(ValueError, match="candidates is 0, expected a whole number >= 1"):
        UEraser(candidates=0)


def test_it_leaves_the_network_as_it_was() -> None:
    images, labels = batch()
    network = build_network(BackboneName.SMALL, TASKS, 0).train()
    state = {name: value.clone() for name, value in network.state_dict().items()}
    original = images.clone()
    SETTINGS.during_training(view(labels))(network, images, labels, torch.Generator().manual_seed(0))
    assert all(torch.equal(value, network.state_dict()[name]) for name, value in state.items())
    assert all(module.training for module in network.modules())
    assert all(parameter.grad is None for parameter in network.parameters())
    assert torch.equal(images, original)


def test_a_network_trains_under_it_and_repeats_itself() -> None:
    images, labels = draw_sample(24, 16)
    settings = LearningSettings(epochs=1, batch_size=12, crop_size=16, backbone=BackboneName.SMALL, seed=0)
    first, second = (
        train_multitask(
            images, labels, TASKS, settings, CPU, intervention=SETTINGS.during_training(view(labels))
        ).state_dict()
        for _ in range(2)
    )
    plain = train_multitask(images, labels, TASKS, settings, CPU).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["heads.weight"], plain["heads.weight"])


def test_the_loss_of_a_sample_is_the_mean_over_its_labelled_tasks() -> None:
    logits = {"colour": torch.zeros(3, 3), "bright": torch.zeros(3, 2)}
    labels = {"colour": torch.tensor([0, UNLABELLED, UNLABELLED]), "bright": torch.tensor([1, 0, UNLABELLED])}
    expected = [(math.log(3) + math.log(2)) / 2, math.log(2), 0.0]
    assert sample_losses(logits, labels, TASKS).tolist() == pytest.approx(expected)


@pytest.mark.parametrize(
    "other",
    [
        replace(SETTINGS, brightness=1.0),
        replace(SETTINGS, contrast=1.0),
        replace(SETTINGS, shuffle=1.0),
        replace(SETTINGS, roughness=(0.1, 0.2)),
        replace(SETTINGS, intensity=(0.1, 0.2)),
    ],
    ids=["brightness", "contrast", "shuffle", "roughness", "intensity"],
)
def test_each_setting_changes_the_result(other: UEraser) -> None:
    images, _ = batch()
    first, second = (s.augment(images, torch.Generator().manual_seed(0)) for s in (SETTINGS, other))
    assert not torch.equal(first, second)


def test_augmentation_stays_in_range_and_follows_the_generator() -> None:
    images, _ = batch(64)
    first, again, other = (SETTINGS.augment(images, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1))
    assert first.shape == images.shape
    assert first.min() >= 0
    assert first.max() <= 1
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_a_shuffle_alone_moves_whole_channels() -> None:
    images, _ = batch(40)
    settings = UEraser(brightness=0.0, contrast=0.0, shuffle=1.0)
    shuffled = settings.augment(images, torch.Generator().manual_seed(0))
    untouched = 0
    for before, after in zip(images, shuffled, strict=True):
        untouched += torch.equal(before.mean((1, 2)).sort().values, after.mean((1, 2)).sort().values)
    # One operation in fourteen is the identity: those images hold the same channels in another order.
    assert untouched >= 1


@pytest.mark.parametrize("name", TRIVIAL_OPERATIONS)
def test_every_operation_keeps_shape_and_range_and_treats_images_alone(name: str) -> None:
    operation = TRIVIAL_OPERATIONS[name]
    images = torch.rand(6, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    strength = torch.tensor([-1.0, -0.5, 0.0, 0.25, 0.5, 1.0])
    whole = operation(images, strength)
    assert whole.shape == images.shape
    assert whole.min() >= -1e-6
    assert whole.max() <= 1 + 1e-6
    for row in range(6):
        assert torch.allclose(operation(images[row : row + 1], strength[row : row + 1])[0], whole[row], atol=1e-5)
    if name in {"identity", "auto_contrast", "equalize"}:
        assert torch.equal(operation(images, -strength), whole)
    else:
        assert not torch.equal(operation(images, 0.5 * strength), whole)
    if name not in {"auto_contrast", "equalize"}:
        assert torch.allclose(whole[2], images[2], atol=1 / 255)


def test_trivial_operations_are_drawn_an_image() -> None:
    images = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0)).expand(200, -1, -1, -1)
    augmented = augment_trivially(images, torch.Generator().manual_seed(0))
    assert len({tuple(image.flatten().tolist()) for image in augmented}) > 100
    assert 2 <= sum(torch.equal(image, images[0]) for image in augmented) < 40


def test_a_translation_by_hand() -> None:
    images = torch.arange(10.0).view(1, 1, 1, 10).expand(1, 3, 10, 10) / 10
    moved = TRIVIAL_OPERATIONS["translate_x"](images, torch.tensor([1.0]))
    assert torch.allclose(moved[0, 0, 0], torch.tensor([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.9]), atol=1e-6)


def test_plasma_spans_its_range_and_is_finer_where_it_is_rough() -> None:
    rng = torch.Generator().manual_seed(0)
    fields = plasma_fields(40, 3, 32, torch.cat([torch.full((20,), 0.1), torch.full((20,), 0.9)]), rng)
    assert fields.shape == (40, 3, 32, 32)
    assert torch.allclose(fields.amin((2, 3)), torch.zeros(40, 3), atol=1e-6)
    assert torch.allclose(fields.amax((2, 3)), torch.ones(40, 3), atol=1e-5)
    detail = (fields[..., 1:] - fields[..., :-1]).abs().mean((1, 2, 3))
    assert detail[:20].max() < detail[20:].min()


def test_plasma_on_an_image_by_hand() -> None:
    images = torch.full((1, 3, 1, 4), 0.6)
    fields = torch.tensor([0.0, 0.25, 0.5, 1.0]).expand(1, 3, 1, 4)
    lit = plasma_brightness(images, fields, torch.tensor([0.5]))
    assert torch.allclose(lit[0, 0, 0], torch.tensor([0.1, 0.35, 0.6, 1.0]))
    contrasted = plasma_contrast(images, fields)
    assert torch.allclose(contrasted[0, 0, 0], torch.tensor([0.5, 0.6, 0.7, 0.9]))
