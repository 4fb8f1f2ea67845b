"""Rounding by chance: right on average, exact where there is nothing to round."""

import pytest
import torch

from mtlue_cli.verification.countermeasures.base import rounded_by_chance


def test_it_is_right_on_average_and_clips() -> None:
    rng = torch.Generator().manual_seed(0)
    values = rounded_by_chance(torch.tensor([7.25, -3.4, 300.0]).expand(4000, 3), rng)
    assert set(values[:, 0].tolist()) == {7, 8}
    assert values[:, 0].double().mean().item() == pytest.approx(7.25, abs=0.03)
    assert (values[:, 1] == 0).all()
    assert (values[:, 2] == 255).all()


def test_whole_numbers_stay_and_a_seed_repeats_it() -> None:
    levels = torch.arange(256.0)
    assert torch.equal(rounded_by_chance(levels, torch.Generator().manual_seed(0)), levels.to(torch.uint8))
    first, again, other = (
        rounded_by_chance(levels[:-1] + 0.5, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
