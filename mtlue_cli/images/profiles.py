"""Colour profiles, rebuilt of what colours need: a profile may hold anything else, a preview of the photo for one.

Source: ICC.1:2022 (version 4) and ICC.1:2001-04 (version 2), sections 7 to 10.
"""

import io
import struct
from collections.abc import Callable
from functools import lru_cache
from math import prod

from PIL import Image, ImageCms

from mtlue_cli.images.kept_text import kept_text

MOST_BYTES = 1 << 20
"""Of a profile that is read at all."""
MOST_TABLES = 256 << 10
"""Bytes of all colour tables of a profile that are kept."""
MOST_CURVE = 4096
"""Entries of a curve."""
_HEADER = 128
_CLASSES = (b"scnr", b"mntr", b"prtr", b"spac")
_SPACES = {b"RGB ": "RGB", b"GRAY": "L"}
_PARAMETERS = (1, 3, 4, 5, 7)
"""Numbers of a parametric curve, by its kind."""
_TABLES = (b"A2B0", b"A2B1", b"A2B2", b"B2A0", b"B2A1", b"B2A2")
_MATRIX = (b"rXYZ", b"gXYZ", b"bXYZ", b"rTRC", b"gTRC", b"bTRC")
_OPTIONAL = (b"wtpt", b"chad")
_D50 = struct.pack(">3i", 0xF6D6, 0x10000, 0xD32D)
_MADE = struct.pack(">6H", 2000, 1, 1, 0, 0, 0)


@lru_cache(maxsize=16)
def rebuilt_profile(profile: bytes) -> bytes | None:
    """A profile of the same colours with nothing else in it; None: it is damaged, or of a kind that is not known.

    Kept are the kind of the profile, its white point, its matrix and curves or its tables, and its name and copyright
    notice as short plain text.
    """
    try:
        rebuilt = _rebuilt(profile)
        mode = _SPACES[profile[16:20]]
        # The judge is the library that others open it with.
        opened = ImageCms.ImageCmsProfile(io.BytesIO(rebuilt))
        transform = ImageCms.buildTransform(opened, ImageCms.createProfile("sRGB"), mode, "RGB")
        ImageCms.applyTransform(Image.new(mode, (1, 1)), transform)
    except (ValueError, KeyError, IndexError, struct.error, OSError, ImageCms.PyCMSError, ImportError):
        return None
    return rebuilt


def _rebuilt(profile: bytes) -> bytes:
    version, kind, space, connection = profile[8], profile[12:16], profile[16:20], profile[20:24]
    _require(_HEADER < len(profile) <= MOST_BYTES and profile[36:40] == b"acsp" and version in (2, 4))
    _require(kind in _CLASSES and space in _SPACES and connection in (b"XYZ ", b"Lab "))
    (intent,) = struct.unpack(">I", profile[64:68])
    _require(intent <= 3)
    tags = _read_tags(profile)
    kept = {name: _OF_COLOURS[name](tags[name]) for name in _OPTIONAL if name in tags}
    kept |= _colours(tags, space)
    name = _plain(_text_of(tags.get(b"desc", b"")), "colour profile")
    notice = _plain(_text_of(tags.get(b"cprt", b"")), "no copyright notice")
    kept[b"desc"] = _localized(name) if version == 4 else _described(name)
    kept[b"cprt"] = _localized(notice) if version == 4 else b"text\0\0\0\0" + notice.encode() + b"\0"
    header = b"".join(
        (
            *(bytes(8), bytes([version, profile[9] & 0xF0, 0, 0]), kind, space, connection, _MADE, b"acsp"),
            *(bytes(24), struct.pack(">I", intent), _D50, bytes(48)),
        )
    )
    return _written(header, kept)


def _require(sound: bool) -> None:
    if not sound:
        raise ValueError("damaged, or of an unknown kind")


def _read_tags(profile: bytes) -> dict[bytes, bytes]:
    (count,) = struct.unpack_from(">I", profile, _HEADER)
    _require(count <= 100)
    tags: dict[bytes, bytes] = {}
    for entry in range(count):
        name, start, size = struct.unpack_from(">4sII", profile, _HEADER + 4 + 12 * entry)
        if start + size <= len(profile):
            tags.setdefault(name, profile[start : start + size])
    return tags


def _written(header: bytes, tags: dict[bytes, bytes]) -> bytes:
    start = _HEADER + 4 + 12 * len(tags)
    places: dict[bytes, int] = {}
    body = bytearray()
    entries = struct.pack(">I", len(tags))
    for name, content in tags.items():
        if content not in places:  # tags may share their content, as three equal curves do
            places[content] = start + len(body)
            body += content + bytes(-len(content) % 4)
        entries += struct.pack(">4sII", name, places[content], len(content))
    return struct.pack(">I", start + len(body)) + header[4:] + entries + bytes(body)


def _colours(tags: dict[bytes, bytes], space: bytes) -> dict[bytes, bytes]:
    """What turns values into colours: tables, matrix and curves, or both; tables that are too large are left out."""
    tables = {name: _table(tags[name]) for name in _TABLES if name in tags}
    if sum(map(len, set(tables.values()))) > MOST_TABLES:
        tables = {}
    model = (b"kTRC",) if space == b"GRAY" else _MATRIX
    if b"A2B0" in tables and not all(name in tags for name in model):
        return tables
    return tables | {name: _OF_COLOURS[name](tags[name]) for name in model}


def _numbers(kind: bytes, count: int) -> Callable[[bytes], bytes]:
    def read(tag: bytes) -> bytes:
        _require(tag[:4] == kind and len(tag) >= 8 + 4 * count)
        return kind + bytes(4) + tag[8 : 8 + 4 * count]

    return read


def _curve(tag: bytes) -> bytes:
    """A curve that rises or falls all the way, as one of colours does and data do not."""
    if tag[:4] == b"para":
        (form,) = struct.unpack_from(">H", tag, 8)
        end = 12 + 4 * _PARAMETERS[form]
        _require(len(tag) >= end)
        return b"para" + bytes(4) + tag[8:10] + bytes(2) + tag[12:end]
    (count,) = struct.unpack_from(">I", tag, 8)
    _require(tag[:4] == b"curv" and count <= MOST_CURVE)
    levels = struct.unpack_from(f">{count}H", tag, 12)
    _require(list(levels) in (sorted(levels), sorted(levels, reverse=True)))
    return b"curv" + bytes(4) + tag[8 : 12 + 2 * count]


def _table(tag: bytes) -> bytes:
    """A table of colours, without whatever stands behind or between its parts."""
    kind, (inputs, outputs) = tag[:4], tag[8:10]
    _require(inputs in (1, 3) and outputs in (1, 3))
    if kind in (b"mft1", b"mft2"):
        wide = kind == b"mft2"
        entries, levels = struct.unpack_from(">HH", tag, 48) if wide else (256, 256)
        count = inputs * entries + tag[10] ** inputs * outputs + outputs * levels
        end = 52 + 2 * count if wide else 48 + count
        _require(len(tag) >= end)
        return kind + bytes(4) + tag[8:11] + bytes(1) + tag[12:end]
    _require(kind in (b"mAB ", b"mBA "))
    first, last = (outputs, inputs) if kind == b"mAB " else (inputs, outputs)
    made = bytearray(bytes(32))
    made[:4], made[8:10] = kind, tag[8:10]
    # B curves, matrix, M curves, colour table, A curves.
    for at, count in ((12, first), (16, 0), (20, first), (24, 0), (28, last)):
        (start,) = struct.unpack_from(">I", tag, at)
        if start:
            _require(32 <= start < len(tag))
            part = tag[start:]
            struct.pack_into(">I", made, at, len(made))
            made += _curves(part, count) if count else part[:48] if at == 16 else _grid(part, inputs, outputs)
            made += bytes(-len(made) % 4)
    _require(len(made) <= MOST_TABLES)
    return bytes(made)


def _curves(part: bytes, count: int) -> bytes:
    """``count`` curves that stand one behind the other, each from a multiple of four on."""
    made = bytearray()
    for _ in range(count):
        curve = _curve(part[len(made) :])
        made += curve + bytes(-len(curve) % 4)
    return bytes(made)


def _grid(part: bytes, inputs: int, outputs: int) -> bytes:
    points, width = part[:inputs], part[16]
    _require(width in (1, 2) and min(points) > 1)
    end = 20 + prod(points) * outputs * width
    _require(end <= min(len(part), MOST_TABLES))
    return points + bytes(16 - inputs) + bytes([width, 0, 0, 0]) + part[20:end]


def _text_of(tag: bytes) -> str:
    """The first text of a tag of text; empty if it holds none."""
    if tag[:4] == b"mluc" and len(tag) >= 28:
        size, start = struct.unpack_from(">II", tag, 20)
        return tag[start : start + min(size, 512)].decode("utf-16-be", errors="replace")
    start = {b"desc": 12, b"text": 8}.get(tag[:4])
    return "" if start is None else tag[start : start + 256].split(b"\0")[0].decode("latin-1")


def _plain(text: str, otherwise: str) -> str:
    """At most 64 characters of ASCII."""
    return kept_text("".join(char for char in text if char.isascii())[:64], 64) or otherwise


def _described(text: str) -> bytes:
    """Text as version 2 has it for a profile's name."""
    return b"desc\0\0\0\0" + struct.pack(">I", len(text) + 1) + text.encode() + bytes(1 + 4 + 4 + 2 + 1 + 67)


def _localized(text: str) -> bytes:
    """Text as version 4 has it, in one language."""
    return b"mluc\0\0\0\0" + struct.pack(">II4sII", 1, 12, b"enUS", 2 * len(text), 28) + text.encode("utf-16-be")


_OF_COLOURS = {
    **dict.fromkeys((b"rXYZ", b"gXYZ", b"bXYZ", b"wtpt"), _numbers(b"XYZ ", 3)),
    **dict.fromkeys((b"rTRC", b"gTRC", b"bTRC", b"kTRC"), _curve),
    b"chad": _numbers(b"sf32", 9),
}
"""Tag to what reads it: raises a ValueError, IndexError or struct.error if it is damaged."""
