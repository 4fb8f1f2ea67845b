"""Image decoders within the program: silent on the terminal, and Pillow's own limit out of the way.

All of this is of the whole process, so it is done for a command and not for a call from Python.
"""

import contextlib
import logging
import os
import sys
import warnings
from collections.abc import Iterator

from mtlue_cli.budget import budget
from mtlue_cli.commands.console import stop_drawing


@contextlib.contextmanager
def reading_photos() -> Iterator[None]:
    """Within it photos of as many pixels as the budget has are read, and decoders write nothing to standard error.

    Pillow warns and logs of odd metadata and of sizes, libtiff writes of damage straight to standard error; a photo
    that cannot be read is refused with a reason of our own. Not to be entered by two threads.
    """
    from PIL import Image

    before = Image.MAX_IMAGE_PIXELS
    logger = logging.getLogger("PIL")
    before_level = logger.level
    Image.MAX_IMAGE_PIXELS = max(budget().max_pixels, before or 0)
    logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), _c_libraries_silenced():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            warnings.filterwarnings("ignore", module=r"PIL\..*")
            yield
    finally:
        Image.MAX_IMAGE_PIXELS = before
        logger.setLevel(before_level)


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
                stop_drawing()  # a bar that an error left must not outlive the stream that it is drawn on
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
