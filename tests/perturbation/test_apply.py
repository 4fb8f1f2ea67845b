import numpy as np
import pytest
import torch

from mtlue_cli.perturbation.apply import measure_change, protect_pixels
from mtlue_cli.perturbation.bound import Pixels
from mtlue_cli.perturbation.resize import STRIP_PIXELS, quantised, scaled_strips

RNG = np.random.default_rng(2)


def scaled(delta: np.ndarray, height: int, width: int) -> np.ndarray:
    return np.concatenate([values for _, values in scaled_strips(delta, height, width)])


@pytest.mark.parametrize(("height", "width"), [(16, 16), (41, 23), (5, 100), (7, 7), (1, 1)])
def test_scaling_agrees_with_the_antialiased_bilinear_of_torch_and_keeps_the_range(height: int, width: int) -> None:
    delta = RNG.normal(0, 5, (3, 16, 16)).astype(np.float32)
    ours = scaled(delta, height, width)
    theirs = torch.nn.functional.interpolate(
        torch.from_numpy(delta)[None], size=(height, width), mode="bilinear", antialias=True, align_corners=False
    )[0].permute(1, 2, 0)
    assert ours.shape == (height, width, 3)
    assert np.abs(ours).max() <= np.abs(delta).max() * (1 + 1e-6)
    np.testing.assert_allclose(ours, theirs.numpy(), atol=1e-4)


def test_strips_cover_a_large_photo_without_seams() -> None:
    delta = RNG.normal(0, 5, (8, 8)).astype(np.float32)
    height = STRIP_PIXELS // 64 * 2 + 3
    strips = list(scaled_strips(delta, height, 64))
    assert len(strips) == 3
    whole = np.concatenate([values for _, values in strips])
    assert whole.shape == (height, 64)
    assert np.abs(np.diff(whole, axis=0)).max() < 0.1


@pytest.mark.parametrize("epsilon", [1, 8, 64])
@pytest.mark.parametrize(
    "pixels",
    [
        RNG.integers(0, 256, (30, 21, 3), dtype=np.uint8),
        RNG.integers(0, 256, (30, 21), dtype=np.uint8),
        RNG.integers(0, 65536, (30, 21), dtype=np.uint16),
        np.full((3, 4, 3), 255, dtype=np.uint8),
    ],
    ids=["colour", "grey", "deep", "white"],
)
def test_no_pixel_leaves_the_bound(pixels: Pixels, epsilon: int) -> None:
    delta = np.full((3, 8, 8), 1e6, dtype=np.float32) * RNG.choice([-1, 1], (3, 8, 8)).astype(np.float32)
    protected = protect_pixels(pixels, delta, epsilon)
    assert protected.dtype == pixels.dtype
    change = measure_change(pixels, protected)
    assert 0 < change.largest <= epsilon


def test_a_constant_perturbation_is_added_everywhere() -> None:
    pixels = np.full((5, 6, 3), 100, dtype=np.uint8)
    delta = np.stack([np.full((4, 4), level, dtype=np.float32) for level in (3, -2, 0)])
    assert (protect_pixels(pixels, delta, 8) == [103, 98, 100]).all()
    grey = protect_pixels(pixels[..., 0], np.abs(delta) * 3, 8)
    assert (grey == 105).all()


def test_values_that_are_not_finite_are_refused() -> None:
    delta = np.zeros((3, 4, 4), dtype=np.float32)
    delta[0, 0, 0] = np.nan
    with pytest.raises(ValueError, match="finite"):
        protect_pixels(np.zeros((4, 4, 3), dtype=np.uint8), delta, 8)


def test_change_by_hand() -> None:
    original = np.zeros((2, 2), dtype=np.uint8)
    saved = np.array([[0, 0], [0, 4]], dtype=np.uint8)
    change = measure_change(original, saved)
    assert change.largest == 4
    assert change.psnr == pytest.approx(10 * np.log10(255**2 / 4))
    assert measure_change(original, original).psnr is None
    deep = measure_change(np.array([[257]], dtype=np.uint16), np.array([[0]], dtype=np.uint16))
    assert deep.largest == 1
    assert deep.psnr == pytest.approx(10 * np.log10(255**2))
    with pytest.raises(ValueError, match="saved pixels"):
        measure_change(original, saved[:1])


def test_rounding_to_sixteenths() -> None:
    assert quantised(np.array([0.03, 0.04, -1.0], dtype=np.float32)).tolist() == [0.0, 0.0625, -1.0]


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("epsilon", [1, 8, 63])
def test_floating_point_pixels_stay_within_the_bound_and_in_range(kind: type, epsilon: int) -> None:
    pixels: Pixels = RNG.random((40, 40, 3)).astype(kind)
    pixels[:2], pixels[2:4] = 0, 1
    delta = np.full((3, 8, 8), 1e6, dtype=np.float32) * RNG.choice([-1, 1], (3, 8, 8)).astype(np.float32)
    protected = protect_pixels(pixels, delta, epsilon)
    change = np.abs(protected.astype(np.float64) - pixels.astype(np.float64))
    assert protected.dtype == kind
    assert change.max() <= epsilon / 255
    assert change.max() > 0.9 * epsilon / 255
    assert (protected >= 0).all()
    assert (protected <= 1).all()
    measured = measure_change(pixels, protected)
    assert measured.largest == pytest.approx(255 * change.max(), abs=1e-6)
    assert measured.largest <= epsilon
    assert measure_change(pixels, pixels.copy()).psnr is None
