"""NumPy's ``.npy`` files from strangers: numbers only, and no memory set aside that the file does not fill."""

import io
import math
import threading
from typing import Any

import numpy as np
import numpy.typing as npt

from mtlue_cli.errors import ImageError

Array = npt.NDArray[Any]

_MAGIC = b"\x93NUMPY"
_NUMBERS = "buif"
_LONGEST_HEADER = 10_000
"""Characters; NumPy's own limit for headers that are not trusted."""

_ONE_PARSER = threading.Lock()
"""NumPy parses a header as a Python expression, which CPython 3.11 at times fails at if two threads parse at once ("AST
constructor recursion depth mismatch", https://github.com/python/cpython/issues/106905)."""


def is_array(content: bytes) -> bool:
    """Whether a file's content begins as a ``.npy`` file does."""
    return content.startswith(_MAGIC)


def decode_array(content: bytes) -> Array:
    """The array of a ``.npy`` file; nothing in it is run or unpickled.

    Returns:
        Booleans, integers or floating point of any shape, read-only.

    Raises:
        ImageError: It is damaged, holds something else than numbers, or not as many as it says.
    """
    stream = io.BytesIO(content)
    try:
        version = np.lib.format.read_magic(stream)
        if version not in ((1, 0), (2, 0)):
            raise ImageError(f"is a NumPy array of version {'.'.join(map(str, version))}, expected 1.0 or 2.0")
        read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        with _ONE_PARSER:
            shape, fortran_order, kind = read_header(stream, _LONGEST_HEADER)
    except ImageError:
        raise
    except Exception as error:  # a header is an expression, which can be wrong in almost any way
        raise ImageError("is a damaged NumPy array: its header cannot be read") from error
    if kind.hasobject:
        raise ImageError("is a NumPy array of Python objects, which could run code when read; save plain numbers")
    if kind.kind not in _NUMBERS:
        raise ImageError(f"is a NumPy array of {kind}, expected plain numbers")
    announced = math.prod(shape) * kind.itemsize
    found = len(content) - stream.tell()
    if announced != found or min(shape, default=1) < 1:
        raise ImageError(f"is a damaged NumPy array: its shape {shape} takes {announced:,} bytes, it has {found:,}")
    array = np.frombuffer(content, kind, offset=stream.tell())
    return array.reshape(shape, order="F" if fortran_order else "C")


def encode_array(array: Array) -> bytes:
    """A ``.npy`` file of ``array``, its type and shape kept."""
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=False)
    return stream.getvalue()
