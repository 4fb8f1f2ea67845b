import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from mtlue_cli.images import png
from mtlue_cli.images.png import png_bytes

RNG = np.random.default_rng(4)


@pytest.mark.parametrize("shape", [(1, 1), (5, 1, 3), (1, 9, 4), (33, 17), (33, 17, 2), (33, 17, 3), (33, 17, 4)])
@pytest.mark.parametrize("strip", [1, 100, 1 << 19])
def test_pillow_reads_what_was_written(shape: tuple[int, ...], strip: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(png, "_STRIP_BYTES", strip)
    pixels = RNG.integers(0, 256, shape, dtype=np.uint8)
    with Image.open(io.BytesIO(png_bytes(pixels))) as image:
        image.verify()
    with Image.open(io.BytesIO(png_bytes(pixels))) as image:
        assert np.array_equal(np.asarray(image), pixels)


def test_sixteen_bits_and_strided_pixels() -> None:
    deep = RNG.integers(0, 65536, (20, 13), dtype=np.uint16)
    with Image.open(io.BytesIO(png_bytes(deep))) as image:
        assert np.array_equal(np.asarray(image), deep)
    turned = np.rot90(RNG.integers(0, 256, (6, 9, 3), dtype=np.uint8))
    with Image.open(io.BytesIO(png_bytes(turned))) as image:
        assert np.array_equal(np.asarray(image), turned)


def test_profile_and_metadata_are_stored() -> None:
    exif = Image.Exif()
    exif[0x010E] = "a description"
    pixels = np.zeros((2, 2, 3), dtype=np.uint8)
    with Image.open(io.BytesIO(png_bytes(pixels, b"profile", exif.tobytes()))) as image:
        assert image.info["icc_profile"] == b"profile"
        assert image.getexif()[0x010E] == "a description"


def test_the_filter_by_hand() -> None:
    content = png_bytes(np.array([[10, 20], [30, 40]], dtype=np.uint8))
    start = content.index(b"IDAT")
    (length,) = struct.unpack(">I", content[start - 4 : start])
    filtered = zlib.decompress(content[start + 4 : start + 4 + length])
    assert list(filtered) == [3, 10, 15, 3, 25, 15]
