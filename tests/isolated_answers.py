"""Answers that go wrong, for :mod:`tests.test_isolation`; another process imports this, so it imports little."""

import os
import time
from typing import IO


def answer(out: IO[bytes], how: str) -> None:
    """Answer in a way."""
    if how == "refuse":
        raise ValueError("the reason\nand more")
    if how == "fill":
        out.write(bytes(bytearray(4 << 30)))
    if how == "number":
        out.write(str(os.getpid()).encode())
        return
    out.write(b"begun")
    if how == "abort":
        os.abort()
    time.sleep(3600)
