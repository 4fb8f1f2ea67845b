"""What tests of images share: encoding with Pillow alone, and what each EXIF orientation means."""

import io
import struct
from collections.abc import Mapping

import numpy as np
from PIL import Image, ImageCms

from mtlue_cli.choices import ImageFormat
from mtlue_cli.images.profiles import rebuilt_profile

LCMS_SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
"""sRGB as Little CMS writes it."""
SRGB = rebuilt_profile(LCMS_SRGB)
"""As photos keep it."""
KEEP_PROFILES = tuple(each for each in ImageFormat if each is not ImageFormat.JXL)
"""What a photo with a colour profile can be written as; JPEG XL refuses it."""


def encoded(image: Image.Image, name: str = "PNG", **options: object) -> bytes:
    """``image`` as a file of the format that Pillow calls ``name``."""
    stream = io.BytesIO()
    image.save(stream, format=name, **options)
    return stream.getvalue()


def profile_of(header: bytes, tags: Mapping[bytes, bytes]) -> bytes:
    """A colour profile with the first 128 bytes of another one and these tags."""
    start, body, entries = 132 + 12 * len(tags), b"", struct.pack(">I", len(tags))
    for name, content in tags.items():
        entries += struct.pack(">4sII", name, start + len(body), len(content))
        body += content + bytes(-len(content) % 4)
    return struct.pack(">I", start + len(body)) + header[4:128] + entries + body


def tags_of(profile: bytes) -> dict[bytes, bytes]:
    """Name to content of every tag of a colour profile."""
    (count,) = struct.unpack_from(">I", profile, 128)
    entries = [struct.unpack_from(">4sII", profile, 132 + 12 * entry) for entry in range(count)]
    return {name: profile[start : start + size] for name, start, size in entries}


def grey_profile() -> bytes:
    """A profile for grey, of gamma 2.2."""
    header = LCMS_SRGB[:16] + b"GRAY" + LCMS_SRGB[20:128]
    curve = b"curv" + bytes(4) + struct.pack(">IH", 1, round(2.2 * 256))
    return profile_of(header, {b"wtpt": tags_of(LCMS_SRGB)[b"wtpt"], b"kTRC": curve})


def seen_upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """``(H, W, C)`` as a viewer shows it that honours EXIF ``orientation``, 1 to 8."""
    return {
        1: pixels,
        2: pixels[:, ::-1],
        3: pixels[::-1, ::-1],
        4: pixels[::-1],
        5: pixels.transpose(1, 0, 2),
        6: np.rot90(pixels, -1),
        7: pixels.transpose(1, 0, 2)[::-1, ::-1],
        8: np.rot90(pixels, 1),
    }[orientation]
