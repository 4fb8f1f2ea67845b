import pytest
import torch

from mtlue_cli.verification.split import draw_share

IMAGES = torch.randint(256, (40, 3, 4, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("fraction", "count"), [(0.0, 0), (0.25, 10), (0.26, 10), (1.0, 40)])
def test_the_share_is_exact(fraction: float, count: int) -> None:
    assert int(draw_share(IMAGES, fraction, 0, "test").sum()) == count


def test_an_image_is_drawn_by_its_content_wherever_it_stands() -> None:
    order = torch.randperm(40, generator=torch.Generator().manual_seed(1))
    drawn = draw_share(IMAGES, 0.5, 0, "test")
    assert torch.equal(draw_share(IMAGES[order], 0.5, 0, "test"), drawn[order])


def test_half_of_an_even_number_is_exactly_half_whatever_the_order() -> None:
    images = torch.arange(20 * 3, dtype=torch.uint8).view(20, 3, 1, 1)
    first = draw_share(images, 0.5, 0, "early stopping")
    assert int(first.sum()) == 10
    assert torch.equal(draw_share(images.flip(0), 0.5, 0, "early stopping"), first.flip(0))


def test_a_larger_share_holds_the_smaller() -> None:
    small, large = (draw_share(IMAGES, fraction, 0, "test") for fraction in (0.2, 0.6))
    assert bool(large[small].all())


def test_seed_and_purpose_draw_anew() -> None:
    first = draw_share(IMAGES, 0.5, 0, "test")
    assert not torch.equal(first, draw_share(IMAGES, 0.5, 1, "test"))
    assert not torch.equal(first, draw_share(IMAGES, 0.5, 0, "another"))


@pytest.mark.parametrize("fraction", [-0.1, 1.1, float("nan")])
def test_a_fraction_that_is_no_share_is_refused(fraction: float) -> None:
    with pytest.raises(ValueError, match="expected a share"):
        draw_share(IMAGES, fraction, 0, "test")
