"""What a photo's file says beside its pixels, and may travel with a protected copy of it.

Anything that shows the photo as it was before protection stays behind: previews, thumbnails, maker notes, depth maps.
So does the orientation, which has been applied. Data that cannot be read is left out and makes no photo unreadable.
"""

import contextlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from PIL import Image

_ORIENTATION = 0x0112
_KEPT_TAGS = (0x010E, 0x010F, 0x0110, 0x011A, 0x011B, 0x0128, 0x0131, 0x0132, 0x013B, 0x8298)
"""Description, make, model, resolution (3), software, date, artist, copyright."""
_KEPT_TABLES = (0x8769, 0x8825)
"""Shooting data and place."""
_DROPPED_ENTRIES = frozenset({0x927C, 0xA002, 0xA003, 0xA005})
"""Maker note, stored width and height, interoperability table."""

TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF orientation to what turns a photo upright; 1 is upright."""
_KEPT_ELSEWHERE = ("Raw profile type", "XML:com.adobe.xmp")
"""Text chunks of a PNG that hold EXIF, IPTC or XMP."""
_SPACE = re.compile(r"(?:\s|&#x?[0-9a-fA-F]+;)+")
_PICTURE = re.compile(r"[A-Za-z0-9+/=_-]{1000}")
"""Binary data written as text, once space is taken out."""
_XMP_ORIENTATION = re.compile(
    rb"""tiff:Orientation\s*=\s*("[^"]*"|'[^']*')|<tiff:Orientation>[^<]*</tiff:Orientation>"""
)


@dataclass(frozen=True)
class Metadata:
    """What may travel with a protected photo.

    Attributes:
        exif: EXIF data without orientation, previews and maker notes, or None.
        xmp: XMP packet without orientation, or None; none if it holds a picture.
        text: Text chunks of a PNG; the comment of a JPEG or GIF as ``Comment``.
    """

    exif: bytes | None = None
    xmp: bytes | None = None
    text: Mapping[str, str] = field(default_factory=dict)


def turn_to_upright(opened: Image.Image) -> Image.Transpose | None:
    """What has to be done to a loaded photo for it to be seen upright; None: nothing, or nothing that can be read."""
    with contextlib.suppress(Exception):  # broken EXIF raises almost anything
        return TURNS.get(int(opened.getexif().get(_ORIENTATION, 1)))
    return None


def read_metadata(opened: Image.Image) -> Metadata:
    """The metadata of a loaded photo that may be kept."""
    return Metadata(_kept_exif(opened), _kept_xmp(opened), _kept_text(opened))


def _kept_exif(opened: Image.Image) -> bytes | None:
    kept = Image.Exif()
    with contextlib.suppress(Exception):
        found = opened.getexif()
        for tag in _KEPT_TAGS:
            if tag in found:
                _keep(kept, tag, found[tag])
        for table in _KEPT_TABLES:
            entries = Image.Exif()
            for tag, value in found.get_ifd(table).items():
                if tag not in _DROPPED_ENTRIES:
                    _keep(entries, tag, value)
            if len(entries):
                kept[table] = dict(entries)
        if len(kept):
            return kept.tobytes()
    return None


def _keep(entries: Image.Exif, tag: int, value: object) -> None:
    """Add an entry if its value can be written."""
    alone = Image.Exif()
    alone[tag] = value
    with contextlib.suppress(Exception):
        alone.tobytes()
        entries[tag] = value


def _kept_xmp(opened: Image.Image) -> bytes | None:
    found = opened.info.get("xmp") or opened.info.get("XML:com.adobe.xmp")
    packet = found.encode() if isinstance(found, str) else found
    if not isinstance(packet, bytes) or _holds_picture(packet.decode("latin-1")):
        return None
    return _XMP_ORIENTATION.sub(b"", packet)


def _kept_text(opened: Image.Image) -> dict[str, str]:
    chunks: dict[object, object] = dict(getattr(opened, "text", None) or {})
    comment = opened.info.get("comment")
    if "Comment" not in chunks and isinstance(comment, bytes):
        chunks["Comment"] = _decoded(comment)
    return {
        str(key): str(value)
        for key, value in chunks.items()
        if isinstance(value, str) and not str(key).startswith(_KEPT_ELSEWHERE) and not _holds_picture(value)
    }


def _decoded(text: bytes) -> str:
    try:
        return text.decode()
    except UnicodeDecodeError:
        return text.decode("latin-1")


def _holds_picture(text: str) -> bool:
    return _PICTURE.search(_SPACE.sub("", text)) is not None
