"""The conditions under which photos are read: how large they may be, and that decoders keep silent.

Both are of the whole process, since they are in Pillow and in the C libraries below it.
"""

import contextlib
import logging
import os
import sys
import warnings
from collections.abc import Iterator

from PIL import Image

from mtlue_cli.choices import MAX_PIXELS

MAX_SIDE = 65_535
"""Longest side in pixels, JPEG's own limit. A line of a hundred million pixels is a small file, but the perturbation is
interpolated across whole rows."""

_BYTES_A_PIXEL = 8
"""Four channels of 16 bits: no photo takes more, uncompressed."""
_SPARE_BYTES = 64 << 20
"""For metadata."""

_limit = MAX_PIXELS


def max_pixels() -> int:
    """Pixels that a photo may have at present."""
    return _limit


def max_bytes() -> int:
    """Bytes that a photo's file may have at present."""
    return _limit * _BYTES_A_PIXEL + _SPARE_BYTES


@contextlib.contextmanager
def photos_up_to(limit: int) -> Iterator[None]:
    """Within it photos of up to ``limit`` pixels, height times width, are read, and Pillow warns of nothing.

    It warns of odd metadata and of sizes; a photo that cannot be read is refused with a reason of our own. Not to be
    entered by two threads.
    """
    global _limit
    before, before_pillow = _limit, Image.MAX_IMAGE_PIXELS
    logger = logging.getLogger("PIL")
    before_level = logger.level
    _limit, Image.MAX_IMAGE_PIXELS = limit, max(limit, before_pillow or 0)
    logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            warnings.filterwarnings("ignore", module=r"PIL\..*")
            yield
    finally:
        _limit, Image.MAX_IMAGE_PIXELS = before, before_pillow
        logger.setLevel(before_level)


@contextlib.contextmanager
def reading_photos(limit: int = MAX_PIXELS) -> Iterator[None]:
    """:func:`photos_up_to`; nor do the C libraries speak: libtiff writes of damage straight to standard error.

    A bar that is drawn within must also end within: the stream that it writes to is closed at the end.
    """
    with photos_up_to(limit), _c_libraries_silenced():
        yield


@contextlib.contextmanager
def _c_libraries_silenced() -> Iterator[None]:
    """Within it the file descriptor of standard error leads nowhere, and Python's own stream past it."""
    try:
        terminal = os.dup(2)
    except OSError:  # closed: nothing to silence
        yield
        return
    stream = sys.stderr
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        with contextlib.ExitStack() as restored:
            if _writes_to(stream, 2):
                stream.flush()
                sys.stderr = restored.enter_context(
                    open(os.dup(terminal), "w", encoding=stream.encoding, errors=stream.errors, buffering=1)
                )
            os.dup2(nowhere, 2)
            try:
                yield
            finally:
                os.dup2(terminal, 2)
                sys.stderr = stream
    finally:
        os.close(nowhere)
        os.close(terminal)


def _writes_to(stream: object, descriptor: int) -> bool:
    try:
        return bool(stream.fileno() == descriptor)  # type: ignore[attr-defined]  # what lacks it is caught
    except (AttributeError, OSError, ValueError):
        return False
