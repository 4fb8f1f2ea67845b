from collections.abc import Mapping

import pytest
import torch
from torch import Tensor

from mtlue_cli.choices import BackboneName
from mtlue_cli.verification.conditions import Condition, Material, VictimSpec
from mtlue_cli.verification.training_images import TrainingImages, mix, uniform_noise

GREY = torch.full((6, 3, 32, 32), 128, dtype=torch.uint8)
CLEAN = torch.randint(250, (10, 3, 4, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
PROTECTED = CLEAN + 3
LABELS = {"a": torch.arange(10), "b": torch.arange(10) - 5}


def test_noise_is_uniform_within_the_bound_and_reaches_it() -> None:
    steps = uniform_noise(GREY, 4, seed=1).int() - 128
    counts = torch.bincount((steps + 4).flatten(), minlength=9)
    assert steps.min() == -4
    assert steps.max() == 4
    assert len(counts) == 9
    expected = GREY.numel() / 9
    assert (counts - expected).abs().max() < 0.1 * expected


def test_noise_does_not_wrap_around() -> None:
    ends = torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1, 1).expand(2, 3, 16, 16)
    noisy = uniform_noise(ends, 8, seed=0)
    assert noisy[0].max() <= 8
    assert noisy[1].min() >= 247


def test_noise_depends_on_the_seed_alone_and_differs_an_image() -> None:
    first, again, other = (uniform_noise(GREY, 8, seed) for seed in (3, 3, 4))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert not torch.equal(first[0], first[1])
    assert bool((GREY == 128).all())


def test_a_share_is_protected_and_the_rest_is_clean() -> None:
    images, mask = mix(PROTECTED, CLEAN, 0.3, seed=0)
    assert int(mask.sum()) == 3
    assert torch.equal(images[mask], PROTECTED[mask])
    assert torch.equal(images[~mask], CLEAN[~mask])
    assert images.dtype == torch.uint8


def test_the_ends_are_the_release_and_the_originals() -> None:
    assert torch.equal(mix(PROTECTED, CLEAN, 1.0, seed=0)[0], PROTECTED)
    assert torch.equal(mix(PROTECTED, CLEAN, 0.0, seed=0)[0], CLEAN)


def test_the_same_seed_protects_the_same_images_and_another_does_not() -> None:
    masks = [mix(PROTECTED, CLEAN, 0.5, seed)[1] for seed in (0, 0, 1)]
    assert torch.equal(masks[0], masks[1])
    assert not torch.equal(masks[0], masks[2])


def test_which_images_are_protected_does_not_depend_on_the_generator() -> None:
    assert torch.equal(mix(PROTECTED, CLEAN, 0.5, 0)[1], mix(CLEAN + 5, CLEAN, 0.5, 0)[1])


def clean_part(fraction: float) -> tuple[Tensor, Mapping[str, Tensor]]:
    condition = Condition(VictimSpec(BackboneName.SMALL), Material.CLEAN_PART, protected_fraction=fraction)
    return TrainingImages(CLEAN, lambda: PROTECTED, 8).of(condition, LABELS, seed=0)


def test_the_clean_part_keeps_images_and_labels_together() -> None:
    _, mask = mix(PROTECTED, CLEAN, 0.3, seed=0)
    rest, labels = clean_part(0.3)
    rows = [row for row in range(10) if not mask[row]]
    assert torch.equal(rest, CLEAN[rows])
    assert labels["a"].tolist() == rows
    assert labels["b"].tolist() == [row - 5 for row in rows]


def test_nothing_is_left_of_a_wholly_protected_release() -> None:
    rest, labels = clean_part(0.999)
    assert len(rest) == len(labels["a"]) == 0


def test_images_of_other_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="do not match"):
        mix(PROTECTED[:9], CLEAN, 0.5, 0)
