"""Preprocessing: values worked out by hand, and what each setting changes."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from mtlue_cli.verification.countermeasures.base import CHUNK, AttackerView, Preprocessing, rounded
from mtlue_cli.verification.countermeasures.preprocessing import (
    Blur,
    ChromaBlur,
    FewerBits,
    JpegRoundTrip,
    LowPass,
    ResizeDownUp,
    ToGrayscale,
)
from tests.multitask_sample import TASKS, draw_sample


def flat(red: int, green: int, blue: int, size: int = 16) -> Tensor:
    """One image of one colour."""
    return torch.tensor([red, green, blue], dtype=torch.uint8).view(1, 3, 1, 1).expand(1, 3, size, size).clone()


def wave(periods: int, size: int = 32) -> Tensor:
    """One grey image, 128 plus or minus 100, a cosine of so many periods from left to right."""
    across = 128 + 100 * torch.cos(2 * math.pi * periods * torch.arange(size) / size)
    return across.round().to(torch.uint8).expand(1, 3, size, size).clone()


def view(on_progress: Callable[[float], None] | None = None) -> AttackerView:
    return AttackerView({}, TASKS, None, 16, 0, torch.device("cpu"), on_progress)


def test_values_are_rounded_and_clipped() -> None:
    assert rounded(torch.tensor([-3.0, 0.4, 0.6, 254.6, 300.0])).tolist() == [0, 0, 1, 255, 255]


def test_release_and_judged_images_go_through_the_same_rule_a_chunk_at_a_time() -> None:
    sizes: list[int] = []

    class Inverted(Preprocessing):
        def __call__(self, images: Tensor) -> Tensor:
            sizes.append(len(images))
            return 255 - images

    images = torch.arange(CHUNK + 3, dtype=torch.int64).view(-1, 1, 1, 1).expand(-1, 3, 2, 2).to(torch.uint8)
    heard: list[float] = []
    countermeasure = Inverted()
    assert torch.equal(countermeasure.before_training(images, view(heard.append)), 255 - images)
    assert torch.equal(countermeasure.at_inference(images), 255 - images)
    assert sizes == [CHUNK, 3] * 2
    assert heard == [CHUNK / (CHUNK + 3), 1.0]
    assert countermeasure.during_training(view()) is None
    assert countermeasure.at_inference(images[:0]).shape == (0, 3, 2, 2)


def test_no_image_influences_another() -> None:
    images, _ = draw_sample(6, 32)
    for rule in (JpegRoundTrip(), ToGrayscale(), FewerBits(), Blur(), LowPass(), ResizeDownUp()):
        together, alone = rule(images), torch.cat([rule(image.unsqueeze(0)) for image in images])
        assert (together.int() - alone.int()).abs().max() <= 1, rule  # vector units may round a tie the other way


def test_a_chroma_low_pass_mixes_colour_and_keeps_luma() -> None:
    stripes = flat(160, 100, 100, size=32)
    stripes[..., 1::2] = flat(100, 100, 160, size=32)[..., 1::2]
    blurred = ChromaBlur(sigma=4.0)(stripes)
    # Lumas 117.94 and 106.84; less these, the colours are (42.06, -17.94, -17.94) and (-6.84, -6.84, 53.16), of which
    # the mean is (17.61, -12.39, 17.61).
    assert blurred[0, :, 5, 6].tolist() == [136, 106, 136]
    assert blurred[0, :, 5, 7].tolist() == [124, 94, 124]
    assert torch.equal(ChromaBlur(sigma=0.1)(stripes), stripes)


def test_jpeg_keeps_a_flat_grey_and_halves_the_resolution_of_colour() -> None:
    grey = flat(128, 128, 128)
    assert torch.equal(JpegRoundTrip(quality=10)(grey), grey)
    # Reddish and bluish columns in turn: with one chroma value for two of them, only their lumas tell them apart.
    stripes = flat(160, 100, 100)
    stripes[..., 1::2] = flat(100, 100, 160)[..., 1::2]
    read = JpegRoundTrip(quality=95)(stripes).float()
    difference = (read[..., 4:12:2] - read[..., 5:12:2]).mean(dim=(0, 2, 3))
    luma = 60 * 0.299 - 60 * 0.114
    assert difference.tolist() == pytest.approx([luma, luma, luma], abs=2)


def test_jpeg_of_lower_quality_is_further_from_the_image() -> None:
    images, _ = draw_sample(4, 32)
    low, high = (float((JpegRoundTrip(quality)(images).float() - images).abs().mean()) for quality in (10, 75))
    assert low > high > 0


def test_grayscale_is_the_luma() -> None:
    colours = torch.cat([flat(255, 0, 0), flat(0, 255, 0), flat(0, 0, 255), flat(255, 255, 255)])
    grey = ToGrayscale()(colours)
    assert grey[:, 0, 0, 0].tolist() == [76, 150, 29, 255]
    assert torch.equal(grey, grey[:, :1].expand(-1, 3, -1, -1))


@pytest.mark.parametrize(
    ("bits", "expected"),
    [(1, [0, 0, 0, 255, 255]), (2, [0, 0, 85, 170, 255]), (3, [0, 36, 36, 146, 255])],
)
def test_bit_depth_rounds_to_the_nearest_level(bits: int, expected: list[int]) -> None:
    values = torch.tensor([0, 42, 43, 130, 255], dtype=torch.uint8).view(1, 1, 1, 5)
    assert FewerBits(bits)(values).flatten().tolist() == expected


def test_blur_spreads_a_point_as_a_gaussian() -> None:
    point = flat(0, 0, 0)
    point[..., 8, 8] = 255
    weights = [math.exp(-(step**2) / 2) for step in range(-3, 4)]
    centre, beside = weights[3] / sum(weights), weights[4] / sum(weights)
    blurred = Blur(sigma=1.0)(point)
    assert blurred[0, :, 8, 8].tolist() == [round(255 * centre * centre)] * 3
    assert blurred[0, 0, 8, 9] == round(255 * centre * beside)
    assert Blur(sigma=2.0)(point)[0, 0, 8, 8] < blurred[0, 0, 8, 8]


def test_an_ideal_low_pass_keeps_what_lies_below_the_cutoff_and_nothing_above() -> None:
    ideal = LowPass(cutoff=0.25, order=None)  # of 32 pixels: up to four periods
    assert (ideal(wave(3)).int() - wave(3).int()).abs().max() <= 1
    assert (ideal(wave(5)).int() - 128).abs().max() <= 1
    wider = LowPass(cutoff=0.5, order=None)
    assert (wider(wave(5)).int() - wave(5).int()).abs().max() <= 1


@pytest.mark.parametrize(("order", "amplitude"), [(1, 100 / 5), (2, 100 / 17)])
def test_a_butterworth_low_pass_halves_the_cutoff_and_falls_off_by_its_order(order: int, amplitude: float) -> None:
    filtered = LowPass(cutoff=0.25, order=order)
    assert filtered(wave(4))[0, 0, 0, 0] == pytest.approx(128 + 50, abs=1)
    assert filtered(wave(8))[0, 0, 0, 0] == pytest.approx(128 + amplitude, abs=1)


def test_a_low_pass_keeps_the_mean_colour_and_alike_on_any_side() -> None:
    assert torch.equal(LowPass()(flat(10, 20, 30, size=15)), flat(10, 20, 30, size=15))


def test_resizing_averages_what_the_small_image_cannot_hold() -> None:
    # Columns 0, 255, 0, ...: halving weighs four neighbours by 1, 3, 3, 1, half of it black.
    columns = flat(0, 0, 0)
    columns[..., 1::2] = 255
    middle = ResizeDownUp(scale=0.5)(columns)[..., 4:12]
    assert set(middle.flatten().tolist()) <= {127, 128}


def test_a_smaller_scale_keeps_less() -> None:
    fine = wave(4)
    half, quarter = (ResizeDownUp(scale)(fine).float().std() for scale in (0.5, 0.25))
    assert half > quarter


@pytest.mark.parametrize(
    "make",
    [
        lambda: JpegRoundTrip(quality=0),
        lambda: JpegRoundTrip(quality=96),
        lambda: FewerBits(bits=0),
        lambda: FewerBits(bits=8),
        lambda: Blur(sigma=0),
        lambda: LowPass(cutoff=0),
        lambda: LowPass(cutoff=1.5),
        lambda: LowPass(order=0),
        lambda: ResizeDownUp(scale=1),
    ],
)
def test_settings_out_of_range_are_refused(make: Callable[[], Preprocessing]) -> None:
    with pytest.raises(ValueError, match=r"is .*, expected a (whole )?number [<>]"):
        make()
