import base64
import io

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from mtlue_cli.verification.reports.html import MOST_SAMPLES, MOST_SIDE, draw_samples

GREY = np.full((6, 8, 3), 100, dtype=np.uint8)


def _pixels(uri: str) -> npt.NDArray[np.uint8]:
    head, _, data = uri.partition(",")
    assert head == "data:image/png;base64"
    with Image.open(io.BytesIO(base64.b64decode(data))) as picture:
        return np.asarray(picture)


def test_small_images_are_exact_and_the_change_is_times_ten_on_grey() -> None:
    protected = GREY.copy()
    protected[0, 0] = (108, 92, 100)
    protected[1, 1] = (120, 80, 101)
    (sample,) = draw_samples([GREY], [protected])
    np.testing.assert_array_equal(_pixels(sample.original), GREY)
    np.testing.assert_array_equal(_pixels(sample.protected), protected)
    change = _pixels(sample.change)
    assert change[0, 0].tolist() == [208, 48, 128]
    assert change[1, 1].tolist() == [255, 0, 138]
    assert change[5, 7].tolist() == [128, 128, 128]
    assert (sample.largest_change, sample.width, sample.height) == (20, 8, 6)


def test_large_images_are_scaled_down_but_measured_whole() -> None:
    original = np.zeros((400, 800, 3), dtype=np.uint8)
    protected = original.copy()
    protected[399, 799, 2] = 8
    (sample,) = draw_samples([original], [protected])
    assert _pixels(sample.protected).shape == (MOST_SIDE // 2, MOST_SIDE, 3)
    assert (sample.largest_change, sample.width, sample.height) == (8, 800, 400)


def test_only_the_first_few_are_drawn() -> None:
    images = [np.full((2, number + 1, 3), 100, dtype=np.uint8) for number in range(MOST_SAMPLES + 2)]
    assert [sample.width for sample in draw_samples(images, images)] == list(range(1, MOST_SAMPLES + 1))
    assert draw_samples([], []) == ()


@pytest.mark.parametrize(
    ("protected", "fault"),
    [
        ([GREY[:3]], "differ in shape"),
        ([GREY[..., 0]], r"expected \(H, W, 3\) uint8"),
        ([GREY.astype(np.float32)], "float32"),
        ([], "shorter"),
    ],
    ids=["shape", "grey", "float", "count"],
)
def test_what_does_not_fit_is_refused(protected: list[npt.NDArray[np.uint8]], fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        draw_samples([GREY], protected)


def test_masks_are_drawn_in_their_very_colours_however_large() -> None:
    image = np.zeros((4, 2 * MOST_SIDE, 3), dtype=np.uint8)
    mask = np.zeros((4, 2 * MOST_SIDE, 3), dtype=np.uint8)
    mask[:, 1::4] = mask[:, ::4] = (200, 10, 60)
    (sample,) = draw_samples([image], [image], maps=[{"mask": mask}])
    ((name, picture),) = sample.maps
    assert name == "mask"
    assert _pixels(picture).shape == (2, MOST_SIDE, 3)
    assert {tuple(colour) for colour in _pixels(picture).reshape(-1, 3).tolist()} == {(0, 0, 0), (200, 10, 60)}
    assert draw_samples([image], [image])[0].maps == ()
