"""Decoding of photos: upright pixels, alpha and colour profile, or a reason why not."""

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from mtlue_cli.errors import ImageError

FORMATS = ("JPEG", "PNG", "BMP", "TIFF", "WEBP")
"""What is read, in Pillow's names; an MPO is opened as a JPEG."""

MAX_PIXELS = 178_956_970
"""Larger images are refused: Pillow's own limit against decompression bombs."""

Pixels = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]

_ORIENTATION = 0x0112
_KEPT_TAGS = (0x010E, 0x010F, 0x0110, 0x011A, 0x011B, 0x0128, 0x0131, 0x0132, 0x013B, 0x8298)
"""Description, make, model, resolution (3), software, date, artist, copyright."""
_KEPT_TABLES = (0x8769, 0x8825)
"""Shooting data and place."""
_DROPPED_ENTRIES = frozenset({0x927C, 0xA002, 0xA003, 0xA005})
"""Maker note, stored width and height, interoperability table."""


@dataclass(frozen=True)
class DecodedImage:
    """A photo as it is seen.

    Attributes:
        pixels: ``(H, W)`` grey or ``(H, W, 3)`` RGB, uint8; uint16 for 16-bit grey.
        alpha: ``(H, W)`` uint8 opacity, or None.
        format: Pillow's name of the file format.
        icc_profile: Colour profile that goes with ``pixels``, or None.
        exif: EXIF data without orientation, previews and maker notes, or None.
    """

    pixels: Pixels
    alpha: npt.NDArray[np.uint8] | None
    format: str
    icc_profile: bytes | None = None
    exif: bytes | None = None

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.pixels.shape[0], self.pixels.shape[1]


def decode_image(path: Path) -> DecodedImage:
    """Read one photo.

    Raises:
        ImageError: It cannot be read, is damaged, too large, animated, or of a pixel type that would lose precision.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ImageError(f"cannot be read: {error.strerror or error}") from error
    return decode_bytes(content)


def decode_bytes(content: bytes) -> DecodedImage:
    """:func:`decode_image` of a file's content."""
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as opened:
            return _decode(opened, content)
    except ImageError:
        raise
    except Image.DecompressionBombError as error:
        raise ImageError(f"too large: more than {MAX_PIXELS} pixels") from error
    except UnidentifiedImageError as error:
        raise ImageError(f"not an image in a known format ({', '.join(FORMATS)})") from error
    except Exception as error:
        # Pillow's decoders raise almost anything on damaged files.
        raise ImageError(f"damaged: {str(error) or type(error).__name__}") from error


def pixel_count(content: bytes) -> int:
    """Number of pixels that the header in a file's content announces; 0 where it cannot be told."""
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as opened:
            return opened.width * opened.height
    except Exception:  # the reason follows when the file is decoded
        return 0


def to_square(image: DecodedImage, size: int) -> npt.NDArray[np.uint8]:
    """The photo as a generator sees it: RGB, stretched to a square, antialiased bilinear.

    Returns:
        ``(3, size, size)`` uint8.
    """
    eight_bit = (image.pixels >> 8).astype(np.uint8) if image.pixels.dtype == np.uint16 else image.pixels
    picture = Image.fromarray(eight_bit)
    if picture.mode != "RGB":
        picture = picture.convert("RGB")
    square = picture.resize((size, size), Image.Resampling.BILINEAR, reducing_gap=3.0)
    return np.ascontiguousarray(np.asarray(square).transpose(2, 0, 1))


def _decode(opened: Image.Image, content: bytes) -> DecodedImage:
    if opened.width * opened.height > MAX_PIXELS:
        raise ImageError(f"too large: {opened.width} x {opened.height} pixels")
    # An MPO is a JPEG with extra views behind it, as phones write: its first picture is the photo.
    if opened.format != "MPO" and getattr(opened, "n_frames", 1) > 1:
        raise ImageError("holds several frames")
    if _is_deep_colour(opened, content):
        raise ImageError("has 16 bits a colour, which would be cut to 8; convert it to 8 bits first")
    source_format = "JPEG" if opened.format == "MPO" else str(opened.format)
    opened.load()
    exif = _kept_exif(opened)
    # The transposition copies even what is upright already.
    turned = opened.getexif().get(_ORIENTATION, 1) != 1
    upright = ImageOps.exif_transpose(opened) if turned else opened
    profile = opened.info.get("icc_profile")
    # A profile fits the colours it was made for: only grey and RGB stay what they were.
    icc = profile if profile and opened.mode not in ("CMYK", "YCbCr", "LAB", "HSV") else None
    pixels, alpha = _pixels(upright)
    return DecodedImage(pixels, alpha, source_format, icc, exif)


def _pixels(image: Image.Image) -> tuple[Pixels, npt.NDArray[np.uint8] | None]:
    mode = image.mode
    if mode.startswith("I;16"):
        if "transparency" in image.info:
            raise ImageError("is 16-bit grey with a transparent level, which is not supported")
        return np.array(image).astype(np.uint16), None
    if mode == "I" and image.format in (None, "PNG"):
        wide = np.array(image)
        if int(wide.min()) >= 0 and int(wide.max()) <= np.iinfo(np.uint16).max:
            return wide.astype(np.uint16), None
    if mode in ("I", "F"):
        raise ImageError(f"has 32-bit pixels (mode {mode}), which are not supported")
    grey = mode in ("1", "L", "LA", "La")
    transparent = mode in ("LA", "La", "RGBA", "RGBa", "PA") or "transparency" in image.info
    target = ("LA" if transparent else "L") if grey else ("RGBA" if transparent else "RGB")
    array = np.asarray(image if mode == target else image.convert(target))
    if not transparent:
        return array, None
    colour = array[..., 0] if grey else array[..., :3]
    return np.ascontiguousarray(colour), np.ascontiguousarray(array[..., -1])


def _is_deep_colour(opened: Image.Image, content: bytes) -> bool:
    """Whether a file has 16 bits a sample in a mode that Pillow silently cuts to 8."""
    if opened.format == "PNG":
        depth, colour_type = content[24], content[25]
        return depth == 16 and colour_type != 0
    if opened.format == "TIFF":
        depths = opened.tag_v2.get(0x0102, (1,))  # type: ignore[attr-defined]  # TIFF images have it
        return max(depths) > 8 and opened.mode not in ("I", "F") and not opened.mode.startswith("I;16")
    return False


def _kept_exif(opened: Image.Image) -> bytes | None:
    """EXIF that may travel with a protected photo.

    Previews (second image directory, maker notes, XMP) show the photo as it was before protection, so they are
    dropped; so is the orientation, which has been applied.
    """
    found = opened.getexif()
    if not len(found):
        return None
    kept = Image.Exif()
    for tag in _KEPT_TAGS:
        if tag in found:
            kept[tag] = found[tag]
    for table in _KEPT_TABLES:
        entries = {tag: value for tag, value in found.get_ifd(table).items() if tag not in _DROPPED_ENTRIES}
        if entries:
            kept[table] = entries
    if not len(kept):
        return None
    return kept.tobytes()
