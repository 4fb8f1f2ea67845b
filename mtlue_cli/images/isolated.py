"""Photos and maps that a library decodes in one long call, which only the end of its process can interrupt."""

import io
import warnings
from collections.abc import Collection, Mapping
from math import prod
from typing import IO, Any, Literal

import msgspec
import numpy as np
from PIL import Image

from mtlue_cli.choices import MetadataGroup
from mtlue_cli.errors import ImageError
from mtlue_cli.images.arrays import Array
from mtlue_cli.images.decode import DecodedImage, check_size, decode_here, pixel_count
from mtlue_cli.images.metadata import Metadata
from mtlue_cli.isolation import IsolationError, ProcessEndedError, asked

_BYTES_A_PIXEL = 30
"""That decoding takes at most."""


class _Head(msgspec.Struct):
    """What stands before the pixels and the alpha of an answer; of a map its array alone."""

    shape: tuple[int, ...]
    dtype: Literal["bool", "uint8", "uint16", "int32", "float32"]
    has_alpha: bool = False
    format: str = ""
    icc_profile: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    text: Mapping[str, str] = {}
    lost_profile: bool = False


def decode_isolated(content: bytes, metadata: Collection[MetadataGroup]) -> DecodedImage:
    """As :func:`~mtlue_cli.images.decode.decode_bytes`, in a process that ends when the time is over.

    Raises:
        ImageError: It cannot be decoded within the limits.
    """
    head, pixels, alpha = _decoded(content, metadata=[str(group) for group in metadata])
    kept = Metadata(head.exif, head.xmp, head.text)
    return DecodedImage(pixels, alpha, head.format, head.icc_profile, kept, False, head.lost_profile)


def stored_isolated(content: bytes, colours: bool) -> Array:
    """As :func:`~mtlue_cli.images.targets.stored_array`, likewise.

    Raises:
        ImageError: It cannot be decoded within the limits.
    """
    return _decoded(content, colours=colours)[1]


def _decoded(content: bytes, **request: object) -> tuple[_Head, Array, Array | None]:
    memory = 3 * len(content) + _BYTES_A_PIXEL * pixel_count(content)
    try:
        with asked(__name__, {"content": content, **request}, memory) as raw:
            stream = io.BufferedReader(raw, 1 << 20)
            head = msgspec.msgpack.decode(stream.read(int.from_bytes(stream.read(8), "little")), type=_Head)
            height, width = head.shape[:2]
            check_size(width, height)
            if prod(head.shape[2:]) > _MOST_CHANNELS:
                raise ValueError("too many channels")
            array = _array(stream, head.shape, head.dtype)
            alpha = _array(stream, (height, width), "uint8") if head.has_alpha else None
            stream.read()  # the end
    except (ProcessEndedError, OSError, MemoryError, ValueError, msgspec.MsgspecError) as error:
        raise ImageError(f"cannot be decoded: {error}") from error
    except IsolationError as error:
        raise ImageError(str(error)) from error
    return head, array, alpha


_MOST_CHANNELS = 4


def _array(stream: "io.BufferedReader[Any]", shape: tuple[int, ...], dtype: str) -> Array:
    found = np.empty(shape, dtype)
    if stream.readinto(found.data.cast("B")) != found.nbytes:
        raise ValueError("the answer ends early")
    return found


def answer(out: IO[bytes], content: bytes, metadata: Collection[str] = (), colours: bool | None = None) -> None:
    """Write the decoded photo, or with ``colours`` the stored map, to ``out``, in the process for it."""
    Image.MAX_IMAGE_PIXELS = None  # the size is looked at all the same
    warnings.simplefilter("ignore")
    alpha: Array | None = None
    rest: dict[str, Any] = {}
    if colours is None:
        image = decode_here(content, [MetadataGroup(name) for name in metadata])
        array, alpha, kept = image.pixels, image.alpha, image.metadata
        rest = {"format": image.format, "icc_profile": image.icc_profile, "lost_profile": image.lost_profile}
        rest |= {"exif": kept.exif, "xmp": kept.xmp, "text": kept.text}
    else:
        from mtlue_cli.images.targets import stored_here

        array = stored_here(content, colours)
    head = {"shape": array.shape, "dtype": str(array.dtype), "has_alpha": alpha is not None, **rest}
    encoded = msgspec.msgpack.encode(head)
    out.write(len(encoded).to_bytes(8, "little") + encoded)
    for part in (array, alpha):
        if part is not None:
            out.write(np.ascontiguousarray(part).data.cast("B"))
