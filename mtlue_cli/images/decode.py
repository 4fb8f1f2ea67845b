"""Decoding of photos: upright pixels, alpha, colour profile and metadata, or a reason why not."""

import importlib
import importlib.util
import io
import os
import re
import struct
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, JpegImagePlugin, UnidentifiedImageError, features

from mtlue_cli.budget import BYTES_A_PIXEL, MAX_SIDE, budget, deadline
from mtlue_cli.choices import MetadataGroup
from mtlue_cli.errors import ImageError
from mtlue_cli.files import open_below, open_regular
from mtlue_cli.images.arrays import Array, decode_array, is_array
from mtlue_cli.images.metadata import TURNS, Metadata, read_metadata, turn_to_upright
from mtlue_cli.images.profiles import rebuilt_profile

Pixels = Array
"""Of a photo: uint8 or uint16, of an array also floating point in [0, 1]."""

ARRAY = "NPY"
"""Format of an image that is stored as a NumPy array."""

NO_MEMORY = "does not fit into memory"
"""Why a photo is refused for which there is no room."""

RAW_SUFFIXES = {
    *(".raw", ".cr2", ".cr3", ".crw", ".nef", ".nrw", ".arw", ".srf", ".sr2", ".dng", ".orf", ".rw2", ".raf", ".pef"),
    *(".srw", ".x3f", ".3fr", ".erf", ".kdc", ".mef", ".mos", ".iiq", ".rwl", ".gpr", ".dcr", ".mrw"),
}
"""Suffixes of camera files before development, lower case."""

IS_RAW = "is a RAW photo, the sensor's data before development; develop it to TIFF or PNG first and name that file"
"""Why such a file is refused. Many of them are a TIFF with a preview, which must not pass for the photo."""

HEIC_SUFFIXES = frozenset({".heic", ".heif", ".hif"})
"""Suffixes of HEIC photos, lower case."""

NO_JXL = "is a JPEG XL photo, which needs an extra to be read: pip install 'mtlue[jxl]'"
"""Why it is refused where the extra is not installed."""

NO_HEIC = "is a HEIC photo, which needs an extra to be read: pip install 'mtlue[heic]', or convert it to PNG"
"""Why it is refused where the extra is not installed."""

_READABLE_MODES = frozenset({"1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "LAB"})
"""Pillow's modes of 8 bits that it turns into grey or RGB."""
_GREY_MODES = ("1", "L", "LA", "La")
_TRANSPARENT_MODES = ("LA", "La", "RGBA", "RGBa", "PA")
_STRIP_PIXELS = 1 << 18
"""Pixels that are copied at a time: what is copied twice stays in the processor's cache."""
_PHOTOMETRIC, _WHITE_IS_ZERO = 262, 0
"""TIFF tag of what numbers stand for, and its value where 0 is white."""


@dataclass(frozen=True)
class DecodedImage:
    """A photo as it is seen.

    Attributes:
        pixels: ``(H, W)`` grey or ``(H, W, 3)`` RGB, uint8; uint16 for 16-bit grey; of an array also float in [0, 1].
        alpha: ``(H, W)`` uint8 opacity, or None.
        format: Pillow's name of the file format.
        icc_profile: Colour profile that goes with ``pixels``, rebuilt of what colours need, or None.
        metadata: What else may travel with a protected copy.
        channels_first: Whether the file, an array, holds ``(3, H, W)``.
        lost_profile: Whether the file has a colour profile that cannot be kept.
        compression: Quantisation tables and subsampling of a JPEG, as Pillow's encoder takes them; None of any other.
    """

    pixels: Pixels
    alpha: npt.NDArray[np.uint8] | None
    format: str
    icc_profile: bytes | None = None
    metadata: Metadata = field(default_factory=Metadata)
    channels_first: bool = False
    lost_profile: bool = False
    compression: Mapping[str, Any] | None = None

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.pixels.shape[0], self.pixels.shape[1]


def readable_formats() -> tuple[str, ...]:
    """What is read, in Pillow's names, whatever a file is called; an MPO is opened as a JPEG.

    TGA is not among them: it has no mark, and is tried where a header can be nothing else.
    """
    return _formats(heic=reads_heic())


@cache
def _formats(*, heic: bool) -> tuple[str, ...]:
    formats: tuple[str, ...] = ("JPEG", "PNG", "BMP", "TIFF", "WEBP", "GIF", "PPM")
    if features.check_codec("jpg_2000"):
        formats = (*formats, "JPEG2000")
    if importlib.util.find_spec("PIL.AvifImagePlugin"):
        formats = (*formats, "AVIF")
    if heic:
        import pillow_heif

        pillow_heif.register_heif_opener()
        formats = (*formats, "HEIF")
    return formats


@cache
def reads_heic() -> bool:
    """Whether the extra ``heic`` is installed."""
    return importlib.util.find_spec("pillow_heif") is not None


def _formats_of(start: bytes, size: int) -> tuple[str, ...]:
    """The formats that a file may have, by its first bytes and its size.

    Raises:
        ImageError: It is of a kind that is not read.
    """
    if is_heic(start) and not reads_heic():
        raise ImageError(NO_HEIC)
    if start[:4] in (b"II*\0", b"MM\0*") and start[8:10] == b"CR":
        raise ImageError(IS_RAW)
    return ("TGA",) if _is_tga(start, size) else readable_formats()


def is_heic(start: bytes) -> bool:
    """Whether a file's first bytes are those of a HEIC photo."""
    brands = start[8 : min(len(start), int.from_bytes(start[:4], "big"))]
    return start[4:8] == b"ftyp" and any(brand in brands for brand in (b"heic", b"heix", b"heim", b"heis", b"hevc"))


def is_photo(start: bytes) -> bool:
    """Whether a file's first bytes are those of a photo of a common format."""
    ftyp = start[4:8] == b"ftyp" and any(brand in start[8:] for brand in (b"avif", b"heic", b"heix", b"mif1"))
    webp = start.startswith(b"RIFF") and start[8:12] == b"WEBP"
    return ftyp or webp or start.startswith(_MARKS) or (start[:2] == b"BM" and not any(start[6:10]))


_MARKS = (b"\xff\xd8\xff", b"\x89PNG\r\n", b"GIF8", b"II*\0", b"MM\0*", b"\0\0\0\x0cjP  ", b"\xff\x4f\xff\x51")


def _is_tga(start: bytes, size: int) -> bool:
    """Whether a file's header can be that of a TGA and of nothing else that is read.

    Source: Truevision TGA File Format Specification 2.0, tables 1 and 2.
    """
    if len(start) < _TGA_HEADER.size:
        return False
    skipped, has_map, kind, first, entries, map_bits, _, _, width, height, bits, flags = _TGA_HEADER.unpack_from(start)
    if min(width, height) < 1 or flags >> 6 or has_map > 1 or bits not in _TGA_BITS.get(kind, ()):
        return False
    if has_map and map_bits not in (15, 16, 24, 32):
        return False
    if not has_map and (kind in (1, 9) or first or entries or map_bits):
        return False
    before = _TGA_HEADER.size + skipped + has_map * entries * -(-map_bits // 8)
    least: int = before + (1 if kind >= 9 else width * height * -(-bits // 8))
    return size >= least


_TGA_HEADER = struct.Struct("<BBBHHBHHHHBB")
_TGA_BITS = {1: (8,), 2: (16, 24, 32), 3: (8, 16), 9: (8,), 10: (16, 24, 32), 11: (8, 16)}
"""Kind of picture to the bits of a pixel."""
START = 64
"""First bytes that identify formats."""


def read_content(path: Path, below: Path | None = None) -> bytes:
    """All bytes of a photo's file; ``below`` is a folder above it that no link may lead out of.

    Raises:
        ImageError: It cannot be read, is no ordinary file, or is larger than any photo that may be read.
    """
    try:
        opened = open_regular(path) if below is None else open_below(below, path.relative_to(below).as_posix())
        with opened as stream:
            size = os.fstat(stream.fileno()).st_size
            if size > budget().photo_bytes:
                raise ImageError(
                    f"has {size:,} bytes, more than a photo of {budget().max_pixels:,} pixels takes; "
                    "set another limit with --max-pixels"
                )
            return stream.read()
    except OSError as error:
        raise ImageError(f"cannot be read: {error.strerror or error}") from error
    except MemoryError as error:
        raise ImageError(NO_MEMORY) from error


def decode_image(path: Path) -> DecodedImage:
    """Read one photo.

    Raises:
        ImageError: It cannot be read, is damaged, too large, has several frames, or pixels that would lose precision.
    """
    return decode_bytes(read_content(path))


def decode_bytes(content: bytes, metadata: Collection[MetadataGroup] = tuple(MetadataGroup)) -> DecodedImage:
    """:func:`decode_image` of a file's content, with those groups of its metadata."""
    if is_long_call(content):
        from mtlue_cli.images.isolated import decode_isolated

        return decode_isolated(content, metadata)
    return decode_here(content, metadata)


_ONE_CALL = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+", b"RIFF", b"\0\0\0\x0cjP  ", b"\xff\x4f\xff\x51")
"""How formats begin that are decoded in one call of a library, which nothing can interrupt; and those of ISO media."""
LONG_CALL = 1 << 23
"""Pixels, or bytes of a file, from which such a call may take more than a few seconds."""


def is_long_call(content: bytes) -> bool:
    """Whether a file may keep a library busy for long without a moment to interrupt it."""
    if not (content.startswith((*_ONE_CALL, *JXL)) or content[4:8] == b"ftyp"):
        return False
    return len(content) > LONG_CALL or pixel_count(content) > LONG_CALL


def decode_here(content: bytes, metadata: Collection[MetadataGroup]) -> DecodedImage:
    """:func:`decode_bytes` in this process, whatever time a library takes."""
    if is_array(content):
        return _decode_array(content)
    if content.startswith(JXL):
        return _decode_jxl(content)
    with opened_image(content) as opened:
        return _decode(opened, content, metadata)


@contextmanager
def opened_image(source: bytes | io.FileIO) -> Iterator[Image.Image]:
    """A picture of one frame and allowed size, opened but not decoded; errors within become an ImageError.

    Raises:
        ImageError: Also for every error that decoding it raises.
    """
    if source == b"":
        raise ImageError("is empty")
    formats = readable_formats()
    stream: io.BytesIO | io.FileIO
    try:
        if isinstance(source, bytes):
            _check_parts(source)
            formats, stream = _formats_of(source[:START], len(source)), _TimedBytes(source)
        else:
            formats = _formats_of(source.read(START), os.fstat(source.fileno()).st_size)
            source.seek(0)
            stream = _TimedFile(source.fileno(), closefd=False)
        with Image.open(stream, formats=formats) as opened:
            if opened.format == "TIFF" and _DNG_VERSION in opened.tag_v2:  # type: ignore[attr-defined]  # TIFF images have it
                raise ImageError(IS_RAW)
            check_size(opened.width, opened.height)
            if _has_frames(opened, source):
                raise ImageError("holds several frames or pages; save the one you want as a separate file")
            if opened.format in ("JPEG", "MPO") and isinstance(source, bytes):
                _check_scans(source)
                opened.decodermaxblock = _JPEG_BLOCK
            yield opened
    except ImageError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        if budget().max_pixels > 2 * (Image.MAX_IMAGE_PIXELS or 0):
            raise ImageError("has more pixels than Pillow opens; raise PIL.Image.MAX_IMAGE_PIXELS") from error
        raise ImageError(_too_large("more pixels than allowed")) from error
    except UnidentifiedImageError as error:
        raise ImageError(f"is not a supported image ({', '.join(formats)})") from error
    except MemoryError as error:
        raise ImageError(NO_MEMORY) from error
    except Exception as error:
        # Pillow's decoders raise almost anything on damaged files.
        reason = str(error) or type(error).__name__
        raise ImageError(f"is damaged or an unsupported variant; Pillow says: {reason}") from error


class _TimedBytes(io.BytesIO):
    """A file's content that can be read as long as a photo may take to decode: decoders ask for one block at a time."""

    def __init__(self, content: bytes) -> None:
        super().__init__(content)
        self._check = deadline()

    def read(self, size: int | None = -1, /) -> bytes:
        """The next bytes; ImageError once there is no time left."""
        self._check()
        return super().read(size)


class _TimedFile(io.FileIO):
    """As :class:`_TimedBytes`, for the header of a file, whose parts are counted as they are read."""

    def __init__(self, handle: int, *, closefd: bool) -> None:
        super().__init__(handle, closefd=closefd)
        self._check, self._left = deadline(), _PARTS[b"\xff\xd8"][1]

    def read(self, size: int | None = -1, /) -> bytes:
        """The next bytes; ImageError once there is no time left, or too many parts were read."""
        self._check()
        found = super().read(size)
        self._left -= found.startswith(_PARTS[b"\xff\xd8"][0])
        if self._left < 0:
            raise ImageError("has too many parts of metadata")
        return found


_JPEG_BLOCK = 1 << 14
"""Bytes of a JPEG that are decoded at once: a scan of hardly any bytes is decoded over the whole photo."""

_MARKER = re.compile(rb"\xff([^\x00\xff])")
_WITHOUT_LENGTH = frozenset({0x01, *range(0xD0, 0xD9)})
_SOS, _EOI = 0xDA, 0xD9


_PARTS = {b"\xff\xd8": (b"Exif\0\0", 100), b"GIF8": (b"!\xfe", 100_000)}
"""Beginning of a file to what begins a part of its metadata, and how many there may be: Pillow joins the parts one by
one, each time copying what it has. A JPEG has one, or as many as its EXIF data have 64 KiB; in the pixels of a large
GIF two such bytes stand by chance some thousand times."""


def _check_parts(content: bytes) -> None:
    """Refuse a file whose metadata are so many parts that joining them takes longer than decoding.

    Raises:
        ImageError: They are.
    """
    for begin, (part, most) in _PARTS.items():
        if content.startswith(begin) and content.count(part) > most:
            raise ImageError(f"has metadata in more than {most:,} parts; save it without its metadata")


def _check_scans(content: bytes) -> None:
    """Refuse a JPEG of too many scans before it is decoded.

    Source: ITU-T T.81, annex B: a marker is 0xFF and a byte that is neither 0 nor 0xFF; a segment states its length.

    Raises:
        ImageError: It has too many.
    """
    limit = budget().max_scans
    if content.count(b"\xff\xda") <= limit:  # most have; what a segment or another picture holds is counted too
        return
    scans, at = 0, 2
    while (found := _MARKER.search(content, at)) is not None and (kind := found[1][0]) != _EOI:
        at = found.end()
        if kind not in _WITHOUT_LENGTH:
            at += int.from_bytes(content[at : at + 2], "big")
        scans += kind == _SOS
        if scans > limit:
            raise ImageError(f"has more than {limit:,} scans, the limit; set another one with --max-scans")


def pixel_count(content: bytes) -> int:
    """Number of pixels that the header in a file's content announces; 0 where it is unknown."""
    try:
        if content.startswith(JXL):
            width, height = _jxl_size(_jxl_codestream(content))
            return width * height
        _check_parts(content)
        with Image.open(_TimedBytes(content), formats=_formats_of(content[:START], len(content))) as opened:
            return opened.width * opened.height
    except Exception:  # the reason follows when the file is decoded
        return 0


def upright_frame(path: Path) -> tuple[int, int, int] | None:
    """Height and width in which a photo is decoded, and the orientation that its file states, by its header.

    The orientation is that of EXIF, 1 to 8; 1 is upright. None where the size is unknown.
    """
    try:
        with open_regular(path) as stream:
            start = stream.read(8)
            if is_array(start) or start.startswith(JXL):
                return (*decode_image(path).size, 1)
            stream.seek(0)
            with opened_image(read_content(path) if start.startswith(b"GIF8") else stream) as opened:
                turn = turn_to_upright(opened)
                orientation = next((number for number, known in TURNS.items() if known is turn), 1)
                if orientation < 5:
                    return opened.height, opened.width, orientation
                # Which of its sides a turned TIFF calls its width depends on the version of Pillow.
                size = decode_image(path).size if opened.format == "TIFF" else (opened.width, opened.height)
                return (*size, orientation)
    except (OSError, ImageError):  # the reason follows when the file is decoded
        return None


def _decode_array(content: bytes) -> DecodedImage:
    array = decode_array(content)
    channels_first = array.ndim == 3 and array.shape[2] != 3 and array.shape[0] == 3
    pixels = np.moveaxis(array, 0, 2) if channels_first else array
    if pixels.ndim != 3 or pixels.shape[2] != 3:
        raise ImageError(f"is an array of the shape {array.shape}, expected height x width x 3 or 3 x height x width")
    check_size(pixels.shape[1], pixels.shape[0])
    most = budget().max_pixels * BYTES_A_PIXEL
    if pixels.nbytes > most:
        raise ImageError(
            f"has {pixels.nbytes:,} bytes of {pixels.dtype}, the limit is {most:,}, {BYTES_A_PIXEL} for each pixel of "
            "--max-pixels; set another one with it, or save uint8"
        )
    if pixels.dtype == np.uint8:
        return DecodedImage(pixels, None, ARRAY, channels_first=channels_first)
    if pixels.dtype not in (np.float16, np.float32, np.float64):
        raise ImageError(f"is an array of {pixels.dtype}, expected floating-point colours in [0, 1] or uint8")
    # The comparison fails for NaN too.
    if not (pixels.min() >= 0 and pixels.max() <= 1):
        raise ImageError("is an array with values that are not colours: floating-point values must be in [0, 1]")
    return DecodedImage(pixels, None, ARRAY, channels_first=channels_first)


JXL = (b"\xff\x0a", b"\0\0\0\x0cJXL ")
"""How JPEG XL begins: a bare codestream, or boxes around one."""


def _decode_jxl(content: bytes) -> DecodedImage:
    """A photo that was written with ``--format jxl``: no profile, no orientation, no frames."""
    try:
        import imagecodecs
    except ImportError:
        raise ImageError(NO_JXL) from None
    try:
        stream = _jxl_codestream(content)
        check_size(*_jxl_size(stream))
        decoded = np.asarray(imagecodecs.jpegxl_decode(stream, numthreads=1))
    except (RuntimeError, ValueError, IndexError) as error:
        raise ImageError(f"is damaged or an unsupported variant; libjxl says: {error}") from error
    channels = 1 if decoded.ndim == 2 else decoded.shape[2] if decoded.ndim == 3 else 0
    if channels not in (1, 2, 3, 4) or (decoded.dtype != np.uint8 and (decoded.dtype != np.uint16 or channels > 1)):
        raise ImageError(f"has {channels} channels of {decoded.dtype}, which is not supported; convert it to PNG")
    if channels == 1:
        return DecodedImage(decoded.reshape(decoded.shape[:2]), None, "JXL")
    pixels = decoded[..., 0] if channels == 2 else decoded[..., :3]
    alpha = np.ascontiguousarray(decoded[..., -1]) if channels in (2, 4) else None
    return DecodedImage(np.ascontiguousarray(pixels), alpha, "JXL")


def _jxl_codestream(content: bytes) -> bytes:
    """The codestream of a file, which must be in one piece. Source: ISO/IEC 18181-2, boxes."""
    at = 0 if content.startswith(JXL[1]) else len(content)
    while at < len(content):
        size, kind = int.from_bytes(content[at : at + 4], "big") or len(content) - at, content[at + 4 : at + 8]
        if size < 8 or kind == b"jxlp":
            raise ImageError("is a JPEG XL file in several pieces, which is not supported; convert it to PNG")
        if kind == b"jxlc":
            return content[at + 8 : at + size]
        at += size
    return content


def _jxl_size(content: bytes) -> tuple[int, int]:
    """Width and height that a codestream states. Source: ISO/IEC 18181-1, SizeHeader; bits go from the lowest up."""
    bits, at = int.from_bytes(content[2:14], "little"), 0

    def number(count: int) -> int:
        nonlocal at
        at += count
        return bits >> (at - count) & ((1 << count) - 1)

    small = number(1)

    def side() -> int:
        return 8 * (number(5) + 1) if small else number((9, 13, 18, 30)[number(2)]) + 1

    height, ratio = side(), number(3)
    if ratio == 0:
        return side(), height
    across, down = ((1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))[ratio - 1]
    return height * across // down, height


def _decode(opened: Image.Image, content: bytes, metadata: Collection[MetadataGroup]) -> DecodedImage:
    if is_deep_colour(opened, content):
        raise ImageError("has more than 8 bits per colour, which would be cut to 8; convert it to 8 bits first")
    opened.load()
    source_format = "JPEG" if opened.format == "MPO" else str(opened.format)
    turn = turn_to_upright(opened)
    profile = opened.info.get("icc_profile")
    # A profile fits the colours it was made for: only grey and RGB stay what they were.
    icc = rebuilt_profile(profile) if profile and opened.mode not in ("CMYK", "YCbCr", "LAB") else None
    pixels, alpha = _pixels(opened if turn is None else opened.transpose(turn), source_format)
    if opened.mode.startswith("I;16") and getattr(opened, "tag_v2", {}).get(_PHOTOMETRIC) == _WHITE_IS_ZERO:
        pixels = np.iinfo(np.uint16).max - pixels  # Pillow does so with 8 bits alone
    kept = read_metadata(opened, metadata) if metadata else Metadata()
    compression = _jpeg_compression(opened) if source_format == "JPEG" else None
    return DecodedImage(pixels, alpha, source_format, icc, kept, False, bool(profile) and icc is None, compression)


def _jpeg_compression(opened: Image.Image) -> dict[str, Any] | None:
    """Quantisation tables and subsampling, of grey and ordinary colours alone."""
    if opened.mode not in ("L", "RGB"):
        return None
    sampling = JpegImagePlugin.get_sampling(opened)
    return {"qtables": opened.quantization, "subsampling": max(0, sampling)}  # type: ignore[attr-defined]  # JPEGs have it


def read_back(content: bytes) -> DecodedImage:
    """The pixels of a file that was just encoded, without its profile and metadata.

    A PNG of 8-bit RGB is decoded by libspng where that is installed: another library than the one that wrote it.

    Raises:
        ImageError: It cannot be decoded.
    """
    is_plain = content.startswith(b"\x89PNG") and content[24:26] == b"\x08\x02" and FPNG not in content[:64]
    if is_plain and _spng() is not None:
        try:
            return DecodedImage(_spng().load(content, "RGB"), None, "PNG")
        except Exception as error:
            raise ImageError(f"is damaged; libspng says: {error}") from error
    return decode_here(content, metadata=())


FPNG = b"fdEC"
"""Chunk by which fpng marks its files: those are read back with Pillow."""


@cache
def _spng() -> Any:  # noqa: ANN401 - has no types
    """pyspng; None where it is not installed."""
    return importlib.import_module("pyspng") if importlib.util.find_spec("pyspng") else None


def check_size(width: int, height: int) -> None:
    """Refuse what is larger than may be read, or empty.

    Raises:
        ImageError: It is so.
    """
    if width * height > budget().max_pixels:
        raise ImageError(_too_large(f"{width} x {height} = {width * height:,} pixels"))
    if max(width, height) > MAX_SIDE:
        raise ImageError(f"has {width} x {height} pixels, a side may have at most {MAX_SIDE:,}")
    if min(width, height) < 1:
        raise ImageError(f"has {width} x {height} pixels: it is empty")


def _too_large(size: str) -> str:
    return f"has {size}, the limit is {budget().max_pixels:,}; set another one with --max-pixels"


def _has_frames(opened: Image.Image, source: object) -> bool:
    """Whether a file, opened from its content or a stream, holds more than one picture.

    An MPO is a JPEG with others behind it. As phones write it these are previews and maps, and the first is the photo;
    those that the format itself calls frames are not.
    """
    if opened.format == "MPO":
        views = getattr(opened, "mpinfo", {}).get(0xB002, ())
        return any(view["Attribute"]["MPType"].startswith("Multi-Frame") for view in views)
    if opened.format == "PNG" and isinstance(source, bytes) and _holds_frame(source):
        return True
    return bool(getattr(opened, "is_animated", False))


def _holds_frame(content: bytes) -> bool:
    """Whether a PNG has the data of a frame beside its picture, whatever number of frames it states."""
    at = 8 if b"fdAT" in content else len(content)
    while at < len(content):
        if content[at + 4 : at + 8] == b"fdAT":
            return True
        at += 12 + int.from_bytes(content[at : at + 4], "big")
    return False


def _pixels(image: Image.Image, source_format: str) -> tuple[Pixels, npt.NDArray[np.uint8] | None]:
    mode = image.mode
    if mode.startswith("I;16"):
        if "transparency" in image.info:
            raise ImageError("is 16-bit grey with a transparent level, which is not supported")
        return np.array(image).astype(np.uint16), None
    if mode == "I" and source_format in ("PNG", "PPM"):
        wide = np.array(image)
        if int(wide.min()) >= 0 and int(wide.max()) <= np.iinfo(np.uint16).max:
            return wide.astype(np.uint16), None
    if mode in ("I", "F"):
        numbers = "whole numbers" if mode == "I" else "floating-point numbers"
        raise ImageError(f"has signed or 32-bit {numbers} as pixels; convert it to 8 or 16 bits first")
    if mode not in _READABLE_MODES:
        raise ImageError(f"has {mode} colours, which are not supported; convert it to RGB first")
    grey = mode in _GREY_MODES
    transparent = mode in _TRANSPARENT_MODES or "transparency" in image.info
    target = ("LA" if transparent else "L") if grey else ("RGBA" if transparent else "RGB")
    pixels = np.empty((image.height, image.width) if grey else (image.height, image.width, 3), dtype=np.uint8)
    alpha = np.empty((image.height, image.width), dtype=np.uint8) if transparent else None
    for rows, strip in _strips(image, target):
        pixels[rows] = strip if not transparent else strip[..., 0] if grey else strip[..., :3]
        if alpha is not None:
            alpha[rows] = strip[..., -1]
    return pixels, alpha


def _strips(image: Image.Image, mode: str) -> Iterator[tuple[slice, npt.NDArray[np.uint8]]]:
    """Rows of a picture and their values in another mode: all at once would take twice their memory on the way."""
    height = max(1, _STRIP_PIXELS // image.width)
    for start in range(0, image.height, height):
        rows = slice(start, min(start + height, image.height))
        strip = image if height >= image.height else image.crop((0, rows.start, image.width, rows.stop))
        yield rows, np.asarray(strip if strip.mode == mode else strip.convert(mode))


def is_deep_colour(opened: Image.Image, content: bytes) -> bool:
    """Whether a file has more than 8 bits a sample in a mode that Pillow silently cuts to 8."""
    if opened.format == "PNG":
        # What Pillow decodes, whatever chunks stand before the header and however often it stands there.
        how = [str(tile[3]) for tile in opened.tile]  # type: ignore[attr-defined]  # image files have them
        return any(each.endswith(";16B") and not each.startswith("I") for each in how)
    if opened.format == "TIFF":
        depths = opened.tag_v2.get(0x0102, (1,))  # type: ignore[attr-defined]  # TIFF images have it
        return max(depths) > 8 and opened.mode not in ("I", "F") and not opened.mode.startswith("I;16")
    if opened.format == "PPM":
        options = opened.tile[0][3]  # type: ignore[attr-defined]  # options of a file's decoder
        return opened.mode == "RGB" and isinstance(options, tuple) and int(options[-1]) > np.iinfo(np.uint8).max
    if opened.format == "JPEG2000":
        return any(bits > 8 for bits in _sample_bits(content)) and not opened.mode.startswith("I;16")
    if opened.format == "HEIF":
        return int(opened.info.get("bit_depth", 8)) > 8
    if opened.format == "AVIF":
        return any(flags & _AVIF_HIGH_DEPTH for flags in av1_configurations(content))
    return False


def _sample_bits(content: bytes) -> list[int]:
    """Bits of each component of a JPEG 2000, by its SIZ marker. Source: ISO/IEC 15444-1, annex A.5.1."""
    at = content.find(b"\xff\x4f\xff\x51")
    count = int.from_bytes(content[at + 40 : at + 42], "big") if at >= 0 else 0
    return [(size & 0x7F) + 1 for size in content[at + 42 : at + 42 + 3 * count : 3]]


_DNG_VERSION = 50706
"""Entry of a TIFF that makes it a DNG."""

_AVIF_HIGH_DEPTH = 0x40
"""Bit of the third byte of an AV1 configuration: 10 or 12 bits a sample."""


def av1_configurations(content: bytes) -> list[int]:
    """Third byte of every AV1 configuration box of an AVIF.

    Source: AV1 Codec ISO Media File Format Binding, section 2.3.3.
    """
    return [content[found.end() + 1] for found in re.finditer(b"av1C\x81", content) if found.end() + 1 < len(content)]
