"""Files as they come: every kind, damaged at every place, with all that a file can carry beside its pixels."""

import contextlib
import io
import logging
import os
import struct
import sys
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, PngImagePlugin, features

from mtlue_cli.budget import Budget, limited_to
from mtlue_cli.choices import MAX_PIXELS, ImageFormat, MetadataGroup
from mtlue_cli.commands.decoders import reading_photos
from mtlue_cli.errors import ImageError
from mtlue_cli.images.decode import (
    DecodedImage,
    av1_configurations,
    decode_bytes,
    decode_image,
    read_content,
    readable_formats,
)
from mtlue_cli.images.encode import encode_image, is_compressed_with_loss
from mtlue_cli.images.metadata import Metadata
from mtlue_cli.images.profiles import rebuilt_profile
from mtlue_cli.images.xmp import rebuilt_xmp
from tests.images.pictures import KEEP_PROFILES, LCMS_SRGB, SRGB, encoded, grey_profile, seen_upright

RNG = np.random.default_rng(4)
COLOUR = np.kron(RNG.integers(0, 256, (4, 6, 3), dtype=np.uint8), np.ones((8, 8, 1), dtype=np.uint8))
GREY = COLOUR[..., 0]
ALPHA = RNG.integers(0, 256, GREY.shape, dtype=np.uint8)
DEEP = RNG.integers(0, 65536, GREY.shape, dtype=np.uint16)
HAS_AVIF = "AVIF" in readable_formats() and features.check("avif")
NEEDS_AVIF = pytest.mark.skipif(not HAS_AVIF, reason="this Pillow has no AVIF")


def plain(content: bytes) -> np.ndarray:
    """Pixels as Pillow alone reads them."""
    with Image.open(io.BytesIO(content)) as opened:
        return np.asarray(opened.convert("RGB"))


def decoded_or_reason(content: bytes) -> DecodedImage | str:
    try:
        return decode_bytes(content)
    except ImageError as error:
        return str(error)


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("subsampling", [0, 2])
def test_jpeg_baseline_and_progressive(progressive: bool, subsampling: int) -> None:
    content = encoded(Image.fromarray(COLOUR), "JPEG", progressive=progressive, subsampling=subsampling)
    assert (b"\xff\xc2" in content) == progressive
    assert np.array_equal(decode_bytes(content).pixels, plain(content))
    assert decode_bytes(encoded(Image.fromarray(GREY), "JPEG", progressive=progressive)).pixels.ndim == 2


def test_cmyk_of_adobe_is_not_seen_as_its_negative() -> None:
    red = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    content = encoded(red, "JPEG", quality=95)
    assert b"Adobe" in content
    assert np.abs(decode_bytes(content).pixels.astype(int) - [255, 0, 0]).max() <= 3


@pytest.mark.parametrize("name", ["BMP", "GIF", "PPM", "PNG", "TIFF"])
def test_pictures_of_one_frame_are_read_exactly(name: str) -> None:
    image = decode_bytes(encoded(Image.fromarray(GREY), name))
    assert (image.format, image.alpha) == (name, None)
    shown = image.pixels if image.pixels.ndim == 2 else image.pixels[..., 0]
    assert np.array_equal(shown, GREY)


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_png_of_few_bits(bits: int) -> None:
    few = GREY >> (8 - bits)
    content = encoded(Image.fromarray(few).convert("P"), "PNG", bits=bits)
    assert content[24] == bits
    assert np.array_equal(decode_bytes(content).pixels[..., 0], few)


def test_portable_maps() -> None:
    deep = b"P5 48 32 65535 " + DEEP.astype(">u2").tobytes()
    assert np.array_equal(decode_bytes(deep).pixels, DEEP)
    kept = encode_image(DEEP, decode_bytes(deep), ImageFormat.KEEP)
    assert kept.startswith(b"P5")
    assert np.array_equal(decode_bytes(kept).pixels, DEEP)
    with pytest.raises(ImageError, match="more than 8 bits per colour"):
        decode_bytes(b"P6 2 1 65535 " + bytes(12))
    assert decode_bytes(b"P6 2 1 255 " + bytes(6)).size == (1, 2)
    assert decode_bytes(b"P3 1 1 100 100 0 50").pixels.tolist() == [[[255, 0, 128]]]
    assert set(np.unique(decode_bytes(b"P1 2 1 0 1").pixels)) == {0, 255}


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("compression", [None, "tiff_lzw"])
def test_tiff_of_sixteen_bits_in_either_order(order: str, compression: str | None) -> None:
    image = Image.frombytes("I;16" if order == "<" else "I;16B", (48, 32), DEEP.astype(f"{order}u2").tobytes())
    content = encoded(image, "TIFF", compression=compression)
    assert np.array_equal(decode_bytes(content).pixels, DEEP)
    turned = encoded(image, "TIFF", compression=compression, tiffinfo={0x0112: 6})
    assert np.array_equal(decode_bytes(turned).pixels, np.rot90(DEEP, -1))


@NEEDS_AVIF
def test_avif() -> None:
    content = encoded(Image.fromarray(np.dstack([COLOUR, ALPHA])), "AVIF", quality=100, subsampling="4:4:4")
    image = decode_bytes(content)
    assert image.format == "AVIF"
    assert np.abs(image.pixels.astype(int) - COLOUR).max() <= 8
    assert image.alpha is not None
    kept = encode_image(COLOUR, decode_bytes(encoded(Image.fromarray(COLOUR), "AVIF")), ImageFormat.KEEP)
    assert is_compressed_with_loss(kept[:12])
    assert np.abs(decode_bytes(kept).pixels.astype(int) - COLOUR).max() <= 8
    # Pillow writes no more than 8 bits and gives no depth of what it reads: the configuration box tells.
    place = content.index(b"av1C\x81") + 6
    assert not any(flags & 0x40 for flags in av1_configurations(content))
    deep = content[:place] + bytes([content[place] | 0x40]) + content[place + 1 :]
    assert any(flags & 0x40 for flags in av1_configurations(deep))


def test_what_is_compressed_with_loss_is_recognised_by_content() -> None:
    assert is_compressed_with_loss(encoded(Image.fromarray(COLOUR), "JPEG")[:12])
    for name in ("PNG", "WEBP", "TIFF", "BMP", "PPM"):
        assert not is_compressed_with_loss(encoded(Image.fromarray(COLOUR), name)[:12])


@pytest.mark.parametrize("name", ["GIF", "PNG", "TIFF", "WEBP", pytest.param("AVIF", marks=NEEDS_AVIF)])
def test_several_frames_are_refused(name: str) -> None:
    content = encoded(Image.fromarray(COLOUR), name, save_all=True, append_images=[Image.fromarray(255 - COLOUR)])
    with pytest.raises(ImageError, match="several frames or pages"):
        decode_bytes(content)


def test_an_mpo_of_previews_is_a_photo_and_one_of_views_is_not() -> None:
    # Pillow calls the second view undefined, as phones do theirs.
    content = encoded(Image.fromarray(COLOUR), "MPO", save_all=True, append_images=[Image.fromarray(255 - COLOUR)])
    image = decode_bytes(content)
    assert image.format == "JPEG"
    assert np.abs(image.pixels.astype(int) - COLOUR).mean() < 20
    first = struct.pack("<L", 0x030000)
    place = content.rindex(first, 0, content.index(b"MPF") + 100)
    for frames in (0x020001, 0x020002, 0x020003):
        with pytest.raises(ImageError, match="several frames or pages"):
            decode_bytes(content[:place] + struct.pack("<L", frames) + content[place + 4 :])


def test_a_gif_cannot_be_kept_as_one() -> None:
    image = decode_bytes(encoded(Image.fromarray(GREY), "GIF"))
    with pytest.raises(ImageError, match="use --format png"):
        encode_image(image.pixels, image, ImageFormat.KEEP)
    see_through = decode_bytes(encoded(Image.fromarray(GREY).convert("P"), "GIF", transparency=int(GREY[0, 0])))
    assert see_through.alpha is not None
    assert see_through.alpha[0, 0] == 0


def with_orientation(name: str, orientation: int, how: str) -> bytes:
    picture = Image.fromarray(COLOUR)
    lossless: dict[str, object] = {"lossless": True} if name == "WEBP" else {"quality": 95, "subsampling": 0}
    if how == "xmp":
        packet = f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf tiff:Orientation="{orientation}"/></x:xmpmeta>'
        return encoded(picture, name, xmp=packet.encode(), **lossless)
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(picture, name, exif=exif.tobytes(), **lossless)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(("name", "how"), [("JPEG", "exif"), ("TIFF", "exif"), ("WEBP", "exif"), ("WEBP", "xmp")])
def test_orientation_of_every_format_is_applied_once(name: str, how: str, orientation: int) -> None:
    turned = seen_upright(COLOUR, orientation)
    image = decode_bytes(with_orientation(name, orientation, how))
    assert image.pixels.shape == turned.shape
    assert np.abs(image.pixels.astype(int) - turned).mean() < (4 if name == "JPEG" else 0.01)
    for image_format in ImageFormat:
        released = decode_bytes(encode_image(image.pixels, image, image_format, keep_metadata=True))
        assert released.pixels.shape == turned.shape
        assert np.abs(released.pixels.astype(int) - turned).mean() < (8 if name == "JPEG" else 0.01)


@pytest.mark.parametrize(
    "exif",
    [b"Exif\0\0", b"Exif\0\0garbage!" * 3, b"Exif\0\0MM\0*\0\0\0\x08\xff\xff", b"Exif\0\0II*\0\xff\xff\xff\xff"],
)
@pytest.mark.parametrize("name", ["JPEG", "PNG", "WEBP"])
def test_broken_exif_turns_nothing_and_refuses_nothing(name: str, exif: bytes) -> None:
    content = encoded(Image.fromarray(COLOUR), name, exif=exif)
    with reading_photos():  # Pillow warns of it
        image = decode_bytes(content)
        assert np.array_equal(image.pixels, plain(content))
        assert encode_image(image.pixels, image, ImageFormat.PNG, keep_metadata=True)


def test_one_broken_entry_does_not_take_the_others_along() -> None:
    exif = Image.Exif()
    exif[0x010E] = "a description"
    exif[0x011A] = 0.5
    content = exif.tobytes()
    # A resolution of no value at all: what Pillow reads it cannot write.
    broken = content.replace(struct.pack("<HHL", 0x011A, 5, 1), struct.pack("<HHL", 0x011A, 5, 0)).replace(
        struct.pack(">HHL", 0x011A, 5, 1), struct.pack(">HHL", 0x011A, 5, 0)
    )
    image = decode_bytes(encoded(Image.fromarray(COLOUR), "JPEG", exif=broken))
    assert b"a description" in (image.metadata.exif or b"")


@pytest.mark.parametrize("name", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_colour_profiles_are_rebuilt_once_and_broken_ones_are_left_out(name: str) -> None:
    for profile, kept in ((LCMS_SRGB, SRGB), (bytes(range(256)) * 3, None), (b"no profile at all", None)):
        image = decode_bytes(encoded(Image.fromarray(COLOUR), name, icc_profile=profile))
        assert image.icc_profile == kept
        assert image.lost_profile is (kept is None)
        for image_format in KEEP_PROFILES:
            again = decode_bytes(encode_image(image.pixels, image, image_format))
            assert again.icc_profile == kept
            assert not again.lost_profile


def test_a_damaged_profile_chunk_is_left_out() -> None:
    content = encoded(Image.fromarray(COLOUR), "PNG", icc_profile=LCMS_SRGB)
    place = content.index(b"iCCP")
    length = int.from_bytes(content[place - 4 : place], "big")
    body = content[place + 4 : place + 4 + length]
    body = body[:-200] + bytes(200)
    chunk = b"iCCP" + body
    damaged = content[:place] + chunk + zlib.crc32(chunk).to_bytes(4, "big") + content[place + 8 + length :]
    image = decode_bytes(damaged)
    assert image.icc_profile is None
    assert np.array_equal(image.pixels, COLOUR)


def test_the_profile_of_grey_does_not_travel_to_a_format_without_grey() -> None:
    profile = rebuilt_profile(grey_profile())
    assert profile is not None
    image = decode_bytes(encoded(Image.fromarray(GREY), "PNG", icc_profile=profile))
    assert decode_bytes(encode_image(GREY, image, ImageFormat.PNG)).icc_profile == profile
    assert decode_bytes(encode_image(GREY, image, ImageFormat.WEBP)).icc_profile is None


def sources() -> dict[str, bytes]:
    noise = Image.fromarray(RNG.integers(0, 256, (24, 20, 3), dtype=np.uint8))
    kinds: dict[str, bytes] = {
        "JPEG": encoded(noise, "JPEG"),
        "progressive JPEG": encoded(noise, "JPEG", progressive=True),
        "PNG": encoded(noise, "PNG"),
        "TIFF": encoded(noise, "TIFF"),
        "deflated TIFF": encoded(noise, "TIFF", compression="tiff_adobe_deflate"),
        "BMP": encoded(noise, "BMP"),
        "GIF": encoded(noise.quantize(32), "GIF"),
        "WEBP": encoded(noise, "WEBP", lossless=True),
        "PPM": encoded(noise, "PPM"),
    }
    if HAS_AVIF:
        kinds["AVIF"] = encoded(noise, "AVIF")
    return kinds


SOURCES = sources()


@pytest.mark.parametrize("kind", SOURCES)
def test_truncated_anywhere_it_is_refused_or_nothing_is_missing(kind: str) -> None:
    content = SOURCES[kind]
    whole = decode_bytes(content).pixels
    refused = 0
    with reading_photos():
        for length in range(0, len(content), max(1, len(content) // 97)):
            found = decoded_or_reason(content[:length])
            if isinstance(found, str):
                refused += 1
                assert found.split()[0] in ("is", "has", "holds")
            else:
                assert np.array_equal(found.pixels, whole), length
    assert refused > 85


@pytest.mark.parametrize("kind", SOURCES)
def test_changed_anywhere_it_is_read_or_refused(kind: str) -> None:
    rng = np.random.default_rng(5)
    with limited_to(Budget(max_pixels=1_000_000)), reading_photos():
        for _ in range(60):
            content = bytearray(SOURCES[kind])
            for place in rng.integers(0, min(len(content), 400), 3):
                content[place] = rng.integers(0, 256)
            found = decoded_or_reason(bytes(content))
            assert found.strip() if isinstance(found, str) else found.pixels.size


@pytest.mark.parametrize("kind", SOURCES)
def test_trailing_junk_changes_nothing_and_is_not_released(kind: str) -> None:
    image = decode_bytes(SOURCES[kind])
    with_junk = decode_bytes(SOURCES[kind] + b"JUNK" * 500)
    assert np.array_equal(image.pixels, with_junk.pixels)
    assert b"JUNK" not in encode_image(image.pixels, with_junk, ImageFormat.PNG, keep_metadata=True)


@pytest.mark.parametrize("size", [(1, 1), (1, 5000), (5000, 1), (1, 65535)])
def test_thin_photos_are_read(size: tuple[int, int]) -> None:
    assert decode_bytes(encoded(Image.new("RGB", size, (1, 2, 3)), "PNG")).size == size[::-1]


def announced(width: int, height: int) -> bytes:
    """A small PNG whose header announces another size."""
    content = bytearray(encoded(Image.fromarray(COLOUR), "PNG"))
    content[16:24] = struct.pack(">II", width, height)
    content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
    return bytes(content)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("width", "height", "limit", "reason"),
    [
        (30_000, 20_000, None, "more pixels than allowed, the limit is 178,956,970; set another one with --max-pixels"),
        (30_000, 20_000, 300_000_000, "30000 x 20000 = 600,000,000 pixels, the limit is 300,000,000"),
        (100, 200, 19_999, "100 x 200 = 20,000 pixels, the limit is 19,999"),
        (178_000_000, 1, None, "a side may have at most 65,535"),
        (1, 70_000, None, "a side may have at most 65,535"),
    ],
)
def test_too_large_is_reported_before_anything_is_decoded(
    width: int, height: int, limit: int | None, reason: str
) -> None:
    with limited_to(Budget(limit or MAX_PIXELS)), reading_photos(), pytest.raises(ImageError) as caught:
        decode_bytes(announced(width, height))
    assert reason in str(caught.value)


def test_a_larger_limit_allows_larger_photos() -> None:
    with limited_to(Budget(700_000_000)), reading_photos(), pytest.raises(ImageError, match="is damaged"):
        decode_bytes(announced(30_000, 20_000))  # on to its pixels, of which few are there


def test_bombs_of_text_and_profile_are_refused_or_left_out() -> None:
    bomb = zlib.compress(bytes(4 << 20))
    for name, head in ((b"zTXt", b"Comment\0\0"), (b"iCCP", b"profile\0\0")):
        chunk = name + head + bomb
        content = encoded(Image.fromarray(COLOUR), "PNG")
        packed = struct.pack(">I", len(chunk) - 4) + chunk + zlib.crc32(chunk).to_bytes(4, "big")
        with_bomb = content[:33] + packed + content[33:]
        found = decoded_or_reason(with_bomb)
        if isinstance(found, str):
            assert "Decompressed data too large" in found
        else:
            assert found.icc_profile is None


def test_files_that_are_none(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(ImageError, match="is a FIFO, expected a file"):
        decode_image(tmp_path / "pipe.png")
    (tmp_path / "empty.png").touch()
    with pytest.raises(ImageError, match="is empty"):
        decode_image(tmp_path / "empty.png")
    with (tmp_path / "huge.png").open("wb") as stream:
        stream.truncate(1 << 40)  # takes no space
    with pytest.raises(ImageError, match=r"has 1,099,511,627,776 bytes.*--max-pixels"):
        read_content(tmp_path / "huge.png")
    (tmp_path / "wrong.gif").write_bytes(SOURCES["JPEG"])
    assert decode_image(tmp_path / "wrong.gif").format == "JPEG"


GPS = {1: "N", 2: (51.0, 28.0, 38.0), 3: "W", 4: (0.0, 0.0, 5.0)}
XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    b'<rdf:Description rdf:about="" xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:tiff="http://ns.adobe.com/tiff/1.0/">'
    b"<dc:creator>Ada of XMP</dc:creator></rdf:Description></rdf:RDF></x:xmpmeta>"
)
KEPT_XMP = rebuilt_xmp(XMP, tuple(MetadataGroup))
"""As photos keep it."""


def with_metadata(name: str) -> bytes:
    exif = Image.Exif()
    exif[0x010E] = "EXIF description"
    exif[0x8825] = GPS
    options: dict[str, object] = {"exif": exif.tobytes(), "icc_profile": LCMS_SRGB}
    if name == "PNG":
        text = PngImagePlugin.PngInfo()
        text.add_text("Author", "Ada of PNG")
        text.add_text("Title", "a title", zip=True)
        text.add_itxt("Comment", "Größe")
        text.add_itxt("XML:com.adobe.xmp", XMP.decode())
        text.add_text("Raw profile type iptc", "\niptc\n 4\n00000000\n")
        options["pnginfo"] = text
    elif name == "TIFF":
        exif[700] = XMP
        options["exif"] = exif.tobytes()
    else:
        options["xmp"] = XMP
    if name == "JPEG":
        options["comment"] = b"comment of JPEG"
    return encoded(Image.fromarray(COLOUR), name, **options)


def latitude(content: bytes) -> object:
    with Image.open(io.BytesIO(content)) as opened:
        return dict(opened.getexif().get_ifd(0x8825)).get(2)


@pytest.mark.parametrize("image_format", KEEP_PROFILES)
@pytest.mark.parametrize("name", ["JPEG", "PNG", "TIFF", "WEBP", pytest.param("AVIF", marks=NEEDS_AVIF)])
def test_metadata_are_dropped_unless_asked_for(name: str, image_format: ImageFormat) -> None:
    source = with_metadata(name)
    assert latitude(source) == GPS[2]
    image = decode_bytes(source)

    dropped = encode_image(image.pixels, image, image_format)
    bare = decode_bytes(dropped)
    assert latitude(dropped) is None
    assert (bare.metadata.exif, bare.metadata.xmp, bare.metadata.text) == (None, None, {})
    for trace in (b"EXIF description", b"Ada of", b"a title", b"comment of", b"xmpmeta"):
        assert trace not in dropped
    assert bare.icc_profile == SRGB

    kept = encode_image(image.pixels, image, image_format, keep_metadata=True)
    after = decode_bytes(kept)
    assert latitude(kept) == GPS[2]
    assert b"EXIF description" in (after.metadata.exif or b"")
    assert b"Ada of XMP" in (after.metadata.xmp or b"")
    assert after.icc_profile == SRGB
    if name == "PNG" and image_format is not ImageFormat.WEBP:
        assert after.metadata.text == {"Author": "Ada of PNG", "Title": "a title", "Comment": "Größe"}
    if name == "JPEG" and image_format is not ImageFormat.WEBP:
        assert after.metadata.text == {"Comment": "comment of JPEG"}


def test_pictures_in_metadata_are_never_kept() -> None:
    preview = "/9j/4AAQSkZJRgABAQ" * 100
    lines = "&#xA;".join(preview[start : start + 76] for start in range(0, len(preview), 76))
    packet = XMP.replace(b"Ada of XMP", lines.encode())
    text = PngImagePlugin.PngInfo()
    text.add_text("thumbnail", preview)
    text.add_text("Author", "Ada, who writes rather a lot. " * 4)
    text.add_itxt("XML:com.adobe.xmp", packet.decode())
    image = decode_bytes(encoded(Image.fromarray(COLOUR), "PNG", pnginfo=text))
    assert image.metadata.xmp is None
    assert set(image.metadata.text) == {"Author"}


def test_xmp_loses_its_orientation_and_a_jpeg_what_it_cannot_hold() -> None:
    turned = b"tiff:Orientation='6'><tiff:Orientation>6</tiff:Orientation><dc:creator>"
    packet = XMP.replace(b"><dc:creator>", b" " + turned)
    image = decode_bytes(encoded(Image.fromarray(COLOUR), "WEBP", lossless=True, xmp=packet))
    assert image.metadata.xmp == KEPT_XMP
    long = XMP.replace(b"Ada of XMP", b"Ada, of XMP. " * 6000)
    jpeg = decode_bytes(encoded(Image.fromarray(COLOUR), "JPEG"))
    for packet, stays in ((XMP, True), (long, False)):
        like = DecodedImage(jpeg.pixels, None, "JPEG", metadata=Metadata(xmp=packet))
        released = encode_image(jpeg.pixels, like, ImageFormat.KEEP, keep_metadata=True)
        assert (b"xmpmeta" in released) == stays


def damaged_fax() -> bytes:
    """A TIFF in fax compression whose data stop early: libtiff complains of it aloud."""
    content = encoded(Image.fromarray(GREY).convert("1"), "TIFF", compression="group4")
    with Image.open(io.BytesIO(content)) as opened:
        start, length = opened.tag_v2[273][0], opened.tag_v2[279][0]  # type: ignore[attr-defined]  # TIFF images have it
    return content[:start] + bytes([0x55, 0x01] * length)[:length] + content[start + length :]


def test_libraries_say_nothing_on_the_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    def decode() -> None:
        with contextlib.suppress(ImageError):
            decode_bytes(damaged_fax())

    decode()
    assert capfd.readouterr().err, "libtiff says nothing of this damage: the test shows nothing"
    with reading_photos():
        decode()
        warnings.warn_explicit("odd EXIF", UserWarning, "Image.py", 1, module="PIL.Image")
        logging.getLogger("PIL.TiffImagePlugin").warning("odd TIFF")
        print("a line of our own", file=sys.stderr)
    os.write(2, b"and after\n")
    reported = capfd.readouterr().err
    assert "Fax" not in reported
    assert "odd" not in reported
    assert "a line of our own" in reported
    assert reported.endswith("and after\n")


def test_a_tiff_keeps_xmp_without_exif() -> None:
    like = DecodedImage(COLOUR, None, "TIFF", metadata=Metadata(xmp=KEPT_XMP))
    released = encode_image(COLOUR, like, ImageFormat.KEEP, keep_metadata=True)
    assert decode_bytes(released).metadata.xmp == KEPT_XMP
