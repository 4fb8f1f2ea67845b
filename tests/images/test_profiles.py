"""Colour profiles are rebuilt: the same colours, and nothing that is not needed for them."""

import io
import struct

import numpy as np
import pytest
from PIL import Image, ImageCms

from mtlue_cli.images.profiles import MOST_TABLES, rebuilt_profile
from tests.images.pictures import LCMS_SRGB, SRGB, grey_profile, profile_of, tags_of

SECRET = b"a preview of the photo as it was"
COLOURS = np.stack(np.meshgrid(*[np.arange(0, 256, 15, dtype=np.uint8)] * 3), axis=-1).reshape(18, -1, 3)


def shown(profile: bytes, mode: str = "RGB") -> np.ndarray:
    """All colours as a viewer shows them that follows the profile."""
    opened = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    transform = ImageCms.buildTransform(opened, ImageCms.createProfile("sRGB"), mode, "RGB")
    image = Image.fromarray(COLOURS if mode == "RGB" else COLOURS[..., 0].copy())
    made = ImageCms.applyTransform(image, transform)
    assert made is not None
    return np.asarray(made)


def with_tags(**tags: bytes) -> bytes:
    """sRGB with more tags, or others."""
    return profile_of(LCMS_SRGB, tags_of(LCMS_SRGB) | {name.encode(): content for name, content in tags.items()})


def table(points: int = 5, *, wide: bool = True, secret: bytes = b"") -> bytes:
    """A table from RGB to Lab that mixes the colours, in the form of version 2."""
    grid = np.stack(np.meshgrid(*[np.linspace(0.1, 0.9, points)] * 3, indexing="ij"), axis=-1)
    values = (grid[..., [1, 2, 0]] * (65535 if wide else 255)).astype(">u2" if wide else "u1").tobytes()
    matrix = struct.pack(">9i", *(0x10000 * (place % 4 == 0) for place in range(9)))
    head = (b"mft2" if wide else b"mft1") + bytes(4) + bytes([3, 3, points, 0]) + matrix
    ends = np.array([0, 65535], ">u2").tobytes() if wide else bytes(range(256))
    return head + (struct.pack(">HH", 2, 2) if wide else b"") + ends * 3 + values + ends * 3 + secret


def parts(secret: bytes = b"") -> bytes:
    """A table from RGB to Lab in the form of version 4, with all its parts."""
    curve = b"para" + bytes(4) + struct.pack(">HHi", 0, 0, 0x10000)
    matrix = struct.pack(">12i", *(0x10000 * (place in (0, 4, 8)) for place in range(12)))
    grid = bytes([3, 3, 3]) + bytes(13) + bytes([2, 0, 0, 0])
    levels = np.stack(np.meshgrid(*[[0.1, 0.5, 0.9]] * 3, indexing="ij"), axis=-1)
    grid += (levels[..., [2, 0, 1]] * 65535).astype(">u2").tobytes() + bytes(2)
    body, places = b"", []
    for part in (3 * curve, matrix, 3 * curve, grid, 3 * curve):
        body += secret + bytes(-len(secret) % 4)
        places.append(32 + len(body))
        body += part + bytes(-len(part) % 4)
    return b"mAB " + bytes(4) + bytes([3, 3, 0, 0]) + struct.pack(">5I", *places) + body + secret


def in_lab(profile: bytes) -> bytes:
    return profile[:20] + b"Lab " + profile[24:]


PROFILES = {
    "matrix": LCMS_SRGB,
    "tables of version 2": in_lab(with_tags(A2B0=table())),
    "narrow tables": in_lab(with_tags(A2B0=table(wide=False))),
    "tables of version 4": in_lab(with_tags(A2B0=parts())),
    "tables alone": profile_of(
        in_lab(LCMS_SRGB),
        {name: tag for name, tag in tags_of(LCMS_SRGB).items() if name[1:] not in (b"TRC", b"XYZ")}
        | {b"A2B0": table(), b"B2A0": table()},
    ),
}


@pytest.mark.parametrize("kind", PROFILES)
def test_colours_are_the_same(kind: str) -> None:
    rebuilt = rebuilt_profile(PROFILES[kind])
    assert rebuilt is not None
    assert np.abs(shown(rebuilt).astype(int) - shown(PROFILES[kind])).max() == 0
    if kind != "matrix":
        assert np.abs(shown(rebuilt).astype(int) - shown(LCMS_SRGB)).max() > 50, "the tables do not count"
    assert rebuilt_profile(rebuilt) == rebuilt


def test_colours_of_grey_are_the_same() -> None:
    rebuilt = rebuilt_profile(grey_profile())
    assert rebuilt is not None
    assert np.array_equal(shown(rebuilt, "L"), shown(grey_profile(), "L"))


HIDING = {
    "a private tag": with_tags(PRVW=SECRET),
    "a long name": with_tags(desc=b"desc\0\0\0\0" + struct.pack(">I", 500) + b"x " * 70 + SECRET + bytes(400)),
    "a long notice": with_tags(cprt=b"text\0\0\0\0" + b"x " * 70 + SECRET + b"\0"),
    "behind a number": with_tags(wtpt=tags_of(LCMS_SRGB)[b"wtpt"] + SECRET),
    "behind a curve": with_tags(rTRC=b"curv" + bytes(4) + struct.pack(">IH", 1, 563) + SECRET),
    "behind a parametric curve": with_tags(rTRC=tags_of(LCMS_SRGB)[b"rTRC"] + SECRET),
    "behind a table": in_lab(with_tags(A2B0=table(secret=SECRET))),
    "between parts of a table": in_lab(with_tags(A2B0=parts(SECRET))),
    "behind everything": LCMS_SRGB + SECRET,
    "in the header": LCMS_SRGB[:44] + SECRET[:20] + LCMS_SRGB[64:84] + SECRET + bytes(12) + LCMS_SRGB[128:],
}


@pytest.mark.parametrize("place", HIDING)
def test_what_colours_do_not_need_is_left_out(place: str) -> None:
    content = HIDING[place]
    assert SECRET[:20] in content
    rebuilt = rebuilt_profile(content)
    assert rebuilt is not None
    assert SECRET[:20] not in rebuilt
    assert np.array_equal(shown(rebuilt), shown(content))
    assert len(rebuilt) < len(LCMS_SRGB) + 3000


def test_name_and_notice_are_kept_as_short_plain_text() -> None:
    assert SRGB is not None
    opened = ImageCms.ImageCmsProfile(io.BytesIO(SRGB))
    assert opened.profile.profile_description == "sRGB built-in"
    assert "No copyright" in str(opened.profile.copyright)
    old = LCMS_SRGB[:8] + b"\2\x10\0\0" + LCMS_SRGB[12:]
    tags = tags_of(LCMS_SRGB) | {b"desc": b"desc\0\0\0\0" + struct.pack(">I", 5) + b"Ada\xff" + bytes(80)}
    rebuilt = rebuilt_profile(profile_of(old, tags))
    assert rebuilt is not None
    assert ImageCms.ImageCmsProfile(io.BytesIO(rebuilt)).profile.profile_description == "Ada"
    nameless = {name: tag for name, tag in tags.items() if name not in (b"desc", b"cprt")}
    assert rebuilt_profile(profile_of(old, nameless)) is not None


def bent() -> bytes:
    """A curve of data."""
    return b"curv" + bytes(4) + struct.pack(">I", len(SECRET) // 2) + SECRET


@pytest.mark.parametrize(
    "profile",
    [
        b"",
        bytes(200),
        LCMS_SRGB[:130],
        LCMS_SRGB[:36] + b"none" + LCMS_SRGB[40:],
        LCMS_SRGB[:8] + b"\5" + LCMS_SRGB[9:],
        LCMS_SRGB[:12] + b"link" + LCMS_SRGB[16:],
        LCMS_SRGB[:16] + b"CMYK" + LCMS_SRGB[20:],
        LCMS_SRGB[:128] + b"\xff\xff\xff\xff" + LCMS_SRGB[132:],
        with_tags(rXYZ=b"XYZ "),
        with_tags(rTRC=bent()),
        with_tags(rTRC=b"para" + bytes(4) + b"\0\7" + bytes(40)),
        with_tags(A2B0=b"mft2" + bytes(60)),
        with_tags(A2B0=parts()[:100]),
        profile_of(LCMS_SRGB, {}),
    ],
    ids=range(14),
)
def test_what_is_damaged_or_not_known_is_left_out(profile: bytes) -> None:
    assert rebuilt_profile(profile) is None


def test_large_tables_give_way_to_the_matrix() -> None:
    large = table(points=40)
    assert len(large) > MOST_TABLES
    rebuilt = rebuilt_profile(with_tags(A2B0=large))
    assert rebuilt is not None
    assert np.array_equal(shown(rebuilt), shown(LCMS_SRGB))
    alone = {name: tag for name, tag in tags_of(LCMS_SRGB).items() if name[1:] not in (b"TRC", b"XYZ")}
    assert rebuilt_profile(profile_of(LCMS_SRGB, alone | {b"A2B0": large})) is None
