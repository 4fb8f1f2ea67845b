import io

import numpy as np
import pytest
from PIL import Image

from mtlue_cli.budget import Budget, limited_to
from mtlue_cli.choices import ImageFormat
from mtlue_cli.errors import ImageError
from mtlue_cli.images import decode, encode
from mtlue_cli.images.decode import FPNG, DecodedImage, Pixels, decode_bytes, pixel_count, read_back
from mtlue_cli.images.encode import (
    comparable_pixels,
    encode_image,
    is_lossless,
    released_suffix,
    same_alpha,
    writes_jxl,
)
from mtlue_cli.images.metadata import Metadata
from tests.images.pictures import SRGB

RNG = np.random.default_rng(1)
COLOUR = RNG.integers(0, 256, (7, 5, 3), dtype=np.uint8)
ALPHA = RNG.integers(0, 256, (7, 5), dtype=np.uint8)
ALPHA[0] = 0
DEEP = RNG.integers(0, 65536, (7, 5), dtype=np.uint16)


LOSSLESS = [
    pytest.param(one, marks=pytest.mark.skipif(one is ImageFormat.JXL and not writes_jxl(), reason="no extra"))
    for one in ImageFormat
]


@pytest.mark.parametrize("image_format", LOSSLESS)
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


@pytest.mark.parametrize("image_format", [one for one in ImageFormat if one is not ImageFormat.JXL])
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


@pytest.mark.parametrize("profile", [None, SRGB])
@pytest.mark.parametrize("alpha", [None, ALPHA], ids=["opaque", "alpha"])
def test_fast_png_is_a_png_that_pillow_reads(profile: bytes | None, alpha: np.ndarray | None) -> None:
    pytest.importorskip("fpng_py")
    content = encode_image(COLOUR, DecodedImage(COLOUR, alpha, "JPEG", profile), ImageFormat.PNG, fast=True)
    assert content.startswith(b"\x89PNG")
    assert FPNG in content
    saved = decode_bytes(content)
    assert np.array_equal(saved.pixels, COLOUR)
    assert (saved.alpha is None) == (alpha is None)
    assert alpha is None or np.array_equal(saved.alpha, alpha)  # type: ignore[arg-type]  # there is one
    assert saved.icc_profile == profile


def test_what_fpng_cannot_hold_is_written_by_pillow() -> None:
    metadata = Metadata(text={"Author": "someone"})
    for like, pixels in (
        (DecodedImage(COLOUR, None, "PNG", None, metadata), COLOUR),
        (DecodedImage(COLOUR[..., 0], None, "PNG"), COLOUR[..., 0]),
        (DecodedImage(DEEP, None, "PNG"), DEEP),
    ):
        content = encode_image(pixels, like, ImageFormat.PNG, keep_metadata=True, fast=True)
        assert FPNG not in content
        assert content == encode_image(pixels, like, ImageFormat.PNG, keep_metadata=True)


def test_fast_without_its_extra_is_the_usual_png(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encode, "writes_fast", lambda: False)
    like = DecodedImage(COLOUR, None, "PNG")
    assert encode_image(COLOUR, like, ImageFormat.PNG, fast=True) == encode_image(COLOUR, like, ImageFormat.PNG)


@pytest.mark.parametrize("spng", [True, False])
def test_reading_back_gives_what_the_file_holds(spng: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if spng:
        pytest.importorskip("pyspng")
    else:
        monkeypatch.setattr(decode, "_spng", lambda: None)
    for pixels, alpha in ((COLOUR, None), (COLOUR, ALPHA), (COLOUR[..., 0], None), (DEEP, None)):
        content = encode_image(pixels, DecodedImage(pixels, alpha, "PNG", SRGB), ImageFormat.PNG)
        saved = read_back(content)
        assert np.array_equal(saved.pixels, pixels)
        assert saved.pixels.dtype == pixels.dtype
        assert same_alpha(saved.alpha, alpha)
    with pytest.raises(ImageError, match="is damaged"):
        read_back(encode_image(COLOUR, DecodedImage(COLOUR, None, "PNG"), ImageFormat.PNG)[:70])


@pytest.mark.parametrize("shape", [(7, 5), (8, 8), (16, 32), (600, 3), (1, 300), (5, 2000), (9000, 1), (90, 120)])
def test_the_size_of_a_jpeg_xl_is_read_before_it_is_decoded(shape: tuple[int, int]) -> None:
    pytest.importorskip("imagecodecs")
    pixels = np.zeros(shape, dtype=np.uint8)
    content = encode_image(pixels, DecodedImage(pixels, None, "PNG"), ImageFormat.JXL)
    assert pixel_count(content) == pixels.size
    assert decode_bytes(content).pixels.shape == shape
    with limited_to(Budget(max_pixels=pixels.size - 1)), pytest.raises(ImageError, match="the limit is"):
        decode_bytes(content)


def test_what_jpeg_xl_cannot_hold_is_refused() -> None:
    pytest.importorskip("imagecodecs")
    assert np.array_equal(
        decode_bytes(encode_image(DEEP, DecodedImage(DEEP, None, "PNG"), ImageFormat.JXL)).pixels, DEEP
    )
    with pytest.raises(ImageError, match="colour profile"):
        encode_image(COLOUR, DecodedImage(COLOUR, None, "PNG", SRGB), ImageFormat.JXL)
    with pytest.raises(ImageError, match="16 bits and alpha"):
        encode_image(DEEP, DecodedImage(DEEP, ALPHA, "PNG"), ImageFormat.JXL)
    with pytest.raises(ImageError, match="is damaged"):
        decode_bytes(encode_image(COLOUR, DecodedImage(COLOUR, None, "PNG"), ImageFormat.JXL)[:20])


@pytest.mark.parametrize(("quality", "subsampling"), [(60, 2), (85, 1), (97, 0)])
def test_the_same_quality_keeps_tables_and_subsampling(quality: int, subsampling: int) -> None:
    stream = io.BytesIO()
    Image.fromarray(np.repeat(np.repeat(COLOUR, 8, 0), 8, 1)).save(
        stream, format="JPEG", quality=quality, subsampling=subsampling
    )
    like = decode_bytes(stream.getvalue())
    content = encode_image(like.pixels, like, ImageFormat.KEEP, same_quality=True)
    assert decode_bytes(content).compression == like.compression
    assert decode_bytes(encode_image(like.pixels, like, ImageFormat.KEEP)).compression != like.compression
