"""What a photo's file says beside its pixels, and may travel with a protected copy of it.

Only fields that are listed here are kept, each within its limit. So nothing stays that shows the photo as it was before
protection: previews, thumbnails, maker notes, depth maps, or data in a field of text. The orientation has been applied
and is not kept. Data that cannot be read is left out and makes no photo unreadable.

Source: CIPA DC-008-2023 (Exif 3.0), section 4.6; PNG specification (third edition), section 11.3.3.2.
"""

import contextlib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from numbers import Real

from PIL import Image

from mtlue_cli.choices import MetadataGroup
from mtlue_cli.images.kept_text import kept_text
from mtlue_cli.images.xmp import rebuilt_xmp

_ORIENTATION = 0x0112
_SHOOTING, _PLACE = 0x8769, 0x8825
"""Tables of EXIF data."""
_MOST_NUMBERS = 4
"""Of one entry, as a lens has."""
_NUMBERS = 0
"""In place of the most bytes of a text."""

_ENTRIES: Mapping[int | None, Mapping[MetadataGroup, Mapping[int, int]]] = {
    None: {
        MetadataGroup.COPYRIGHT: {0x013B: 128, 0x8298: 256},  # artist, copyright
        MetadataGroup.CAMERA: {
            **dict.fromkeys((0x010F, 0x0110, 0x0131), 64),  # make, model, software
            **dict.fromkeys((0x011A, 0x011B, 0x0128), _NUMBERS),  # resolution
        },
        MetadataGroup.TIME: {0x0132: 32},
        MetadataGroup.DESCRIPTION: {0x010E: 512},
    },
    _SHOOTING: {
        MetadataGroup.CAMERA: {
            **dict.fromkeys((0x829A, 0x829D, 0x8822, 0x8827, 0x8830, 0x8831, 0x8832, 0x8833), _NUMBERS),
            **dict.fromkeys((*range(0x9201, 0x920B), 0xA001, 0xA20E, 0xA20F, 0xA210, 0xA215, 0xA217), _NUMBERS),
            **dict.fromkeys((*range(0xA401, 0xA40B), 0xA40C, 0xA432), _NUMBERS),
            **dict.fromkeys((0xA433, 0xA434), 64),  # maker and model of the lens
            0x9000: _NUMBERS,  # version of Exif
        },
        MetadataGroup.TIME: dict.fromkeys((0x9003, 0x9004, 0x9010, 0x9011, 0x9012, 0x9290, 0x9291, 0x9292), 32),
    },
    _PLACE: {
        MetadataGroup.PLACE: {
            **dict.fromkeys((0, 2, 4, 5, 6, 0x11, 0x1F), _NUMBERS),
            **dict.fromkeys((1, 3, 0x10), 2),  # which half of the globe, which north
            0x12: 32,  # geodetic datum
        },
    },
}
"""Table, group and entry to the most bytes of its text; None is the table of a photo as a whole.

Left out are, beside all that may hold a picture, numbers by which a camera or its owner is recognised.
"""

_CHUNKS: Mapping[str, tuple[MetadataGroup, int]] = {
    "Author": (MetadataGroup.COPYRIGHT, 128),
    "Copyright": (MetadataGroup.COPYRIGHT, 256),
    "Disclaimer": (MetadataGroup.COPYRIGHT, 256),
    "Software": (MetadataGroup.CAMERA, 64),
    "Source": (MetadataGroup.CAMERA, 64),
    "Creation Time": (MetadataGroup.TIME, 64),
    "Title": (MetadataGroup.DESCRIPTION, 256),
    "Description": (MetadataGroup.DESCRIPTION, 512),
    "Comment": (MetadataGroup.DESCRIPTION, 512),
}
"""Keyword of a PNG's text to its group and most bytes."""

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


@dataclass(frozen=True)
class Metadata:
    """What may travel with a protected photo.

    Attributes:
        exif: EXIF data, or None.
        xmp: XMP packet, or None.
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


def read_metadata(opened: Image.Image, groups: Collection[MetadataGroup]) -> Metadata:
    """The metadata of a loaded photo that belong to ``groups``."""
    return Metadata(_kept_exif(opened, groups), _kept_xmp(opened, groups), dict(_kept_chunks(opened, groups)))


def _kept_exif(opened: Image.Image, groups: Collection[MetadataGroup]) -> bytes | None:
    kept = Image.Exif()
    with contextlib.suppress(Exception):
        found = opened.getexif()
        for table, known in _ENTRIES.items():
            given = found if table is None else found.get_ifd(table)
            entries = Image.Exif()
            for group in groups:
                for tag, most in known.get(group, {}).items():
                    _keep(entries, tag, given.get(tag), most)
            if table is None:
                kept.update(entries)
            elif len(entries):
                kept[table] = dict(entries)
        if len(kept):
            return kept.tobytes()
    return None


def _keep(entries: Image.Exif, tag: int, value: object, most: int) -> None:
    """Add an entry if its value is what the entry is for, and can be written."""
    kept: object = None
    if most and isinstance(value, str):
        text = kept_text(_decoded(value.encode("latin-1", errors="replace")), most)
        kept = text if text is None or text.isascii() else text.encode()  # Pillow writes text as ASCII
    elif most == _NUMBERS and _are_numbers(value):
        kept = value
    if kept is not None:
        alone = Image.Exif()
        alone[tag] = kept
        with contextlib.suppress(Exception):
            alone.tobytes()
            entries[tag] = kept


def _are_numbers(value: object) -> bool:
    """Whether a value is a few numbers, or as many bytes."""
    parts = value if isinstance(value, bytes | tuple) else (value,)
    return 0 < len(parts) <= _MOST_NUMBERS and all(isinstance(part, Real) for part in parts)


def _kept_xmp(opened: Image.Image, groups: Collection[MetadataGroup]) -> bytes | None:
    found = opened.info.get("xmp") or opened.info.get("XML:com.adobe.xmp")
    packet = found.encode(errors="replace") if isinstance(found, str) else found
    return rebuilt_xmp(packet, groups) if isinstance(packet, bytes) else None


def _kept_chunks(opened: Image.Image, groups: Collection[MetadataGroup]) -> Iterator[tuple[str, str]]:
    chunks: dict[object, object] = dict(getattr(opened, "text", None) or {})
    comment = opened.info.get("comment")
    if "Comment" not in chunks and isinstance(comment, bytes):
        chunks["Comment"] = _decoded(comment)
    for keyword, (group, most) in _CHUNKS.items():
        value = chunks.get(keyword)
        if group in groups and isinstance(value, str) and (text := kept_text(value, most)) is not None:
            yield keyword, text


def _decoded(text: bytes) -> str:
    try:
        return text.decode()
    except UnicodeDecodeError:
        return text.decode("latin-1")
