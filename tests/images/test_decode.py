import io
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mtlue_cli.budget import Budget, limited_to
from mtlue_cli.choices import ImageFormat
from mtlue_cli.errors import ImageError
from mtlue_cli.images import decode
from mtlue_cli.images.decode import decode_bytes, decode_image, pixel_count, upright_frame
from mtlue_cli.images.encode import encode_image
from mtlue_cli.images.square import to_square
from tests.images.pictures import LCMS_SRGB, SRGB, encoded, seen_upright

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
    image = decode_bytes(encoded(Image.fromarray(COLOUR), "JPEG", exif=exif.tobytes(), icc_profile=LCMS_SRGB))
    assert image.icc_profile == SRGB
    assert image.metadata.exif is not None
    kept = Image.Exif()
    kept.load(image.metadata.exif)
    assert dict(kept)[0x010E] == "a description"
    assert 0x0112 not in kept
    assert dict(kept.get_ifd(0x8769)) == {0x9003: "2020:01:01 00:00:00"}
    assert b"preview" not in image.metadata.exif


def test_the_profile_of_other_colours_is_dropped() -> None:
    image = decode_bytes(encoded(Image.fromarray(COLOUR).convert("CMYK"), "JPEG", icc_profile=LCMS_SRGB))
    assert image.pixels.shape == (6, 9, 3)
    assert image.icc_profile is None
    assert image.lost_profile


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
    with limited_to(Budget(max_pixels=50)), pytest.raises(ImageError, match="the limit is 50"):
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


def test_jpeg_2000_and_tga_are_read_and_written_exactly(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (9, 7, 3)).astype(np.uint8)
    for name, image_format, mode in (("a.jp2", "JPEG2000", "RGB"), ("b.tga", "TGA", "RGB"), ("c.tga", "TGA", "L")):
        picture = Image.fromarray(pixels).convert(mode)
        picture.save(tmp_path / name, irreversible=False)
        decoded = decode_image(tmp_path / name)
        assert decoded.format == image_format
        assert np.array_equal(decoded.pixels, np.asarray(picture))
        kept = decode_bytes(encode_image(decoded.pixels, decoded, ImageFormat.KEEP))
        assert np.array_equal(kept.pixels, decoded.pixels)
        assert upright_frame(tmp_path / name) == (9, 7, 1)
        assert pixel_count((tmp_path / name).read_bytes()) == 63


def test_deep_jpeg_2000_is_refused() -> None:
    content = bytearray(encoded(Image.new("RGB", (9, 7)), "JPEG2000"))
    at = content.find(b"\xff\x4f\xff\x51")
    content[at + 42] = 11  # twelve bits
    with pytest.raises(ImageError, match="more than 8 bits per colour"):
        decode_bytes(bytes(content))


@pytest.mark.parametrize(
    "content", [b"a text that is no picture at all", b"\0" * 40, b"\0\0\2" + b"\0" * 9 + b"\1\0\1\0\x18\0"]
)
def test_what_is_no_tga_is_not_taken_for_one(content: bytes) -> None:
    with pytest.raises(ImageError, match="is not a supported image"):
        decode_bytes(content)


def test_raw_photos_are_refused_with_that_word() -> None:
    stream = io.BytesIO()
    entries = Image.Exif()
    entries[50706] = b"\1\4\0\0"
    Image.new("RGB", (9, 7)).save(stream, "TIFF", exif=entries)
    for content in (stream.getvalue(), b"II*\0\x10\0\0\0CR\2\0" + bytes(40)):
        with pytest.raises(ImageError, match="is a RAW photo"):
            decode_bytes(content)


HEIC_START = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(40)


def test_without_the_extra_heic_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode, "reads_heic", lambda: False)
    with pytest.raises(ImageError, match=r"needs an extra to be read: pip install 'mtlue\[heic\]'"):
        decode_bytes(HEIC_START)


def test_heic_is_read_with_the_extra(tmp_path: Path) -> None:
    heif = pytest.importorskip("pillow_heif")
    pixels = np.full((32, 48, 3), (200, 90, 30), np.uint8)
    heif.from_pillow(Image.fromarray(pixels)).save(tmp_path / "a.heic", quality=90)
    decoded = decode_image(tmp_path / "a.heic")
    assert (decoded.format, decoded.size) == ("HEIF", (32, 48))
    assert np.abs(decoded.pixels.astype(int) - pixels).max() < 8
    with pytest.raises(ImageError, match="which is read but not written; use --format png"):
        encode_image(decoded.pixels, decoded, ImageFormat.KEEP)
    assert (
        decode_bytes(encode_image(decoded.pixels, decoded, ImageFormat.PNG)).pixels.tolist() == decoded.pixels.tolist()
    )


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_a_tiff_in_which_0_is_white_is_seen_as_it_is_meant(kind: type) -> None:
    numbers: np.ndarray[Any, Any] = np.arange(24 * 24).reshape(24, 24).astype(kind)
    content = encoded(Image.fromarray(numbers), "TIFF")
    at = content.index(b"\x06\x01\x03\x00\x01\x00\x00\x00") + 8  # the value of PhotometricInterpretation
    inverted = content[:at] + b"\x00" + content[at + 1 :]
    assert np.array_equal(decode_bytes(content).pixels, numbers)
    assert np.array_equal(decode_bytes(inverted).pixels, np.iinfo(kind).max - numbers)
