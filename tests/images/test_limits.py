"""Work that a header does not show is bounded before a photo is decoded, and what is read is all that a file holds."""

import io
import re
import struct
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFile

from mtlue_cli.budget import Budget, limited_to
from mtlue_cli.errors import ImageError
from mtlue_cli.images import decode
from mtlue_cli.images.arrays import encode_array
from mtlue_cli.images.decode import ARRAY, DecodedImage, decode_bytes, pixel_count, upright_frame
from mtlue_cli.images.square import to_square
from mtlue_cli.images.targets import stored_array, turned_map
from tests.images.pictures import LCMS_SRGB, encoded

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (24, 24, 3), dtype=np.uint8)
SIGNATURE = b"\x89PNG\r\n\x1a\n"


def progressive(scans: int) -> bytes:
    """A progressive JPEG whose last scan is repeated until there are so many."""
    content = encoded(Image.fromarray(PIXELS), "JPEG", progressive=True)
    starts = [found.start() for found in re.finditer(b"\xff\xda", content)]
    return content[:-2] + content[starts[-1] : -2] * (scans - len(starts)) + content[-2:]


def refuse_to_load(image: ImageFile.ImageFile) -> None:
    raise AssertionError(f"{image.format} was decoded")


@pytest.mark.parametrize("read", [decode_bytes, stored_array, lambda content: turned_map(content, 6)])
def test_a_jpeg_of_too_many_scans_is_refused_before_it_is_decoded(
    read: Callable[[bytes], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ImageFile.ImageFile, "load", refuse_to_load)
    with pytest.raises(ImageError, match="has more than 500 scans, the limit; set another one with --max-scans"):
        read(progressive(501))


def test_scans_up_to_the_limit_are_decoded() -> None:
    assert decode_bytes(progressive(500)).size == (24, 24)
    with limited_to(Budget(max_scans=600)):
        assert decode_bytes(progressive(501)).size == (24, 24)


def test_what_looks_like_a_scan_within_a_segment_or_behind_the_photo_is_none() -> None:
    content = progressive(20)
    segment = b"\xff\xe5" + struct.pack(">H", 2 + 2000) + b"\xff\xda" * 1000
    assert decode_bytes(content[:2] + segment + content[2:] + b"\xff\xda" * 1000).size == (24, 24)


def test_a_photo_is_decoded_a_block_at_a_time_until_its_time_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    content = encoded(Image.fromarray(RNG.integers(0, 256, (300, 300, 3), dtype=np.uint8)), "JPEG", quality=95)
    now = iter(range(1_000_000))
    monkeypatch.setattr("mtlue_cli.budget.time.monotonic", lambda: next(now))
    with limited_to(Budget(max_seconds=20)), pytest.raises(ImageError, match="takes more than 20 s to decode"):
        decode_bytes(content)
    assert 20 <= next(now) < 25


def chunks_of(content: bytes) -> list[tuple[bytes, bytes]]:
    """Name and data of each chunk of a PNG."""
    found, at = [], len(SIGNATURE)
    while at < len(content):
        length = int.from_bytes(content[at : at + 4], "big")
        found.append((content[at + 4 : at + 8], content[at + 8 : at + 8 + length]))
        at += 12 + length
    return found


def png_of(chunks: list[tuple[bytes, bytes]]) -> bytes:
    """A PNG of these chunks."""
    parts = [
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    ]
    return SIGNATURE + b"".join(parts)


def deep_png() -> list[tuple[bytes, bytes]]:
    """The chunks of a PNG of 16 bits per colour."""
    rows = RNG.integers(0, 65536, (4, 5, 3), dtype=np.uint16).astype(">u2")
    data = b"".join(b"\0" + row.tobytes() for row in rows)
    return [(b"IHDR", struct.pack(">IIBBBBB", 5, 4, 16, 2, 0, 0, 0)), (b"IDAT", zlib.compress(data)), (b"IEND", b"")]


@pytest.mark.parametrize("read", [decode_bytes, stored_array])
def test_sixteen_bits_are_found_whatever_chunks_stand_before_the_header(read: Callable[[bytes], object]) -> None:
    header, *rest = deep_png()
    shallow = (b"IHDR", header[1][:8] + b"\x08" + header[1][9:])
    for chunks in ([header, *rest], [(b"tEXt", b"a\0b"), header, *rest], [shallow, header, *rest]):
        with pytest.raises(ImageError, match="more than 8 bits per colour"):
            read(png_of(chunks))


def test_frames_are_found_whatever_number_of_them_is_stated() -> None:
    photo = Image.fromarray(PIXELS)
    stream = io.BytesIO()
    others = [Image.fromarray(PIXELS[::-1]), Image.fromarray(PIXELS[:, ::-1])]
    photo.save(stream, format="PNG", save_all=True, append_images=others)
    chunks = chunks_of(stream.getvalue())
    assert [name for name, _ in chunks].count(b"fdAT") >= 2
    one = [(name, struct.pack(">II", 1, 0) if name == b"acTL" else data) for name, data in chunks]
    for content in (png_of(one), png_of([chunk for chunk in chunks if chunk[0] != b"acTL"])):
        with pytest.raises(ImageError, match="several frames"):
            decode_bytes(content)
    text = [chunks[0], (b"tEXt", b"a\0fdAT"), *(chunk for chunk in chunks[1:] if chunk[0] in (b"IDAT", b"IEND"))]
    assert decode_bytes(png_of(text)).size == (24, 24)


@pytest.mark.parametrize(("kind", "most"), [(np.uint8, 100), (np.float16, 100), (np.float32, 66), (np.float64, 33)])
def test_an_array_may_have_eight_bytes_for_each_pixel_of_the_limit(kind: type[np.generic], most: int) -> None:
    with limited_to(Budget(max_pixels=100)):
        assert decode_bytes(encode_array(np.ones((1, most, 3), kind))).size == (1, most)
        with pytest.raises(ImageError, match="--max-pixels"):
            decode_bytes(encode_array(np.ones((1, most + 1, 3), kind)))


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
def test_floating_point_colours_become_levels_without_a_copy_of_them_all(kind: type[np.floating[Any]]) -> None:
    pixels = RNG.random((1500, 1500, 3), dtype=np.float32).astype(kind)
    tracemalloc.start()
    square = to_square(DecodedImage(pixels, None, ARRAY), 8)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4 * 1500 * 1500  # three bytes per pixel, and a row; all at once: 27 and more
    levels = np.rint(pixels * np.float32(255)).astype(np.uint8)
    assert np.array_equal(square, to_square(DecodedImage(levels, None, ARRAY), 8))


@pytest.mark.parametrize(
    ("form", "begin", "part"),
    [("JPEG", 2, b"\xff\xe1\x00\x09Exif\x00\x00a"), ("GIF", 13 + 768, b"!\xfe\x01a\x00")],
)
def test_metadata_in_very_many_parts_are_refused_before_they_are_joined(form: str, begin: int, part: bytes) -> None:
    content = encoded(Image.fromarray(PIXELS).quantize(256) if form == "GIF" else Image.fromarray(PIXELS), form)
    if form == "GIF":
        begin = 13 + 3 * (2 << (content[10] & 7))
    few = content[:begin] + part * 3 + content[begin:]
    assert decode_bytes(few).format == form
    with pytest.raises(ImageError, match="metadata in more than"):
        decode_bytes(content[:begin] + part * 200_000 + content[begin:])
    assert pixel_count(content[:begin] + part * 200_000 + content[begin:]) == 0


@pytest.mark.parametrize("kind", ["TIFF", "WEBP", "JPEG2000", "AVIF"])
def test_what_one_long_call_decodes_comes_from_another_process_and_is_the_same(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    options: dict[str, Any] = {"lossless": True} if kind == "WEBP" else {}
    if kind not in decode.readable_formats():
        pytest.skip("this Pillow does not read it")
    photo = Image.fromarray(PIXELS)
    exif = Image.Exif()
    exif[0x013B], exif[0x0112] = "Ada", 6
    photos = [
        encoded(photo.convert("RGBA"), kind, icc_profile=LCMS_SRGB, **options),
        encoded(photo, kind, **options, **({} if kind == "JPEG2000" else {"exif": exif.tobytes()})),
    ]
    maps = [encoded(photo.convert("L").point(lambda level: level // 100), kind, **options)]
    expected = [decode_bytes(content) for content in photos]
    stored = [stored_array(content) for content in maps] if kind in ("TIFF", "WEBP") else []
    damaged = photos[0][: len(photos[0]) // 2]
    with pytest.raises(ImageError) as fault:
        decode_bytes(damaged)
    monkeypatch.setattr(decode, "LONG_CALL", 1)
    monkeypatch.setattr(decode, "decode_here", lambda *_: pytest.fail("it was decoded here"))
    monkeypatch.setattr("mtlue_cli.images.targets.stored_here", lambda *_: pytest.fail("it was decoded here"))
    for content, photo_here in zip(photos, expected, strict=True):
        found = decode_bytes(content)
        assert np.array_equal(found.pixels, photo_here.pixels)
        assert np.array_equal(np.asarray(found.alpha), np.asarray(photo_here.alpha))
        for name in ("format", "icc_profile", "metadata", "channels_first", "lost_profile", "compression"):
            assert getattr(found, name) == getattr(photo_here, name)
    for content, here in zip(maps, stored, strict=False):
        assert np.array_equal(stored_array(content), here)
        assert stored_array(content).dtype == here.dtype
    with pytest.raises(ImageError, match=re.escape(str(fault.value))):
        decode_bytes(damaged)


def test_a_photo_whose_decoder_ends_its_process_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode, "LONG_CALL", 1)
    monkeypatch.setattr("mtlue_cli.images.isolated.__name__", "tests.isolated_photo")
    with pytest.raises(ImageError, match="cannot be decoded: the library that reads it crashed"):
        decode_bytes(encoded(Image.fromarray(PIXELS), "TIFF"))


def test_the_frame_of_a_photo_is_read_within_the_limits_of_photos(tmp_path: Path) -> None:
    content, part = encoded(Image.fromarray(PIXELS), "JPEG"), b"\xff\xe1\x00\x0aExif\0\0xx"
    (tmp_path / "a.jpg").write_bytes(content[:2] + 100 * part + content[2:])
    (tmp_path / "b.jpg").write_bytes(content[:2] + 101 * part + content[2:])
    gif = encoded(Image.fromarray(PIXELS).quantize(8), "GIF")
    at = gif.index(b"\x2c", 13 + 3 * 8)
    (tmp_path / "c.gif").write_bytes(gif[:at] + b"!\xfe\x01x\x00" * 100_001 + gif[at:])
    frames = [upright_frame(tmp_path / name) for name in ("a.jpg", "b.jpg", "c.gif")]
    assert frames == [(24, 24, 1), None, None]
    with limited_to(Budget(max_seconds=0)):
        assert upright_frame(tmp_path / "a.jpg") is None


@pytest.mark.parametrize("order", ["<", ">"])
def test_a_map_of_16_bits_is_the_same_in_a_process_of_its_own(order: str, monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = RNG.integers(0, 1 << 16, (24, 24), dtype=np.uint16)
    mode = "I;16" if order == "<" else "I;16B"
    content = encoded(Image.frombytes(mode, (24, 24), numbers.astype(f"{order}u2").tobytes()), "TIFF")
    assert content.startswith(b"II" if order == "<" else b"MM")
    here = stored_array(content)
    monkeypatch.setattr(decode, "LONG_CALL", 1)
    for found in (here, stored_array(content)):
        assert found.dtype == np.dtype(np.uint16)
        assert np.array_equal(found, numbers)
