import io
import struct

import numpy as np
import pytest

from mtlue_cli.errors import ImageError
from mtlue_cli.images.arrays import decode_array, encode_array
from mtlue_cli.images.decode import decode_bytes


def with_header(header: str, numbers: bytes = b"", version: tuple[int, int] = (1, 0)) -> bytes:
    text = header.encode()
    length = struct.pack("<H" if version == (1, 0) else "<I", len(text))
    return b"\x93NUMPY" + bytes(version) + length + text + numbers


def header(shape: str, kind: str = "<f4") -> str:
    return f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}}}\n"


@pytest.mark.parametrize("kind", ["bool", "uint8", ">i4", "float16", "float64"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_an_array_is_read_as_it_was_saved(kind: str, order: str) -> None:
    array = np.asarray(np.arange(12).reshape(3, 4) % 2, dtype=kind, order=order)  # type: ignore[call-overload]  # a parameter
    saved = io.BytesIO()
    np.save(saved, array)
    found = decode_array(saved.getvalue())
    assert found.dtype == array.dtype
    assert np.array_equal(found, array)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (with_header(header("(2, 2)"), bytes(15)), "takes 16 bytes, it has 15"),
        (with_header(header("(2, 2)"), bytes(17)), "takes 16 bytes, it has 17"),
        (with_header(header("(1000000, 1000000, 1000)")), "is a damaged NumPy array: its shape"),
        (with_header(header("(-2, -2)"), bytes(16)), "is a damaged NumPy array"),
        (with_header(header("(0, 4)")), "is a damaged NumPy array"),
        (with_header("{"), "its header cannot be read"),
        (with_header("(" * 9000), "its header cannot be read"),
        (with_header(header("(2,)", "<U4"), bytes(32)), "expected plain numbers"),
        (with_header(header("(2,)", "<M8[s]"), bytes(16)), "expected plain numbers"),
        (with_header(header("(1,)"), bytes(4), (3, 0)), "version 3.0"),
        (b"\x93NUMPY", "its header cannot be read"),
    ],
)
def test_a_hostile_array_ends_in_a_reason(content: bytes, reason: str) -> None:
    with pytest.raises(ImageError, match=reason.replace("(", r"\(")):
        decode_array(content)


def test_objects_are_never_unpickled() -> None:
    saved = io.BytesIO()
    np.save(saved, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(ImageError, match="Python objects"):
        decode_array(saved.getvalue())


@pytest.mark.parametrize("first", [False, True])
def test_colours_of_an_array_are_read_in_either_layout(first: bool) -> None:
    pixels = np.random.default_rng(0).random((5, 7, 3), dtype=np.float32)
    decoded = decode_bytes(encode_array(np.moveaxis(pixels, 2, 0) if first else pixels))
    assert decoded.channels_first is first
    assert decoded.size == (5, 7)
    assert np.array_equal(decoded.pixels, pixels)


@pytest.mark.parametrize(
    ("array", "reason"),
    [
        (np.full((4, 4, 3), 1.01), "not colours"),
        (np.full((4, 4, 3), -0.01), "not colours"),
        (np.full((4, 4, 3), np.nan), "not colours"),
        (np.zeros((4, 4)), "expected height x width x 3"),
        (np.zeros((4, 4, 4)), "expected height x width x 3"),
        (np.zeros((4, 4, 3), np.int32), "expected floating-point colours"),
        (np.zeros((1, 70_000, 3), np.uint8), "a side may have"),
    ],
)
def test_an_array_that_is_no_photo_is_refused(array: np.ndarray, reason: str) -> None:
    with pytest.raises(ImageError, match=reason):
        decode_bytes(encode_array(array))
