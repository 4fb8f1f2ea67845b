import numpy as np
import pytest
import torch

from mtlue_cli.perturbation import resize, shared
from mtlue_cli.perturbation.bound import Pixels, add_bounded, add_up_and_down, as_steps, protect_pixels, up_and_down
from mtlue_cli.perturbation.effect import measure, measure_change
from mtlue_cli.perturbation.resize import quantised, scaled_bytes, scaled_strips
from mtlue_cli.perturbation.shared import as_shared, computed_once

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
    height = resize._STRIP // 4 * 2 + 3
    strips = list(scaled_strips(delta, height, 4))
    assert len(strips) == 3
    whole = np.concatenate([values for _, values in strips])
    assert whole.shape == (height, 4)
    assert np.abs(np.diff(whole, axis=0)).max() < 0.1


@pytest.mark.parametrize("epsilon", [1, 8, 64])
@pytest.mark.parametrize(
    "pixels",
    [
        RNG.integers(0, 256, (30, 21, 3), dtype=np.uint8),
        RNG.integers(0, 256, (30, 21), dtype=np.uint8),
        RNG.integers(0, 65536, (30, 21), dtype=np.uint16),
        np.full((30, 21, 3), 255, dtype=np.uint8),
    ],
    ids=["colour", "grey", "deep", "white"],
)
def test_no_pixel_leaves_the_bound(pixels: Pixels, epsilon: int) -> None:
    delta = np.full((3, 8, 8), 1e6, dtype=np.float32) * RNG.choice([-1, 1], (3, 8, 8)).astype(np.float32)
    protected = protect_pixels(pixels, delta, epsilon)
    assert protected.dtype == pixels.dtype
    change = measure_change(pixels, protected)
    assert 0 < change.largest <= epsilon


@pytest.mark.parametrize("epsilon", [1, 8, 15])
def test_bytes_are_added_as_numbers_are_and_none_leaves_the_bound(epsilon: int) -> None:
    pixels, steps = np.meshgrid(np.arange(256, dtype=np.uint8), np.arange(256, dtype=np.uint8))
    protected = add_up_and_down(pixels, *up_and_down(steps, epsilon))
    assert protected.dtype == np.uint8
    assert measure_change(pixels, protected).largest == epsilon
    eighths = steps.astype(np.float32) - 128
    level = np.copysign(np.floor(np.abs(eighths) / 8 + 0.5), eighths)
    assert np.array_equal(protected, add_bounded(pixels, level, epsilon))
    with pytest.raises(ValueError, match="do not match"):
        add_up_and_down(pixels, *up_and_down(steps[:1], epsilon))


def test_steps_by_hand() -> None:
    steps = as_steps(np.array([0, 0.5, -1, 9, -1e9], dtype=np.float32), 8)
    assert steps.tolist() == [128, 132, 120, 192, 64]
    with pytest.raises(ValueError, match="fit into bytes"):
        as_steps(np.zeros(1, dtype=np.float32), 16)


@pytest.mark.parametrize("shape", [(41, 23, 3), (41, 23), (9, 100, 3), (7, 7), (1, 1, 3)])
def test_a_perturbation_scaled_as_bytes_is_that_scaled_as_numbers_but_for_rounding(shape: tuple[int, ...]) -> None:
    delta = RNG.uniform(-8, 8, (3, 16, 16) if len(shape) == 3 else (16, 16)).astype(np.float32)
    steps = as_steps(delta, 8)
    ours = scaled_bytes(steps, shape[0], shape[1])
    assert ours.shape == shape
    assert ours.flags.c_contiguous
    assert np.abs((ours.astype(np.float32) - 128) / 8 - scaled(delta, shape[0], shape[1])).max() < 0.25
    pixels = RNG.integers(0, 256, shape, dtype=np.uint8)
    colour = delta if len(shape) == 3 else np.stack([delta] * 3)
    difference = protect_pixels(pixels, colour, 8).astype(int) - add_bounded(pixels, scaled(delta, *shape[:2]), 8)
    assert np.abs(difference).max() <= 1
    assert np.abs(difference).mean() < (0.2 if difference.size > 99 else 0.5)


@pytest.mark.parametrize("side", [16, 72, 75])
@pytest.mark.parametrize("shape", [(200, 200), (72, 100), (30, 44), (1, 1), (218, 178), (400, 7)])
def test_scaling_without_torch_gives_the_same_bytes(side: int, shape: tuple[int, int]) -> None:
    for steps in (RNG.integers(8, 249, (3, side, side), np.uint8), RNG.integers(8, 249, (side, side), np.uint8)):
        assert np.array_equal(resize._scaled_by_numpy(steps, *shape), resize._scaled_by_torch(steps, *shape))


def test_what_is_computed_of_a_shared_perturbation_is_kept_and_is_the_same() -> None:
    delta = RNG.uniform(-8, 8, (3, 16, 16)).astype(np.float32)
    own = as_shared(delta.copy())
    for pixels in (RNG.integers(0, 256, (30, 20, 3), np.uint8), RNG.integers(0, 256, (30, 20), np.uint8)):
        expected = protect_pixels(pixels, delta, 8)
        for _ in range(2):
            protected = protect_pixels(pixels, own, 8)
            assert np.array_equal(protected, expected)
            assert measure(pixels, protected, own, 8) == measure(pixels, expected, delta, 8)
            alpha = RNG.integers(100, 256, (30, 20), np.uint8)
            assert measure(pixels, protected, own, 8, alpha) == measure(pixels, expected, delta, 8, alpha)


def test_what_is_kept_of_shared_perturbations_is_bounded() -> None:
    delta = RNG.uniform(-8, 8, (3, 16, 16)).astype(np.float32)
    own = as_shared(delta.copy())
    made: list[int] = []

    def compute() -> tuple[np.ndarray]:
        made.append(1)
        return (np.zeros(shared.KEPT_BYTES // 4, np.uint8),)

    for purpose in (0, 0, 1, 2, 3, 4, 0):  # the first goes when there is no room left
        computed_once(own, purpose, compute)
    assert len(made) == 6
    computed_once(delta, 0, compute)
    computed_once(delta, 0, compute)
    assert len(made) == 8


def test_a_constant_perturbation_is_added_everywhere() -> None:
    pixels = np.full((5, 6, 3), (100, 100, 110), dtype=np.uint8)
    delta = np.stack([np.full((4, 4), level, dtype=np.float32) for level in (3, -2, 0)])
    assert (protect_pixels(pixels, delta, 8) == [103, 98, 110]).all()
    grey = protect_pixels(pixels[..., 0], np.abs(delta) * 3, 8)
    assert (grey == 105).all()
    in_colour = protect_pixels(np.full((5, 6, 3), 100, dtype=np.uint8), np.abs(delta) * 3, 8)
    assert (in_colour == 105).all()


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
