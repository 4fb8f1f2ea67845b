"""A folder as one tensor: order, orientation, depth, and every fault named."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mtlue_cli.errors import InputError
from mtlue_cli.images.dataset import load_square_images


def test_images_come_in_the_order_of_the_names_and_upright(tmp_path: Path) -> None:
    left_white = np.zeros((8, 8, 3), dtype=np.uint8)
    left_white[:, :4] = 255
    Image.fromarray(left_white).save(tmp_path / "plain.png")
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    Image.fromarray(left_white).save(tmp_path / "turned.png", exif=exif)
    seen: list[int] = []
    images = load_square_images(tmp_path, ["turned.png", "plain.png"], 8, on_image=lambda: seen.append(1))
    assert images.shape == (2, 3, 8, 8)
    assert images.dtype == torch.uint8
    assert images[0, 0, 0].tolist() == [0] * 4 + [255] * 4
    assert images[1, 0, 0].tolist() == [255] * 4 + [0] * 4
    assert len(seen) == 2


def test_sixteen_bit_grey_keeps_its_shades(tmp_path: Path) -> None:
    shades = np.full((4, 4), 0x8000, dtype=np.uint16)
    Image.fromarray(shades).save(tmp_path / "deep.png")
    assert set(load_square_images(tmp_path, ["deep.png"], 4).flatten().tolist()) == {0x80}


def test_every_unreadable_file_is_named(tmp_path: Path) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "good.png")
    (tmp_path / "empty.png").write_bytes(b"")
    with pytest.raises(InputError, match="2 of 3 images") as caught:
        load_square_images(tmp_path, ["empty.png", "good.png", "gone.png"], 4)
    assert [fault.split(":")[0] for fault in caught.value.faults] == ["empty.png", "gone.png"]
