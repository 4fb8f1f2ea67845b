from itertools import pairwise, product

import flip_evaluator
import msgspec
import numpy as np
import numpy.typing as npt
import pytest

from mtlue_cli.metrics.flip import SAMPLE, TILE, MeanFlip, flip, mean_flip, sampled, tiles

RNG = np.random.default_rng(5)
PHOTO = RNG.integers(20, 230, (40, 56, 3), dtype=np.uint8)
SAVED = PHOTO + RNG.integers(0, 9, PHOTO.shape, dtype=np.uint8)


def test_equal_images_have_none() -> None:
    for pixels in (PHOTO, PHOTO[..., 0], PHOTO.astype(np.uint16) * 257, PHOTO / 255, PHOTO[:1, :1]):
        assert flip(pixels, pixels) == 0


def test_a_small_image_is_judged_whole_as_the_authors_do() -> None:
    before, after = (np.float32(pixels / 255) for pixels in (PHOTO, SAVED))
    _, expected, _ = flip_evaluator.evaluate(before, after, "LDR", applyMagma=False)
    assert flip(PHOTO, SAVED) == pytest.approx(expected, abs=1e-5)
    assert 0 < flip(PHOTO, SAVED) < flip(PHOTO, 255 - PHOTO) <= 1


def test_black_and_white_are_as_far_apart_as_can_be() -> None:
    black = np.zeros((30, 30), np.uint8)
    # 1 is the distance of the colours that are furthest apart, green and blue.
    assert 0.9 < flip(black, black + 255) < 1
    assert flip(black, black + 8) == pytest.approx(flip(black + 8, black))


def test_grey_counts_as_three_equal_channels_and_16_bits_as_8() -> None:
    grey, saved = PHOTO[..., 0], SAVED[..., 0]
    three = flip(np.repeat(grey[..., None], 3, axis=2), np.repeat(saved[..., None], 3, axis=2))
    assert three > 0
    assert flip(grey, saved) == pytest.approx(three)
    assert flip(grey.astype(np.uint16) * 257, saved.astype(np.uint16) * 257) == pytest.approx(three, abs=1e-5)
    assert flip(grey / 255, saved / 255) == pytest.approx(three, abs=1e-5)


@pytest.mark.parametrize("saved", [SAVED[1:], SAVED.astype(np.uint16)])
def test_what_cannot_be_compared_is_refused(saved: npt.NDArray[np.generic]) -> None:
    with pytest.raises(ValueError, match="the original is"):
        flip(PHOTO, saved)


def test_a_large_image_is_judged_on_a_grid_of_tiles() -> None:
    assert tiles(512, 512) == [(slice(512), slice(512))]
    starts = [(rows.start, columns.start) for rows, columns in tiles(2000, 3000)]
    assert starts == list(product((186, 686, 1186, 1686), (311, 1061, 1811, 2561)))
    assert {tile.stop - tile.start for pair in tiles(2000, 3000) for tile in pair} == {TILE}
    assert [rows for rows, _ in tiles(1, 300_000)] == [slice(0, 1)] * 4
    rows, columns = zip(*tiles(300, 1000), strict=True)
    assert {found.start for found in rows} == {0, 75, 150, 225}  # none twice
    assert {found.stop for found in columns} == {189, 439, 689, 939}


def test_tiles_are_at_full_resolution_and_the_rest_does_not_count() -> None:
    large = np.tile(PHOTO, (20, 14, 1))
    assert flip(large, np.tile(SAVED, (20, 14, 1))) == pytest.approx(flip(PHOTO, SAVED), rel=0.05)
    changed = large.copy()
    assert all(rows.start > 20 for rows, _ in tiles(*large.shape[:2]))
    changed[:20] = 0
    assert flip(large, changed) == 0
    rows, columns = tiles(*large.shape[:2])[2]
    changed[rows, columns] = 255 - changed[rows, columns]
    inverted = flip(large[rows, columns], 255 - large[rows, columns])
    assert flip(large, changed) == pytest.approx(inverted / 16, rel=0.02) == flip(large, changed)


def test_a_sample_is_even_and_the_same_in_any_order() -> None:
    names = [f"{number:03}" for number in range(100)]
    sample = sampled(reversed(names))
    assert sample == sampled(names)
    assert len(sample) == SAMPLE
    assert {int(after) - int(before) for before, after in pairwise(sample)} <= {4, 5}
    assert sampled(names, most=4) == ["000", "025", "050", "075"]
    assert sampled(["b", "a"]) == ["a", "b"]
    assert sampled([]) == []


def test_a_mean_and_its_document() -> None:
    assert mean_flip([]) is None
    found = mean_flip([(PHOTO, PHOTO), (PHOTO, SAVED)])
    assert found == MeanFlip(flip(PHOTO, SAVED) / 2, 2)
    assert MeanFlip(0.25, 2).to_json() == {"mean": 0.25, "files": 2, "pixels_per_degree": 67}
    assert msgspec.convert({"mean": 0.25, "files": 2, "pixels_per_degree": 67}, MeanFlip) == MeanFlip(0.25, 2)
    assert MeanFlip(0.15, 24).described().startswith("0.150 (mean of 24 files; 0 = identical")
