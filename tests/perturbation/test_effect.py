import tracemalloc
from typing import Any

import numpy as np
import pytest

from mtlue_cli.perturbation import effect as effect_module
from mtlue_cli.perturbation.bound import LEVELS, Pixels, is_grey, protect_pixels
from mtlue_cli.perturbation.effect import (
    SAMPLE_PIXELS,
    Change,
    Effect,
    Shortfall,
    is_changed,
    is_less_than_recorded,
    least_mean_change,
    measure,
    measure_change,
    measure_effect,
)

RNG = np.random.default_rng(4)
EPSILON = 8
COLOUR = RNG.integers(20, 236, (40, 30, 3), dtype=np.uint8)
GREY = RNG.integers(20, 236, (40, 30), dtype=np.uint8)
SIGNS = RNG.choice([-1, 1], (8, 8)).astype(np.float32)
LUMINANCE = np.stack([6 * SIGNS] * 3)
TINT = np.stack([-3 * SIGNS, 6 * SIGNS, -3 * SIGNS])
"""Green against magenta: its mean over the colours is nothing."""


def of(pixels: Pixels, delta: np.ndarray, saved: Pixels | None = None, epsilon: int = EPSILON) -> Effect:
    return measure_effect(pixels, protect_pixels(pixels, delta, epsilon) if saved is None else saved, delta, epsilon)


def lacking(pixels: Pixels, delta: np.ndarray, saved: Pixels | None = None, epsilon: int = EPSILON) -> Shortfall | None:
    return measure(pixels, protect_pixels(pixels, delta, epsilon) if saved is None else saved, delta, epsilon).lacking


def test_effect_by_hand() -> None:
    original = np.full((4, 4, 3), (100, 120, 140), dtype=np.uint8)
    delta = np.broadcast_to(np.array([4, -4, 2], dtype=np.float32)[:, None, None], (3, 2, 2))
    saved = (original + np.array([2, -4, 0])).astype(np.uint8)
    effect = of(original, delta, saved)
    # Without their means, 2/3 and -2/3: variances 36/3 - 4/9 and 20/3 - 4/9, covariance 24/3 + 4/9.
    assert effect.strength == pytest.approx(np.sqrt(104 / 9) / 8)
    assert effect.share == pytest.approx(76 / 104)
    assert effect.correlation == pytest.approx(76 / np.sqrt(104 * 56))


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.float32])
def test_the_unit_is_a_level_whatever_the_type(kind: type) -> None:
    white = 1 if kind is np.float32 else np.iinfo(kind).max
    pixels: Pixels = (np.full((9, 9, 3), (0.3, 0.5, 0.7)) * white).astype(kind)
    effect = of(pixels, LUMINANCE)
    assert effect.share == pytest.approx(1, abs=0.1)
    assert effect.correlation > 0.95


def test_an_image_without_change_carries_nothing() -> None:
    assert of(COLOUR, LUMINANCE, COLOUR) == Effect(of(COLOUR, LUMINANCE).strength, 0, 0)
    assert of(COLOUR, np.zeros((3, 8, 8), dtype=np.float32)) == Effect(0, 0, 0)


def test_the_effect_of_a_large_photo_is_that_of_a_sample_of_its_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    large = RNG.integers(0, 256, (900, 500, 3), dtype=np.uint8)
    large[:300] = 0
    assert large.shape[0] * large.shape[1] > 20 * SAMPLE_PIXELS
    found = of(large, LUMINANCE)
    monkeypatch.setattr(effect_module, "SAMPLE_PIXELS", large.size)
    whole = of(large, LUMINANCE)
    assert found != whole
    assert found.strength == pytest.approx(whole.strength, rel=0.02)
    assert found.share == pytest.approx(whole.share, abs=0.02)
    assert 0.6 < whole.share < 0.9  # a third of it is black: there half of the perturbation arrives


def test_what_arrives_of_a_colour_in_a_grey_photo() -> None:
    for pixels in (GREY, np.stack([GREY] * 3, axis=-1)):
        assert of(pixels, LUMINANCE).share == pytest.approx(1, abs=0.05)
        assert of(pixels, TINT).share == pytest.approx(0, abs=0.05)
        assert lacking(pixels, LUMINANCE) is None
        assert lacking(pixels, TINT) is Shortfall.GREY
    assert lacking(COLOUR, TINT) is None


def test_every_shortfall() -> None:
    assert lacking(COLOUR, LUMINANCE / 8) is Shortfall.WEAK
    halves = np.where(RNG.random((40, 30, 1)) < 0.5, 0, 255).astype(np.uint8).repeat(3, axis=2)
    inward = protect_pixels(halves, LUMINANCE, EPSILON)
    assert lacking(halves, LUMINANCE, inward) is None  # half of it has room
    assert lacking(halves, LUMINANCE, halves) is Shortfall.NO_ROOM
    assert lacking(COLOUR, LUMINANCE / 15, epsilon=1) is Shortfall.ROUNDED
    noise = (COLOUR + RNG.choice([-8, 8], COLOUR.shape)).astype(np.uint8)
    assert lacking(COLOUR, LUMINANCE, noise) is Shortfall.ROUNDED


def test_an_image_that_nobody_sees_or_that_has_no_label_is_not_protected() -> None:
    saved, clear = protect_pixels(COLOUR, LUMINANCE, EPSILON), np.zeros(COLOUR.shape[:2], np.uint8)
    faint, visible = clear + np.uint8(12), clear + np.uint8(13)  # around LEAST_OPACITY
    assert measure(COLOUR, saved, LUMINANCE, EPSILON, visible).lacking is None
    for alpha in (clear, faint):
        assert measure(COLOUR, saved, LUMINANCE, EPSILON, alpha).lacking is Shortfall.TRANSPARENT
        found = measure(COLOUR, saved, LUMINANCE, EPSILON, alpha, labelled=False)
        assert found.lacking is Shortfall.UNLABELLED
    assert found.change == measure_change(COLOUR, saved)
    assert found.effect == measure_effect(COLOUR, saved, LUMINANCE, EPSILON, faint)


def test_grey_is_reported_apart_from_colour() -> None:
    grey = np.stack([GREY] * 3, axis=-1)
    noisy = grey + RNG.integers(0, 3, grey.shape, dtype=np.uint8)
    assert all(map(is_grey, (GREY, grey, noisy, grey / 255, GREY.astype(np.uint16) * 257)))
    marked = grey.copy()
    marked[5, 5] = 255, 0, 0
    assert is_grey(marked)  # one pixel of 1200
    marked[6, 6] = 255, 0, 0
    assert not is_grey(marked)
    assert not is_grey(COLOUR)
    assert not is_grey(grey + np.array([0, 0, 3], dtype=np.uint8))


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.float64])
def test_grey_has_the_same_limit_in_every_type(kind: type) -> None:
    unit = 1 / 255 if kind is np.float64 else np.iinfo(kind).max // 255
    grey = np.stack([GREY // 2] * 3, axis=-1).astype(np.float64) * unit
    slack = 0.01 * unit if kind is np.float64 else 0
    noise, tint = (np.array([0, 0, levels * unit - slack]) for levels in (2, 3))
    assert is_grey((grey + noise).astype(kind))
    assert not is_grey((grey + tint).astype(kind))


def test_a_grey_photo_in_three_channels_stays_grey() -> None:
    saved = protect_pixels(np.stack([GREY] * 3, axis=-1), TINT + LUMINANCE, EPSILON)
    assert (saved == saved[..., :1]).all()
    assert np.array_equal(saved[..., 0], protect_pixels(GREY, TINT + LUMINANCE, EPSILON))


@pytest.mark.parametrize("epsilon", range(1, 65))
def test_the_least_mean_change_survives_rounding(epsilon: int) -> None:
    least = least_mean_change(epsilon)
    assert least == pytest.approx(0.05 * epsilon, abs=1e-9)
    assert round(least, 3) >= least
    assert is_changed(Change(1.0, 50.0, least, least), epsilon)
    assert not is_changed(Change(1.0, 50.0, least - 1e-3, least), epsilon)
    assert not is_changed(Change(1.0, 50.0, least, least - 1e-3), epsilon)


def test_a_record_is_compared_with_a_tolerance_for_decoders() -> None:
    assert not is_less_than_recorded(3.7, 4.0)
    assert is_less_than_recorded(3.5, 4.0)
    assert not is_less_than_recorded(5.0, 4.0)


def test_what_transparency_hides_does_not_count() -> None:
    saved = protect_pixels(COLOUR, LUMINANCE, EPSILON)
    saved[20:] = COLOUR[20:]
    above, below = np.zeros((2, 40, 30), dtype=np.uint8)
    above[:20] = below[20:] = 255
    half = measure_effect(COLOUR, saved, LUMINANCE, EPSILON)
    assert half.share == pytest.approx(0.5, abs=0.05)
    seen = measure_effect(COLOUR, saved, LUMINANCE, EPSILON, above)
    assert seen.share == pytest.approx(1, abs=0.05)
    assert seen.strength == pytest.approx(half.strength, abs=0.08)  # of half the rows, without their own mean
    assert measure_effect(COLOUR, saved, LUMINANCE, EPSILON, below).share == 0
    assert measure_effect(COLOUR, saved, LUMINANCE, EPSILON, np.zeros_like(above)) == Effect(0, 0, 0)


@pytest.mark.parametrize("original", [COLOUR, GREY, (COLOUR / 255).astype(np.float32)])
def test_a_shift_of_the_brightness_is_no_change(original: np.ndarray) -> None:
    middle = np.clip(original, 20 if original.dtype == np.uint8 else 0.1, 200 if original.dtype == np.uint8 else 0.8)
    darker = (middle - (8 if original.dtype == np.uint8 else np.float32(8 / 255))).astype(original.dtype)
    change = measure_change(middle, darker)
    assert change.mean == pytest.approx(8, abs=1e-3)
    assert change.spread == pytest.approx(0, abs=1e-3)
    assert not is_changed(change, EPSILON)
    shift = np.full((3, 8, 8), -8, np.float32)
    assert measure_effect(middle, darker, shift, EPSILON) == Effect(0.0, 0.0, 0.0)
    effect = measure_effect(middle, darker, shift + LUMINANCE, EPSILON)
    assert effect.strength > 0
    assert effect.share == pytest.approx(0, abs=0.02)


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
def test_floating_point_pixels_are_compared_a_strip_at_a_time(kind: type[np.floating[Any]]) -> None:
    rng = np.random.default_rng(0)
    original = rng.random((900, 900, 3), dtype=np.float32).astype(kind)
    saved = np.clip(original + rng.normal(0, 0.02, original.shape), 0, 1).astype(kind)
    tracemalloc.start()
    change = measure_change(original, saved)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 50_000_000  # all at once: 78 MB
    difference = (saved.astype(np.float64) - original) * LEVELS
    assert change.largest == pytest.approx(np.abs(difference).max())
    assert change.mean == pytest.approx(np.abs(difference).mean())
    assert change.spread == pytest.approx(difference.std())
    assert change.psnr == pytest.approx(10 * np.log10(LEVELS**2 / np.square(difference).mean()))
