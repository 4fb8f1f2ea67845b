"""Procedural images: seeded, varied, and with spectra that fall like those of photos."""

from itertools import pairwise

import pytest
import torch

from mtlue_cli.images.procedural import CHUNK, ProceduralSettings, draw_procedural

SIDE = 48


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return draw_procedural(CHUNK + 6, SIDE, seed=3)


def test_a_seed_gives_the_same_images_and_more_of_them(images: torch.Tensor) -> None:
    assert images.shape == (CHUNK + 6, 3, SIDE, SIDE)
    assert images.dtype == torch.uint8
    torch.manual_seed(5)
    state = torch.get_rng_state()
    assert torch.equal(draw_procedural(10, SIDE, seed=3), images[:10])
    assert torch.equal(torch.get_rng_state(), state)
    assert not torch.equal(draw_procedural(10, SIDE, seed=4), images[:10])
    assert not torch.equal(images[:6], images[CHUNK:])


def test_images_are_varied_within_and_between(images: torch.Tensor) -> None:
    values = images.float()
    assert values.std(dim=(1, 2, 3)).min() > 5
    assert values.mean(dim=(1, 2, 3)).std() > 15
    assert len(torch.unique(images.flatten(1), dim=0)) == len(images)
    grey = (values.amax(dim=1) - values.amin(dim=1)).amax(dim=(1, 2)) < 2
    assert grey.sum() < len(images) / 4


def test_the_spectrum_falls_as_that_of_photos_does(images: torch.Tensor) -> None:
    power = torch.fft.rfft2(images.float().mean(dim=1)).abs().square().mean(dim=0)[0, 1:]
    octaves = [power[low : 2 * low].mean().log2() for low in (1, 2, 4, 8)]
    falls = [float(before - after) for before, after in pairwise(octaves)]
    assert all(0.8 < fall < 4 for fall in falls)


@pytest.mark.parametrize(
    "changed",
    [
        {"leaves": 3},
        {"smallest_leaf": 0.2},
        {"largest_leaf": 0.2},
        {"slope": (3.0, 3.5)},
        {"colour": 0.0},
        {"contrast": (0.01, 0.02)},
        {"grey_share": 1.0},
    ],
)
def test_each_setting_shows(images: torch.Tensor, changed: dict[str, object]) -> None:
    other = draw_procedural(6, SIDE, 3, ProceduralSettings(**changed))  # type: ignore[arg-type]  # a test's table
    assert not torch.equal(other, images[:6])
