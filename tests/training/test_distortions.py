"""Distortions: near the real thing, within range, with a gradient, and each under its own chance."""

from dataclasses import replace
from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from mtlue_cli.images.rendered_scenes import render_scene
from mtlue_cli.training.distortions import (
    PLAIN,
    DistortionSettings,
    bit_depth,
    blurred,
    distort,
    draw_distortion,
    draw_window,
    grey,
    jittered,
    jpeg_like,
    rounded_through,
    shrunk,
)

NONE = replace(PLAIN, smallest_view=1.0)


def through(images: Tensor, size: int, settings: DistortionSettings, seed: int = 0) -> Tensor:
    """A random window under ``settings``."""
    rng = torch.Generator().manual_seed(seed)
    view = draw_window(images.shape[-1], len(images), settings, rng)
    return distort(images, view, size, settings, draw_distortion(len(images), settings, rng))


@pytest.fixture(scope="module")
def images() -> Tensor:
    images = np.stack([render_scene(np.random.default_rng([1, index]), 48).image for index in range(4)])
    return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous().float() / 255


def encoded(image: Tensor, quality: int) -> Tensor:
    stream = BytesIO()
    pixels = (image * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
    Image.fromarray(pixels).save(stream, format="JPEG", quality=quality, subsampling=2)
    return torch.from_numpy(np.array(Image.open(stream))).permute(2, 0, 1) / 255


@pytest.mark.parametrize("quality", [10, 50, 90])
def test_compression_is_close_to_that_of_the_real_encoder(images: Tensor, quality: int) -> None:
    ours = jpeg_like(images, quality)
    theirs = torch.stack([encoded(image, quality) for image in images])
    apart, lost = (ours - theirs).square().mean().sqrt(), (images - theirs).square().mean().sqrt()
    assert apart < 0.35 * lost


def test_odd_sides_and_a_range_beyond_are_kept_in_shape(images: Tensor) -> None:
    odd = jpeg_like(images[..., :33, :47], 30)
    assert odd.shape == (4, 3, 33, 47)
    assert 0 <= odd.min() <= odd.max() <= 1


def test_rounding_is_exact_and_its_gradient_knows_what_rounds_away() -> None:
    values = torch.tensor([0.1, 0.49, 0.51, -1.3, 2.0], requires_grad=True)
    rounded = rounded_through(values)
    assert rounded.tolist() == [0, 0, 1, -1, 2]
    rounded.sum().backward()  # type: ignore[no-untyped-call]  # torch's stubs leave it untyped
    assert values.grad is not None
    torch.testing.assert_close(values.grad, 3 * torch.tensor([0.1, 0.49, 0.49, 0.3, 0.0]).square())


@pytest.mark.parametrize(
    "change",
    [
        lambda images: jpeg_like(images, 40),
        grey,
        lambda images: blurred(images, 0.8),
        lambda images: jittered(images, *torch.full((3, 4, 1, 1, 1), 1.3)),
        shrunk,
        lambda images: bit_depth(images, 4),
    ],
)
def test_each_keeps_shape_and_range_changes_values_and_has_a_gradient(images: Tensor, change: object) -> None:
    given = images.clone().requires_grad_()
    result = change(given)  # type: ignore[operator]  # a test's table
    assert result.shape == images.shape
    assert -1e-5 <= result.min() <= result.max() <= 1 + 1e-5
    assert not torch.allclose(result, images, atol=1e-3)
    result.square().sum().backward()
    assert given.grad is not None
    assert given.grad.isfinite().all()
    assert given.grad.abs().max() > 0


def test_known_values() -> None:
    red = torch.tensor([1.0, 0.0, 0.0]).view(1, 3, 1, 1).expand(1, 3, 8, 8)
    assert grey(red)[0, 0, 0, 0] == pytest.approx(0.299)
    torch.testing.assert_close(blurred(red, 1.0), red)
    torch.testing.assert_close(bit_depth(torch.tensor([0.1, 0.5]), 2), torch.tensor([0.0, 2 / 3]))
    same = jittered(red, *torch.ones(3, 1, 1, 1, 1))
    torch.testing.assert_close(same, red)


def test_nothing_drawn_changes_nothing_but_flips(images: Tensor) -> None:
    result = through(images, 48, NONE)
    same = [torch.equal(one, two) for one, two in zip(result, images, strict=True)]
    mirrored = [torch.equal(one, two.flip(-1)) for one, two in zip(result, images, strict=True)]
    assert all(one or two for one, two in zip(same, mirrored, strict=True))
    assert any(same)
    assert any(mirrored)


@pytest.mark.parametrize("name", ["jpeg", "grey", "blur", "jitter", "shrink", "bits"])
def test_each_chance_is_its_own(images: Tensor, name: str) -> None:
    plain, changed = (
        through(images, 48, settings)
        for settings in (NONE, replace(NONE, **{name: 1.0}))  # type: ignore[arg-type]  # chances alone
    )
    assert not torch.allclose(plain, changed, atol=1e-3)


@pytest.mark.parametrize("change", [{"quality": (90, 90)}, {"sigma": (3.0, 3.0)}, {"jitter_strength": 0.9}])
def test_each_strength_shows(images: Tensor, change: dict[str, object]) -> None:
    all_of_them = replace(NONE, jpeg=1.0, blur=1.0, jitter=1.0)
    one, two = (
        through(images, 48, settings)
        for settings in (all_of_them, replace(all_of_them, **change))  # type: ignore[arg-type]  # a test's table
    )
    assert not torch.allclose(one, two, atol=1e-3)
    assert torch.equal(one, through(images, 48, all_of_them))


def test_windows_are_resized_to_the_view(images: Tensor) -> None:
    for seed in range(4):
        settings = replace(NONE, smallest_view=0.5)
        assert through(images, 32, settings, seed).shape == (4, 3, 32, 32)


def test_a_zoom_takes_smaller_windows_and_only_by_its_chance() -> None:
    rng = torch.Generator().manual_seed(0)
    zoomed = replace(NONE, zoom=1.0, smallest_zoom=0.5)
    sides = {draw_window(48, 2, zoomed, rng).side for _ in range(40)}
    assert min(sides) < 30
    assert max(sides) <= 48
    assert {draw_window(48, 2, NONE, rng).side for _ in range(10)} == {48}


def test_windows_that_are_cut_already_keep_their_geometry(images: Tensor) -> None:
    rng = torch.Generator().manual_seed(0)
    assert torch.equal(distort(images, None, 48, NONE, draw_distortion(4, NONE, rng)), images)
    greyed = replace(NONE, grey=1.0)
    dim = distort(images, None, 48, greyed, draw_distortion(4, greyed, rng))
    assert torch.equal(dim, grey(images))


def test_depth_is_a_range() -> None:
    ramp = torch.linspace(0, 1, 48 * 48).view(1, 1, 48, 48).expand(1, 3, 48, 48)
    settings = replace(NONE, bits=1.0, depth=(1, 2))
    levels = [torch.unique(through(ramp, 48, settings, seed).mul(255).round()) for seed in range(12)]
    found = {len(values) for values in levels}
    assert found == {2, 4}


@pytest.mark.parametrize(
    "change", [{"grey": 1.5}, {"jpeg": -0.1}, {"quality": (50, 20)}, {"depth": (0, 4)}, {"smallest_zoom": 0.0}]
)
def test_settings_out_of_range_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="expected"):
        replace(NONE, **change)  # type: ignore[arg-type]  # a test's table
