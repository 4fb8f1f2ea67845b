"""Encoding of protected photos."""

import importlib.util
import io
import zlib
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, PngImagePlugin

from mtlue_cli.choices import ImageFormat
from mtlue_cli.errors import ImageError
from mtlue_cli.images.arrays import encode_array
from mtlue_cli.images.decode import ARRAY, DecodedImage, Pixels
from mtlue_cli.images.metadata import Metadata

PNG_OPTIONS: dict[str, Any] = {"compress_level": 1, "compress_type": Image.RLE}
"""Measured on protected 200x200 faces, CPU time on one core: 3.8 ms and 50.7 kB with run lengths only (noise leaves no
longer matches to look for); level 1 takes 3.6 ms for 56.8 kB, the default level 18 ms for 50.8 kB."""

WEBP_OPTIONS: dict[str, Any] = {"lossless": True, "exact": True, "method": 0, "quality": 20}
"""Measured likewise: 1.8 ms and 41.8 kB where PNG takes 2.9 ms and 49.0 kB; quality 50 takes 2.2 ms for the same size,
method 4 takes 19 ms for 33.8 kB. ``exact`` keeps colour under alpha 0."""

JPEG_OPTIONS: dict[str, Any] = {"quality": 95, "subsampling": 0}

AVIF_OPTIONS: dict[str, Any] = {"quality": 100, "subsampling": "4:4:4"}
"""Up to 3 levels of change were measured on noise, for the colours are converted; Pillow offers no lossless AVIF."""

_OPTIONS: dict[str, dict[str, Any]] = {
    "PNG": PNG_OPTIONS,
    "WEBP": WEBP_OPTIONS,
    "JPEG": JPEG_OPTIONS,
    "TIFF": {"compression": "tiff_adobe_deflate"},
    "BMP": {},
    "PPM": {},
    "TGA": {"compression": "tga_rle"},
    "JPEG2000": {"irreversible": False},
    "AVIF": AVIF_OPTIONS,
    "JXL": {},
}

LOSSY_FORMATS = frozenset({"JPEG", "AVIF"})
"""Formats that Pillow writes with loss alone."""

WEBP_SIDE = 16383
"""Longest side of a WebP image in pixels."""


_BARE_FORMATS = ("BMP", "PPM", "TGA", "JPEG2000")
"""Formats without a place for metadata, or that Pillow writes none to."""
_FORMATS_WITHOUT_GREY = ("WEBP", "AVIF")
_COLOUR_SPACE = slice(16, 20)
"""Where a profile names the colours it is for."""
_TIFF_XMP = 700
_JPEG_SEGMENT = 65_000
"""Bytes that are sure to fit into one."""


def released_suffix(image_format: ImageFormat) -> str | None:
    """Suffix, with its dot, of every released photo; None: each keeps its own."""
    return None if image_format is ImageFormat.KEEP else f".{image_format.value}"


def is_lossless(image_format: ImageFormat, source_format: str) -> bool:
    """Whether what is written decodes to the very pixels that were encoded."""
    return image_format is not ImageFormat.KEEP or source_format not in LOSSY_FORMATS


def is_compressed_with_loss(start: bytes) -> bool:
    """Whether a released file, whatever its name, is of a format with loss, by its first 12 bytes."""
    return start.startswith(b"\xff\xd8") or start[4:12] == b"ftypavif"


@cache
def writes_jxl() -> bool:
    """Whether the extra ``jxl`` is installed."""
    return importlib.util.find_spec("imagecodecs") is not None


@cache
def writes_fast() -> bool:
    """Whether the extra ``fast`` is installed."""
    return importlib.util.find_spec("fpng_py") is not None


def encode_image(
    pixels: Pixels,
    like: DecodedImage,
    image_format: ImageFormat,
    keep_metadata: bool = False,
    *,
    fast: bool = False,
    same_quality: bool = False,
) -> bytes:
    """Encode protected pixels with the alpha and colour profile of their original.

    Args:
        pixels: Shape and type as ``like.pixels``.
        like: The original, decoded.
        image_format: PNG, lossless WebP, or the original's own format, which is lossless but for JPEG and AVIF. An
            array stays one whatever is asked for, in its own type and layout: what reads the folder expects that.
        keep_metadata: Also write the original's metadata, as far as the format has a place for it.
        fast: Write PNG with fpng where that can: 8-bit colour, no metadata but the profile. Files are a quarter larger.
        same_quality: A JPEG that stays one keeps the quantisation tables and the subsampling of its original.

    Raises:
        ImageError: The format cannot hold the photo.
    """
    if like.format == ARRAY:
        return encode_array(np.moveaxis(pixels, 2, 0) if like.channels_first else pixels)
    name = like.format if image_format is ImageFormat.KEEP else image_format.value.upper()
    if name not in _OPTIONS:
        why = "whose palette cannot hold the protected colours" if name == "GIF" else "which is read but not written"
        raise ImageError(f"is a {name}, {why}; use --format png")
    if name == "WEBP" and pixels.dtype == np.uint16:
        raise ImageError("has 16 bits a pixel, which WebP cannot hold; use --format png")
    if name == "WEBP" and max(like.size) > WEBP_SIDE:
        raise ImageError(
            f"is {like.size[1]} x {like.size[0]} pixels, WebP allows {WEBP_SIDE} per side; use --format png"
        )
    if name == "JXL":
        return _jpeg_xl(_with_alpha(pixels, like.alpha), like)
    options, profile = dict(_OPTIONS[name]), like.icc_profile
    if name == "JPEG" and same_quality and like.compression is not None:
        options = dict(like.compression)
    if name not in _BARE_FORMATS:
        if profile is not None and not (name in _FORMATS_WITHOUT_GREY and profile[_COLOUR_SPACE] == b"GRAY"):
            options["icc_profile"] = profile
        if keep_metadata:
            options |= _metadata(name, like.metadata)
    can_be_fast = name == "PNG" and pixels.ndim == 3 and not {"pnginfo", "exif"} & options.keys()
    if fast and can_be_fast and writes_fast():
        return _fast_png(_with_alpha(pixels, like.alpha), options.get("icc_profile"))
    stream = io.BytesIO()
    try:
        Image.fromarray(_with_alpha(pixels, like.alpha)).save(stream, format=name, **options)
    except (OSError, ValueError, RuntimeError) as error:
        raise ImageError(f"cannot be written as {name}: {error}") from error
    return stream.getvalue()


def _metadata(name: str, metadata: Metadata) -> dict[str, Any]:
    """Options with the metadata, where the format has a place for it."""
    options: dict[str, Any] = {} if metadata.exif is None else {"exif": metadata.exif}
    text = metadata.text
    if name == "PNG":
        chunks = PngImagePlugin.PngInfo()
        for key, value in text.items():
            chunks.add_text(key, value) if value.isascii() else chunks.add_itxt(key, value)
        if metadata.xmp is not None:
            chunks.add_itxt("XML:com.adobe.xmp", metadata.xmp.decode(errors="replace"))
        options["pnginfo"] = chunks
    elif name == "TIFF":
        if metadata.xmp is not None:
            # Pillow takes a TIFF's own entries either from EXIF data or from elsewhere.
            entries = Image.Exif()
            if metadata.exif is not None:
                entries.load(metadata.exif)
            entries[_TIFF_XMP] = metadata.xmp
            options["exif"] = entries.tobytes()
        if "exif" in options:
            # libtiff, which Pillow compresses with, cannot write the tables of EXIF data.
            options["compression"] = None
    else:
        if metadata.xmp is not None and (name != "JPEG" or len(metadata.xmp) <= _JPEG_SEGMENT):
            options["xmp"] = metadata.xmp
        if name == "JPEG" and "Comment" in text:
            options["comment"] = text["Comment"].encode()[:_JPEG_SEGMENT]
    return options


def _fast_png(pixels: npt.NDArray[np.uint8], profile: bytes | None) -> bytes:
    """PNG by fpng, with the profile as a chunk behind the header: ``(H, W, 3)`` or ``(H, W, 4)`` uint8."""
    import fpng_py

    height, width, channels = pixels.shape
    content = bytes(fpng_py.fpng_encode_image_to_memory(pixels.tobytes(), width, height, channels))
    if not content:
        raise ImageError("cannot be written by fpng; leave out --fast")
    if profile is None:
        return content
    chunk = b"iCCPICC Profile\0\0" + zlib.compress(profile)
    head = _PNG_HEADER
    chunk = (len(chunk) - 4).to_bytes(4, "big") + chunk + zlib.crc32(chunk).to_bytes(4, "big")
    return content[:head] + chunk + content[head:]


_PNG_HEADER = 33
"""Bytes of a PNG up to the end of its header."""


def _jpeg_xl(pixels: Pixels, like: DecodedImage) -> bytes:
    """Lossless JPEG XL: grey of 8 or 16 bits, grey with alpha, RGB, RGBA."""
    if like.icc_profile is not None:
        raise ImageError("has a colour profile, which --format jxl cannot keep; use --format png, or convert to sRGB")
    import imagecodecs

    try:
        return bytes(imagecodecs.jpegxl_encode(pixels, effort=1, lossless=True, numthreads=1))
    except (RuntimeError, ValueError) as error:
        raise ImageError(f"cannot be written as JPEG XL: {error}") from error


def comparable_pixels(pixels: Pixels, like: Pixels) -> Pixels:
    """``pixels`` in the layout of ``like``: a format without grey, such as WebP, repeats grey in three channels."""
    if pixels.ndim == 3 or like.ndim == 2:
        return pixels
    return np.repeat(pixels[..., None], 3, axis=2)


def same_alpha(one: npt.NDArray[np.uint8] | None, other: npt.NDArray[np.uint8] | None) -> bool:
    """Whether two alphas are equal; none stands for opaque, since WebP drops an alpha that is opaque everywhere."""
    if one is None or other is None:
        present = other if one is None else one
        return present is None or bool((present == 255).all())
    return np.array_equal(one, other)


def _with_alpha(pixels: Pixels, alpha: npt.NDArray[np.uint8] | None) -> Pixels:
    """``(H, W)`` or ``(H, W, C)`` with alpha, if there is any, as the last channel."""
    if alpha is None:
        return pixels
    if pixels.dtype == np.uint16:
        raise ImageError("has 16 bits and alpha, which is not supported")
    return np.dstack([pixels, alpha])
