import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mtlue_cli.commands.decoders import reading_photos
from mtlue_cli.errors import ImageError
from mtlue_cli.images.decode import decode_bytes, decode_image, pixel_count, upright_frame
from mtlue_cli.images.square import to_square
from tests.images.pictures import encoded, seen_upright

RNG = np.random.default_rng(0)
COLOUR = RNG.integers(0, 256, (6, 9, 3), dtype=np.uint8)
GREY = COLOUR[..., 0]
ALPHA = RNG.integers(0, 256, (6, 9), dtype=np.uint8)
DEEP = RNG.integers(0, 65536, (6, 9), dtype=np.uint16)


@pytest.mark.parametrize("name", ["PNG", "BMP", "TIFF", "WEBP"])
def test_colour_is_read_as_it_is(name: str) -> None:
    image = decode_bytes(encoded(Image.fromarray(COLOUR), name, **({"lossless": True} if name == "WEBP" else {})))
    assert np.array_equal(image.pixels, COLOUR)
    assert image.alpha is None
    assert image.format == name
    assert image.size == (6, 9)


@pytest.mark.parametrize("name", ["PNG", "TIFF"])
def test_sixteen_bit_grey_stays(name: str) -> None:
    image = decode_bytes(encoded(Image.fromarray(DEEP), name))
    assert image.pixels.dtype == np.uint16
    assert np.array_equal(image.pixels, DEEP)
    assert np.array_equal(to_square(image, 4)[0], to_square(image, 4)[2])


def test_grey_alpha_palette_and_bitmap() -> None:
    grey = decode_bytes(encoded(Image.fromarray(GREY)))
    assert np.array_equal(grey.pixels, GREY)
    both = decode_bytes(encoded(Image.fromarray(np.dstack([GREY, ALPHA]))))
    assert np.array_equal(both.pixels, GREY)
    assert np.array_equal(both.alpha, ALPHA)  # type: ignore[arg-type]  # not None, or unequal
    rgba = decode_bytes(encoded(Image.fromarray(np.dstack([COLOUR, ALPHA]))))
    assert np.array_equal(rgba.pixels, COLOUR)
    assert np.array_equal(rgba.alpha, ALPHA)  # type: ignore[arg-type]  # not None, or unequal
    palette = Image.fromarray(COLOUR).quantize(8)
    assert np.array_equal(decode_bytes(encoded(palette)).pixels, np.asarray(palette.convert("RGB")))
    see_through = decode_bytes(encoded(palette, transparency=0))
    assert see_through.alpha is not None
    assert set(np.unique(see_through.alpha)) == {0, 255}
    bitmap = decode_bytes(encoded(Image.fromarray(GREY).convert("1")))
    assert set(np.unique(bitmap.pixels)) == {0, 255}


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = decode_bytes(encoded(Image.fromarray(COLOUR), exif=exif.tobytes()))
    expected = seen_upright(COLOUR, orientation)
    assert np.array_equal(image.pixels, expected)
    assert image.metadata.exif is None


def test_metadata_travel_without_previews() -> None:
    exif = Image.Exif()
    exif[0x010E] = "a description"
    exif[0x0112] = 6
    exif[0x8769] = {0x9003: "2020:01:01 00:00:00", 0x927C: b"a preview in a maker note", 0xA002: 9}
    image = decode_bytes(encoded(Image.fromarray(COLOUR), "JPEG", exif=exif.tobytes(), icc_profile=b"profile"))
    assert image.icc_profile == b"profile"
    assert image.metadata.exif is not None
    kept = Image.Exif()
    kept.load(image.metadata.exif)
    assert dict(kept)[0x010E] == "a description"
    assert 0x0112 not in kept
    assert dict(kept.get_ifd(0x8769)) == {0x9003: "2020:01:01 00:00:00"}
    assert b"preview" not in image.metadata.exif


def test_the_profile_of_other_colours_is_dropped() -> None:
    image = decode_bytes(encoded(Image.fromarray(COLOUR).convert("CMYK"), "JPEG", icc_profile=b"profile"))
    assert image.pixels.shape == (6, 9, 3)
    assert image.icc_profile is None


def deep_colour_png() -> bytes:
    content = bytearray(encoded(Image.fromarray(COLOUR)))
    content[24] = 16
    content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
    return bytes(content)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is empty"),
        (b"GIF89a" + bytes(40), "it is empty|not a supported image"),
        (encoded(Image.fromarray(COLOUR))[:-40], "damaged"),
        (encoded(Image.fromarray(np.tile(COLOUR, (40, 40, 1))), "JPEG")[:2000], "damaged"),
        (
            encoded(Image.fromarray(COLOUR), "TIFF", save_all=True, append_images=[Image.fromarray(COLOUR)]),
            "several frames",
        ),
        (
            encoded(Image.fromarray(COLOUR), "WEBP", save_all=True, append_images=[Image.fromarray(255 - COLOUR)]),
            "several frames",
        ),
        (encoded(Image.fromarray(COLOUR[..., 0].astype(np.float32)), "TIFF"), "32-bit"),
        (deep_colour_png(), "more than 8 bits per colour"),
    ],
)
def test_what_cannot_be_protected_says_why(content: bytes, reason: str) -> None:
    with pytest.raises(ImageError, match=reason):
        decode_bytes(content)


def test_too_large() -> None:
    with reading_photos(50), pytest.raises(ImageError, match="the limit is 50"):
        decode_bytes(encoded(Image.fromarray(COLOUR)))


def test_files(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(encoded(Image.fromarray(COLOUR)))
    (tmp_path / "b.png").write_bytes(b"nothing")
    assert pixel_count((tmp_path / "a.png").read_bytes()) == 54
    assert pixel_count((tmp_path / "b.png").read_bytes()) == 0
    assert decode_image(tmp_path / "a.png").size == (6, 9)
    with pytest.raises(ImageError, match="cannot be read"):
        decode_image(tmp_path / "absent.png")


def test_the_square_is_the_generator_s_view() -> None:
    flat = decode_bytes(encoded(Image.new("RGB", (40, 20), (10, 20, 30))))
    square = to_square(flat, 8)
    assert square.shape == (3, 8, 8)
    assert square.dtype == np.uint8
    assert square[:, 3, 3].tolist() == [10, 20, 30]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_size_by_the_header_is_that_of_the_decoded_photo(orientation: int, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    for name in ("a.jpg", "a.png", "a.tif"):
        Image.new("RGB", (9, 6)).save(tmp_path / name, exif=exif)
        assert upright_frame(tmp_path / name) == (*decode_image(tmp_path / name).size, orientation)
    (tmp_path / "b.jpg").write_bytes(b"none")
    assert upright_frame(tmp_path / "b.jpg") is None
    assert upright_frame(tmp_path / "none.jpg") is None
