import torch

from mtlue_cli.verification.controls import uniform_noise

GREY = torch.full((6, 3, 32, 32), 128, dtype=torch.uint8)


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
