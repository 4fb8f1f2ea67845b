import io

import numpy as np
import pytest
from PIL import Image

from mtlue_cli.choices import ImageFormat
from mtlue_cli.errors import ImageError
from mtlue_cli.images.decode import DecodedImage, Pixels, decode_bytes
from mtlue_cli.images.encode import comparable_pixels, encode_image, is_lossless, released_suffix, same_alpha
from mtlue_cli.images.metadata import Metadata
from tests.images.pictures import SRGB

RNG = np.random.default_rng(1)
COLOUR = RNG.integers(0, 256, (7, 5, 3), dtype=np.uint8)
ALPHA = RNG.integers(0, 256, (7, 5), dtype=np.uint8)
ALPHA[0] = 0
DEEP = RNG.integers(0, 65536, (7, 5), dtype=np.uint16)


@pytest.mark.parametrize("image_format", list(ImageFormat))
@pytest.mark.parametrize("source", ["PNG", "TIFF", "BMP", "WEBP"])
@pytest.mark.parametrize("pixels", [COLOUR, COLOUR[..., 1]], ids=["colour", "grey"])
@pytest.mark.parametrize("alpha", [None, ALPHA], ids=["opaque", "alpha"])
def test_what_is_lossless_comes_back_exactly(
    image_format: ImageFormat, source: str, pixels: Pixels, alpha: np.ndarray | None
) -> None:
    if image_format is ImageFormat.KEEP and source == "BMP" and alpha is not None:
        pytest.skip("BMP has no alpha that could be kept")
    assert is_lossless(image_format, source)
    saved = decode_bytes(encode_image(pixels, DecodedImage(pixels, alpha, source), image_format))
    assert np.array_equal(saved.pixels, comparable_pixels(pixels, saved.pixels))
    assert (saved.alpha is None) == (alpha is None)
    if alpha is not None and saved.alpha is not None:
        assert np.array_equal(saved.alpha, alpha)


@pytest.mark.parametrize("source", ["PNG", "TIFF"])
def test_sixteen_bits_stay(source: str) -> None:
    like = DecodedImage(DEEP, None, source)
    for image_format in (ImageFormat.PNG, ImageFormat.KEEP):
        assert np.array_equal(decode_bytes(encode_image(DEEP, like, image_format)).pixels, DEEP)
    with pytest.raises(ImageError, match="16 bits"):
        encode_image(DEEP, like, ImageFormat.WEBP)


def test_jpeg_is_kept_as_jpeg_with_full_colour_resolution() -> None:
    assert not is_lossless(ImageFormat.KEEP, "JPEG")
    content = encode_image(COLOUR, DecodedImage(COLOUR, None, "JPEG"), ImageFormat.KEEP)
    with Image.open(io.BytesIO(content)) as saved:
        assert saved.format == "JPEG"
        assert {component[1:3] for component in saved.layer} == {(1, 1)}  # type: ignore[attr-defined]  # JPEG has it


@pytest.mark.parametrize("image_format", list(ImageFormat))
def test_profile_always_and_metadata_only_when_asked(image_format: ImageFormat) -> None:
    exif = Image.Exif()
    exif[0x010E] = "a description"
    like = DecodedImage(COLOUR, None, "JPEG", SRGB, Metadata(exif.tobytes()))
    plain = decode_bytes(encode_image(COLOUR, like, image_format))
    assert plain.icc_profile == SRGB
    assert plain.metadata.exif is None
    kept = decode_bytes(encode_image(COLOUR, like, image_format, keep_metadata=True))
    assert kept.metadata.exif is not None
    assert b"a description" in kept.metadata.exif


def test_suffixes() -> None:
    assert released_suffix(ImageFormat.PNG) == ".png"
    assert released_suffix(ImageFormat.WEBP) == ".webp"
    assert released_suffix(ImageFormat.KEEP) is None


def test_webp_cannot_hold_everything() -> None:
    wide = np.zeros((1, 16384, 3), dtype=np.uint8)
    with pytest.raises(ImageError, match="16384 x 1"):
        encode_image(wide, DecodedImage(wide, None, "PNG"), ImageFormat.WEBP)


def test_no_alpha_is_opaque_alpha() -> None:
    opaque = np.full((7, 5), 255, dtype=np.uint8)
    assert same_alpha(None, None)
    assert same_alpha(None, opaque)
    assert same_alpha(opaque, None)
    assert same_alpha(ALPHA, ALPHA.copy())
    assert not same_alpha(ALPHA, None)
    assert not same_alpha(ALPHA, opaque)
    like = DecodedImage(COLOUR, opaque, "PNG")
    assert same_alpha(decode_bytes(encode_image(COLOUR, like, ImageFormat.WEBP)).alpha, opaque)
