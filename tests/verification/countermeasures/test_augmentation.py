"""Augmentations: values worked out by hand, and what each setting changes."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torchvision.transforms.v2 import functional

from mtlue_cli.training.intervention import Mixture
from mtlue_cli.verification.countermeasures.augmentation import (
    ColourJitter,
    CutMix,
    Cutout,
    GaussianNoise,
    MixUp,
    NonlinearTransformations,
    RandomInterpolation,
    RandomResizedCrop,
    RandomSharpening,
    brighten,
    change_contrast,
    saturate,
    turn_hue,
    zoom,
)
from mtlue_cli.verification.countermeasures.base import AttackerView, Augmentation
from tests.multitask_sample import TASKS

IDENTITIES = {"colour": torch.arange(8), "bright": torch.arange(8)}
"""Labels that are row numbers, so that the label identifies a partner."""


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def noise_images(count: int = 8, size: int = 16) -> Tensor:
    return torch.rand(count, 3, size, size, generator=seeded(5))


def numbered_images(size: int = 16) -> Tensor:
    """Eight flat images: row k has the value k / 10."""
    return (torch.arange(8) / 10).view(-1, 1, 1, 1).expand(-1, 3, size, size).clone()


def augmented(augmentation: Augmentation, images: Tensor, seed: int = 0) -> Mixture:
    return augmentation.augment(images, IDENTITIES, seeded(seed))


def test_release_and_judged_images_are_not_augmented() -> None:
    images = torch.zeros(2, 3, 8, 8, dtype=torch.uint8)
    view = AttackerView({}, TASKS, None, 8, 0, torch.device("cpu"))
    countermeasure = MixUp()
    assert torch.equal(countermeasure.before_training(images, view), images)
    assert torch.equal(countermeasure.at_inference(images), images)
    intervention = countermeasure.during_training(view)
    learned = intervention(nn.Identity(), numbered_images(), IDENTITIES, seeded())
    assert torch.equal(learned.images, augmented(countermeasure, numbered_images()).images)


@pytest.mark.parametrize("deviation", [8.0, 16.0])
def test_noise_has_its_deviation_and_no_mean(deviation: float) -> None:
    grey = torch.full((8, 3, 64, 64), 0.5)
    noise = 255 * (augmented(GaussianNoise(deviation), grey).images - grey)
    assert noise.std().item() == pytest.approx(deviation, rel=0.02)
    assert noise.mean().item() == pytest.approx(0, abs=0.2)


def test_noise_is_fresh_in_every_batch() -> None:
    rng, grey = seeded(), torch.full((8, 3, 4, 4), 0.5)
    first, second = (GaussianNoise().augment(grey, IDENTITIES, rng).images for _ in range(2))
    assert not torch.equal(first, second)


def test_cutout_paints_a_square_around_its_centre() -> None:
    images = torch.ones(2, 3, 8, 8)
    cut = Cutout(side=0.5, grey=0.25).cut(images, torch.tensor([4, 0]), torch.tensor([3, 7]))
    expected = torch.ones(2, 3, 8, 8)
    expected[0, :, 2:6, 1:5] = 0.25
    expected[1, :, :2, 5:] = 0.25  # half of it hangs over each border
    assert torch.equal(cut, expected)


def test_cutout_of_a_larger_side_hides_more_of_every_image_and_no_two_alike() -> None:
    images = torch.ones(8, 3, 16, 16)
    small, large = (augmented(Cutout(side=side), images).images == 0.5 for side in (0.25, 0.75))
    assert (small.sum(dim=(1, 2, 3)) > 0).all()
    assert small.sum() < large.sum()
    assert len({tuple(hole.flatten().tolist()) for hole in small}) > 1


def test_mixup_blends_images_and_labels_by_the_same_share() -> None:
    mixture = augmented(MixUp(), numbered_images())
    assert mixture.other is not None
    assert torch.equal(mixture.labels["colour"], torch.arange(8))
    partner = mixture.other["colour"]
    assert sorted(partner.tolist()) == list(range(8))
    assert torch.equal(partner, mixture.other["bright"])
    expected = mixture.share * torch.arange(8) / 10 + (1 - mixture.share) * partner / 10
    assert torch.allclose(mixture.images[:, 0, 0, 0], expected)


def test_mixup_is_learned_as_the_blend_of_both_losses() -> None:
    # Two images, two classes; logits favour class 0 by ln 3: losses are ln(4/3) for class 0 and ln 4 for class 1.
    labels = {"bright": torch.tensor([0, 0])}
    other = {"bright": torch.tensor([1, -1])}
    logits = {"bright": torch.tensor([[3.0, 1.0], [3.0, 1.0]]).log()}
    losses = Mixture(torch.zeros(2, 3, 4, 4), labels, other, 0.75).losses(logits, TASKS.subset(["bright"]))
    expected = 0.75 * torch.tensor(4 / 3).log() + 0.25 * torch.tensor(4.0).log()
    assert losses["bright"].item() == pytest.approx(expected.item(), rel=1e-6)


def test_cutmix_shares_are_the_areas() -> None:
    windows = set()
    for seed in range(20):
        mixture = augmented(CutMix(), numbered_images(), seed)
        assert mixture.other is not None
        for row, partner in enumerate(mixture.other["colour"].tolist()):
            if partner == row:
                continue
            own = mixture.images[row, 0] == row / 10
            assert torch.equal(~own, mixture.images[row, 0] == partner / 10)
            assert own.float().mean().item() == pytest.approx(mixture.share, abs=1e-6)
            # What is pasted is one rectangle: as many pixels as its rows times its columns.
            pasted = ~own
            assert pasted.sum() == pasted.any(dim=0).sum() * pasted.any(dim=1).sum()
            windows.add(tuple(pasted.flatten().tolist()))
    assert len(windows) > 10


def test_alpha_draws_shares_to_the_middle_or_to_the_ends() -> None:
    rng = seeded()
    wide, narrow = ([MixUp(alpha).draw_share(rng) for _ in range(400)] for alpha in (0.1, 50.0))
    assert all(0 <= share <= 1 for share in wide + narrow)
    assert all(0.2 < share < 0.8 for share in narrow)
    # Beta(a, a) has mean 1/2 and variance 1 / (4 (2a + 1)): 0.208 for a = 0.1.
    assert torch.tensor(wide).mean().item() == pytest.approx(0.5, abs=0.08)
    assert torch.tensor(wide).var().item() == pytest.approx(0.208, abs=0.03)
    for mixing in (MixUp, CutMix):
        shares = [
            [augmented(mixing(alpha), numbered_images(), seed).share for seed in range(20)] for alpha in (0.1, 50)
        ]
        assert torch.tensor(shares[0]).std() > torch.tensor(shares[1]).std()


def test_zooming_is_cutting_and_scaling() -> None:
    images = noise_images(4, 16)
    windows = torch.tensor([[0, 0, 16, 16], [3, 5, 8, 8], [0, 9, 12, 7], [15, 2, 1, 5]])
    zoomed = zoom(images, windows)
    for image, result, (top, left, rows, columns) in zip(images, zoomed, windows.tolist(), strict=True):
        expected = functional.resized_crop(image, top, left, rows, columns, [16, 16], antialias=False)
        assert torch.allclose(result, expected, atol=1e-5)


def test_zooming_into_the_left_half_by_hand() -> None:
    image = torch.tensor([0.0, 0.4, 1.0, 1.0]).expand(1, 3, 4, 4)
    zoomed = zoom(image, torch.tensor([[0, 0, 4, 2]]))
    # Four pixels from two: read at 0 (cut off), 0.25, 0.75 and 1; the bright half does not shine in.
    assert zoomed[0, 0, 0].tolist() == pytest.approx([0.0, 0.1, 0.3, 0.4], abs=1e-6)


def test_windows_lie_within_the_image_and_their_settings() -> None:
    top, left, rows, columns = RandomResizedCrop(0.25, 2.0).draw(500, 64, 64, seeded()).unbind(dim=1)
    assert top.min() >= 0
    assert left.min() >= 0
    assert (top + rows).max() == 64
    assert (left + columns).max() == 64
    area, ratio = rows * columns / 64**2, columns / rows
    assert area.min() > 0.22
    assert 1.9 < ratio.max() < 2.1
    assert 1.9 < (1 / ratio).max() < 2.1
    wide = RandomResizedCrop(0.81, 1.0).draw(500, 64, 64, seeded())
    assert torch.equal(wide[:, 2], wide[:, 3])
    assert wide[:, 2].min() == 58  # 0.9 of the side


def test_jitter_factors_mean_what_they_mean_in_torchvision() -> None:
    images = noise_images(3)
    for factor in (0.6, 1.4):
        factors = torch.full((3,), factor)
        assert torch.allclose(brighten(images, factors), functional.adjust_brightness(images, factor), atol=1e-6)
        assert torch.allclose(change_contrast(images, factors), functional.adjust_contrast(images, factor), atol=1e-6)
        assert torch.allclose(saturate(images, factors), functional.adjust_saturation(images, factor), atol=1e-6)
    third = torch.full((3,), 1 / 3)
    assert torch.allclose(turn_hue(images, third), functional.adjust_hue(images, 1 / 3), atol=1e-5)


def test_each_image_has_its_own_factor() -> None:
    brightened = brighten(torch.full((2, 3, 4, 4), 0.4), torch.tensor([0.5, 2.0]))
    assert brightened[:, 0, 0, 0].tolist() == pytest.approx([0.2, 0.8])


def test_a_turn_of_hue_keeps_greys_and_comes_back() -> None:
    turns = torch.tensor([0.1, 0.3])
    grey = torch.tensor([0.2, 0.7]).view(2, 1, 1, 1).expand(2, 3, 4, 4)
    assert torch.allclose(turn_hue(grey, turns), grey, atol=1e-6)
    soft = 0.4 + 0.2 * noise_images(2)
    assert torch.allclose(turn_hue(turn_hue(soft, turns), -turns), soft, atol=1e-5)
    red = torch.tensor([1.0, 0.0, 0.0]).view(1, 3, 1, 1)
    assert turn_hue(red, torch.tensor([1 / 3])).flatten().tolist() == pytest.approx([0, 1, 0], abs=1e-6)


@pytest.mark.parametrize("name", ["brightness", "contrast", "saturation", "hue"])
def test_each_strength_of_the_jitter_counts(name: str) -> None:
    off = {"brightness": 0.0, "contrast": 0.0, "saturation": 0.0, "hue": 0.0}
    images = noise_images()
    assert torch.allclose(augmented(ColourJitter(**off), images).images, images, atol=1e-6)
    weak, strong = (augmented(ColourJitter(**{**off, name: value}), images).images for value in (0.1, 0.4))
    assert 0 < (weak - images).abs().mean() < (strong - images).abs().mean()


@pytest.mark.parametrize(
    "make",
    [
        lambda: GaussianNoise(deviation=-1),
        lambda: Cutout(side=0),
        lambda: Cutout(grey=2),
        lambda: MixUp(alpha=0),
        lambda: CutMix(alpha=0),
        lambda: RandomResizedCrop(smallest_area=0),
        lambda: RandomResizedCrop(widest=0.5),
        lambda: ColourJitter(contrast=2),
        lambda: ColourJitter(hue=0.6),
        lambda: RandomInterpolation(reach=0),
        lambda: RandomSharpening(centre=1),
        lambda: RandomSharpening(kept=0),
        lambda: RandomSharpening(deviation=-1),
        lambda: NonlinearTransformations(threshold=0),
        lambda: NonlinearTransformations(threshold=1),
    ],
)
def test_settings_out_of_range_are_refused(make: Callable[[], Augmentation]) -> None:
    with pytest.raises(ValueError, match=r"expected a number [<>]"):
        make()


def test_interpolation_reads_each_pixel_from_within_its_reach() -> None:
    ramp = (torch.arange(32) / 64).expand(8, 3, 32, 32).clone()
    read = augmented(RandomInterpolation(reach=2.0), ramp).images
    moved = 64 * (read - ramp)[..., 2:-2]
    assert moved.abs().max() <= 2 + 1e-3
    assert moved.std() == pytest.approx(2 / 3**0.5, rel=0.05)  # uniform from -2 to 2
    assert moved.mean().abs() < 0.05
    assert torch.equal(read[:, 0], read[:, 1])  # all channels of a pixel move together
    flat = torch.full((2, 3, 8, 8), 0.25)
    assert torch.allclose(augmented(RandomInterpolation(), flat).images, flat, atol=1e-6)


def test_sharpening_without_chance_or_filter_is_a_fixed_kernel() -> None:
    point = torch.zeros(1, 3, 9, 9)
    point[..., 4, 4] = 0.25
    sharp = augmented(RandomSharpening(centre=2.0, deviation=0.0, kept=1.0), point + 0.5).images - 0.5
    assert sharp[0, 0, 4, 4] == pytest.approx(0.5, abs=1e-5)
    assert sharp[0, 0, 3, 4] == pytest.approx(-0.0625, abs=1e-5)
    assert sharp[0, 0, 3, 3] == pytest.approx(0.0, abs=1e-5)


def test_sharpening_keeps_the_lowest_cosines_alone() -> None:
    place = torch.arange(20) + 0.5
    low, high = (0.2 * torch.cos(torch.pi * frequency * place / 20).expand(1, 3, 20, 20) for frequency in (5, 6))
    quiet = RandomSharpening(centre=1.0 + 1e-6, deviation=0.0, kept=0.3)
    assert torch.allclose(augmented(quiet, 0.5 + low).images, 0.5 + low, atol=1e-4)
    assert torch.allclose(augmented(quiet, 0.5 + high).images, torch.full_like(high, 0.5), atol=1e-4)


def test_sharpening_draws_a_kernel_per_image() -> None:
    same = noise_images(1).expand(4, -1, -1, -1).clone()
    drawn = augmented(RandomSharpening(), same).images
    assert len({image.sum().item() for image in drawn}) == 4


def test_nonlinear_transformations_are_the_four_that_they_say() -> None:
    images = noise_images(1).expand(64, -1, -1, -1).clone()
    changed = augmented(NonlinearTransformations(), images).images
    dilated = nn.functional.max_pool2d(images[:1], 3, stride=1, padding=1)
    expected = (images[:1], dilated, functional.gaussian_blur(images[:1], [3, 3]), (images[:1] > 0.5).float())
    counts = [sum(torch.allclose(image, one[0]) for image in changed) for one in expected]
    assert sum(counts) == 64
    assert min(counts) > 5


@pytest.mark.parametrize("side", [1, 4])
def test_a_dilation_has_an_odd_side(side: int) -> None:
    with pytest.raises(ValueError, match=f"side is {side}, expected"):
        NonlinearTransformations(side=side)
