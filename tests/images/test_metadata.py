"""What of a photo's metadata travels with a protected copy: by group, and nothing that shows the original."""

import base64
import io
import struct
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from PIL import Image, PngImagePlugin, TiffImagePlugin

from mtlue_cli.choices import ImageFormat, MetadataGroup, metadata_groups
from mtlue_cli.images.decode import decode_bytes
from mtlue_cli.images.encode import encode_image
from mtlue_cli.images.kept_text import kept_text
from mtlue_cli.images.xmp import rebuilt_xmp
from tests.images.pictures import KEEP_PROFILES, LCMS_SRGB, encoded, profile_of, tags_of

COLOUR = np.kron(np.random.default_rng(4).integers(0, 256, (4, 6, 3), np.uint8), np.ones((8, 8, 1), np.uint8))
PHOTO = Image.fromarray(COLOUR)
PREVIEW = encoded(PHOTO.convert("L").resize((24, 16)), "JPEG", quality=60, optimize=True)
"""A picture that shows the photo."""
PREVIEWS: Mapping[str, bytes] = {
    "bytes": PREVIEW,
    "base64": base64.b64encode(PREVIEW),
    "base64 in lines": base64.encodebytes(PREVIEW),
    "hexadecimal": PREVIEW.hex().encode(),
    "hexadecimal in pairs": PREVIEW.hex(" ").encode(),
    "escaped": "".join(f"%{byte:02x}" for byte in PREVIEW).encode(),
    "letters of another alphabet": "".join(chr(0x4E00 + byte) for byte in PREVIEW).encode(),
}


def traces(preview: bytes) -> set[bytes]:
    """What of a preview would give it away: any part of it."""
    return {preview[start : start + 24] for start in range(0, len(preview) - 24, 8)}


def exif_with(value: bytes) -> bytes:
    """EXIF data that say ``value`` wherever a file can, by entries of every type."""
    text = value.decode("latin-1")
    exif = Image.Exif()
    for tag in (0x010E, 0x010F, 0x0110, 0x0131, 0x0132, 0x013B, 0x8298, 0x9C9B, 0xC4A5, 0x83BB, 0x02BC, 0x8649):
        exif[tag] = value
    exif[0x8769] = {
        **dict.fromkeys((37510, 37500, 34856, 41484, 41730, 41995, 36864, 41728), b"ASCII\x00\x00\x00" + value),
        **dict.fromkeys((42032, 42033, 42035, 42036, 42037, 42016, 36867, 37520), text),
        0x829A: tuple(TiffImagePlugin.IFDRational(byte, 1) for byte in value[:300]),
        0xA405: tuple(value[:300]),
    }
    exif[0x8825] = {
        0x1B: b"ASCII\0\0\0" + value,
        0x1C: value,
        1: text,
        0x12: text,
        0x1D: text,
        2: tuple(map(float, value)),
    }
    return exif.tobytes()


def xmp_with(value: str) -> bytes:
    escaped = value.replace("&", "&amp;").replace("<", "&lt;")
    names = (
        "dc:creator",
        "dc:rights",
        "dc:description",
        "xmp:CreatorTool",
        "xmp:CreateDate",
        "xmpGImg:image",
        "my:own",
    )
    listed = "".join(f"<{name}><rdf:Bag><rdf:li>{escaped}</rdf:li></rdf:Bag></{name}>" for name in names)
    return (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/" xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#" '
        'xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:xmp="http://ns.adobe.com/xap/1.0/" '
        'xmlns:xmpGImg="http://ns.adobe.com/xap/1.0/g/img/" xmlns:my="urn:my">'
        f"<rdf:RDF><rdf:Description>{listed}</rdf:Description></rdf:RDF></x:xmpmeta>"
    ).encode()


def irb(value: bytes) -> bytes:
    """Photoshop's segment of a JPEG with IPTC data and a thumbnail."""
    iptc = b"\x1c\x02\x78" + struct.pack(">H", len(value)) + value
    blocks = b"".join(
        b"8BIM" + struct.pack(">HHI", number, 0, len(body)) + body + bytes(len(body) % 2)
        for number, body in ((0x0404, iptc), (0x040C, bytes(28) + value))
    )
    segment = b"Photoshop 3.0\0" + blocks
    return b"\xff\xed" + struct.pack(">H", len(segment) + 2) + segment


def hiding(name: str, value: bytes) -> bytes:
    """A photo that hides ``value`` wherever its format has a place, and behind its end."""
    text = value.decode("latin-1")
    printable = "".join(char if char.isprintable() else "." for char in text)
    options: dict[str, Any] = {
        "exif": exif_with(value),
        "icc_profile": profile_of(LCMS_SRGB, {**tags_of(LCMS_SRGB), b"PRVW": value}),
    }
    if name == "PNG":
        chunks = PngImagePlugin.PngInfo()
        for keyword in (
            "Author",
            "Title",
            "Comment",
            "Software",
            "Creation Time",
            "thumbnail",
            "Raw profile type iptc",
        ):
            chunks.add_itxt(keyword, text)
        chunks.add_itxt("XML:com.adobe.xmp", xmp_with(printable).decode())
        chunks.add(b"prVW", value)
        options["pnginfo"] = chunks
    elif name == "TIFF":
        exif = Image.Exif()
        exif.load(options["exif"])
        exif[700] = xmp_with(printable)
        options["exif"] = exif.tobytes()
    else:
        options["xmp"] = xmp_with(printable)
    if name == "JPEG":
        options["comment"] = value
    content = encoded(PHOTO, name, **options)
    if name == "JPEG":
        content = content[:2] + irb(value) + b"\xff\xeb" + struct.pack(">H", len(value) + 2) + value + content[2:]
    return content + value


@pytest.mark.parametrize("image_format", KEEP_PROFILES)
@pytest.mark.parametrize("kind", PREVIEWS)
@pytest.mark.parametrize("name", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_no_preview_survives(name: str, kind: str, image_format: ImageFormat) -> None:
    content = hiding(name, PREVIEWS[kind])
    image = decode_bytes(content)
    assert not image.lost_profile
    for keeps in (False, True):
        released = encode_image(255 - image.pixels, image, image_format, keep_metadata=keeps)
        unpacked = released + b"".join(inflated(released))
        for form in (*PREVIEWS.values(), "".join(f"&#{byte};" for byte in PREVIEW).encode()):
            assert not any(trace in unpacked for trace in traces(form))
        with Image.open(io.BytesIO(released)) as opened:
            opened.load()
            assert 1 not in opened.getexif().get_ifd(0x8769)


def inflated(content: bytes) -> list[bytes]:
    """Compressed chunks of a PNG but its pixels."""
    found: list[bytes] = []
    for mark, before in ((b"iCCP", b"\0\0"), (b"zTXt", b"\0\0"), (b"iTXt", b"\0\1\0")):
        for part in content.split(mark)[1:]:
            if before in part[:100]:
                try:
                    found.append(zlib.decompressobj().decompress(part.split(before, 1)[1]))
                except zlib.error:
                    continue
    return found


def described() -> bytes:
    """A photo with something of every group."""
    exif = Image.Exif()
    exif[0x010E] = "A description"
    exif[0x010F], exif[0x0110] = "Make", "Model"
    exif[0x0132] = "2020:01:02 03:04:05"
    exif[0x013B], exif[0x8298] = "Ada", "© Ada".encode()
    exif[0x8769] = {
        0x829A: TiffImagePlugin.IFDRational(1, 50),
        0x9003: "2020:01:02 03:04:05",
        0xA431: "serial 7",
        0x9000: b"0230",
    }
    exif[0x8825] = {1: "N", 2: (51.0, 28.0, 38.0), 5: b"\0", 0x1D: "2020:01:02"}
    text = PngImagePlugin.PngInfo()
    for keyword in ("Author", "Software", "Creation Time", "Title", "Own"):
        text.add_text(keyword, f"{keyword} of the chunk")
    text.add_itxt("XML:com.adobe.xmp", XMP)
    return encoded(PHOTO, "PNG", exif=exif.tobytes(), pnginfo=text)


XMP = """<?xpacket begin="" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description rdf:about="" xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:xmp="http://ns.adobe.com/xap/1.0/"
 xmlns:exif="http://ns.adobe.com/exif/1.0/" xmlns:photoshop="http://ns.adobe.com/photoshop/1.0/"
 xmlns:plus="http://ns.useplus.org/ldf/xmp/1.0/" xmp:CreatorTool="an editor" exif:GPSLatitude="51,28.6N"
 plus:DataMining="http://ns.useplus.org/ldf/vocab/DMI-PROHIBITED-AIMLTRAINING">
<dc:creator><rdf:Seq><rdf:li>Ada</rdf:li></rdf:Seq></dc:creator>
<dc:rights><rdf:Alt><rdf:li xml:lang="x-default">© Ada, all rights</rdf:li></rdf:Alt></dc:rights>
<dc:subject><rdf:Bag><rdf:li>sea</rdf:li><rdf:li>sky</rdf:li></rdf:Bag></dc:subject>
<photoshop:City>London</photoshop:City><xmp:CreateDate>2020-01-02T03:04:05</xmp:CreateDate>
</rdf:Description></rdf:RDF></x:xmpmeta><?xpacket end="w"?>"""

SAID = {
    MetadataGroup.COPYRIGHT: {"Ada", "© Ada", "Author of the chunk", "all rights", "DMI-PROHIBITED-AIMLTRAINING"},
    MetadataGroup.CAMERA: {"Make", "Model", "Software of the chunk", "an editor"},
    MetadataGroup.TIME: {"2020:01:02 03:04:05", "Creation Time of the chunk", "2020-01-02T03:04:05"},
    MetadataGroup.DESCRIPTION: {"A description", "Title of the chunk", "sea", "sky"},
    MetadataGroup.PLACE: {"51,28.6N", "London"},
}


def place_of(content: bytes) -> object:
    with Image.open(io.BytesIO(content)) as opened:
        return opened.getexif().get_ifd(0x8825).get(2)


@pytest.mark.parametrize("groups", [(), *((group,) for group in MetadataGroup), metadata_groups(True)], ids=str)
def test_metadata_are_kept_by_group(groups: tuple[MetadataGroup, ...]) -> None:
    image = decode_bytes(described(), groups)
    released = encode_image(image.pixels, image, ImageFormat.PNG, keep_metadata=bool(groups))
    for group, texts in SAID.items():
        for text in texts:
            if text not in ("Ada", "Make", "Model", "sea", "sky"):  # these may stand in other words
                assert (text.encode() in released) is (group in groups), text
    assert place_of(released) == ((51.0, 28.0, 38.0) if MetadataGroup.PLACE in groups else None)
    for never in (b"serial 7", b"Own of the chunk", b"Own"):
        assert never not in released
    again = decode_bytes(released)
    assert again.metadata == image.metadata


def test_all_but_the_place_is_what_is_kept_unless_said_otherwise() -> None:
    assert set(MetadataGroup) - set(metadata_groups(True)) == {MetadataGroup.PLACE}
    assert metadata_groups(False) == ()


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("Ada  Lovelace\n ", "Ada Lovelace"),
        ("Ada\0Charles", "Ada Charles"),
        ("Größe 写真 👩", "Größe 写真 👩"),
        ("abc\u202egnp\u200b", "abcgnp"),
        ("bell\x07", None),
        ("\ud800", None),
        ("", None),
        (" \0 ", None),
        ("x" * 61, None),
        ("https://example.org/" + "x" * 61, "https://example.org/" + "x" * 61),
        ("word " * 21, None),
    ],
)
def test_text_is_kept_if_it_is_short_and_of_words(text: str, kept: str | None) -> None:
    assert kept_text(text, 100) == kept


def test_xmp_that_is_no_packet_is_left_out() -> None:
    groups = tuple(MetadataGroup)
    bomb = '<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa">]>' + XMP.replace("London", "&a;" * 1000)
    for packet in (b"", b"\xff", XMP.encode()[:300], bomb.encode(), XMP.encode() + b" " * (1 << 20), b"<a/>"):
        assert rebuilt_xmp(packet, groups) is None
    assert rebuilt_xmp(XMP.encode("utf-16"), groups) is None
    many = XMP.replace("<rdf:li>sea</rdf:li>", "<rdf:li>sea</rdf:li>" * 1000)
    assert (rebuilt_xmp(many.encode(), groups) or b"").count(b"<rdf:li>sea") == 50
    nested = XMP.replace("London", "<rdf:Bag>" * 5000 + "</rdf:Bag>" * 5000)
    assert b"City" not in (rebuilt_xmp(nested.encode(), groups) or b"")


def test_a_preview_in_many_short_texts_of_a_list_does_not_survive() -> None:
    text = base64.b64encode(bytes(range(256)) * 40).decode()
    words = [text[start : start + 60] for start in range(0, len(text), 60)]
    items = "".join(f"<rdf:li>{' '.join(words[start : start + 8])}</rdf:li>" for start in range(0, len(words), 8))
    packet = (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        '<rdf:Description xmlns:dc="http://purl.org/dc/elements/1.1/">'
        f"<dc:description><rdf:Alt>{items}</rdf:Alt></dc:description>"
        "</rdf:Description></rdf:RDF></x:xmpmeta>"
    )
    kept = rebuilt_xmp(packet.encode(), tuple(MetadataGroup))
    assert kept is not None
    assert sum(word.encode() in kept for word in words) * 61 <= 512
