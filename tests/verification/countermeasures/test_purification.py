"""A denoiser fitted to the attacker's own images: it takes out a perturbation that it never saw."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from mtlue_cli.verification.countermeasures.base import AttackerView
from mtlue_cli.verification.countermeasures.in_order import in_order
from mtlue_cli.verification.countermeasures.purification import (
    Moments,
    Patches,
    Purification,
    best_weights,
    random_patterns,
)
from mtlue_cli.verification.countermeasures.registry import countermeasure_named
from tests.verification.countermeasures.toy_release import class_signal, make_release, with_seed

QUICK = Purification(examples=64, coarse=4)


def view(count: int = 60) -> AttackerView:
    """An attacker with clean images of his own, none of which is in the release."""
    return replace(make_release(80).view, own_images=make_release(count, seed=5).originals)


def error(images: Tensor, originals: Tensor) -> float:
    return float((images.double() - originals.double()).square().mean())


def test_it_lowers_the_error_and_the_class_signal_of_a_perturbation_that_it_never_saw() -> None:
    toy = make_release(80, block=8)
    cleaned = Purification(examples=500, coarse=8).before_training(toy.release, view())
    assert error(cleaned, toy.originals) < 0.7 * error(toy.release, toy.originals)
    left, given = (images.double() - toy.originals.double() for images in (cleaned, toy.release))
    assert class_signal(left, toy.labels) < 0.6 * class_signal(given, toy.labels)


def test_it_needs_images() -> None:
    toy = make_release(20)
    assert Purification().needs_own_images
    with pytest.raises(ValueError, match="needs clean images"):
        QUICK.before_training(toy.release, toy.view)


def test_images_to_be_judged_are_left_alone() -> None:
    toy = make_release(20)
    assert QUICK.at_inference(toy.originals) is toy.originals


def test_no_value_moves_further_than_the_bound_of_the_release() -> None:
    toy = make_release(20, block=8)
    cleaned = QUICK.before_training(toy.release, view())
    assert 0 < (cleaned.int() - toy.release.int()).abs().max() <= 8


def test_clean_images_that_tell_nothing_of_a_perturbation_change_nothing() -> None:
    """Of images of pure noise, as strong as the pattern, there is nothing to learn that would hold for others."""
    rng = torch.Generator().manual_seed(0)
    learned, held = Moments(), Moments()
    for moments in (learned, held):
        moments.add(torch.randn(30, 40, generator=rng), torch.randn(30, 2, generator=rng))
    assert not best_weights(learned, held).any()


def test_weights_are_those_of_least_squares_by_hand() -> None:
    seen = torch.tensor([[1.0], [2.0], [3.0], [4.0]])
    both = Moments(), Moments()
    for moments in both:
        moments.add(seen, 2 * seen + 1)
    torch.testing.assert_close(best_weights(*both), torch.tensor([[2.0], [1.0]]).double(), atol=1e-3, rtol=0)


@pytest.mark.parametrize("side", [16, 17, 22, 5])
def test_patches_cover_every_pixel_once_in_the_mean(side: int) -> None:
    images = torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(0))
    stage = Patches(8)
    torch.testing.assert_close(stage.spread(stage.seen(images), side), images)


@pytest.mark.parametrize("other", [replace(QUICK, examples=128), replace(QUICK, coarse=8), replace(QUICK, patch=4)])
def test_every_setting_changes_the_result(other: Purification) -> None:
    toy = make_release(20)
    assert not torch.equal(QUICK.before_training(toy.release, view()), other.before_training(toy.release, view()))


def test_bound_images_and_seed_change_the_result() -> None:
    toy, usual = make_release(20), view()
    first = QUICK.before_training(toy.release, usual)
    for other in (replace(usual, epsilon=16), view(30), with_seed(usual, 1)):
        assert not torch.equal(first, QUICK.before_training(toy.release, other))


def test_own_images_go_through_the_steps_before_it() -> None:
    """Whoever purifies a grey release trains on grey images."""
    toy = make_release(20)
    combined = in_order([countermeasure_named("grayscale"), countermeasure_named("purification:examples=64,coarse=4")])
    assert combined.settings.needs_own_images
    grey = countermeasure_named("grayscale").settings
    attacker = view()
    assert attacker.own_images is not None
    by_hand = QUICK.before_training(
        grey.at_inference(toy.release), replace(attacker, own_images=grey.at_inference(attacker.own_images))
    )
    assert torch.equal(combined.settings.before_training(toy.release, attacker), by_hand)


def test_patterns_are_bounded_of_every_fineness_in_grey_and_in_colour() -> None:
    rng = torch.Generator().manual_seed(0)
    drawn = [random_patterns(16, 16, rng) for _ in range(20)]
    for patterns in drawn:
        assert patterns.shape == (16, 3, 16, 16)
        assert patterns.abs().max() <= 1
    grey = torch.stack([(one == one[:1]).all() for patterns in drawn for one in patterns])
    assert 0.4 < grey.float().mean() < 0.6
    roughness = [float((patterns[..., 1:] - patterns[..., :-1]).abs().mean()) for patterns in drawn]
    assert max(roughness) > 4 * min(roughness)
