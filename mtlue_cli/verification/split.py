"""Hold out clean test images by content, so that a file stays on its side whatever else is in the folder."""

import hashlib
from collections.abc import Sequence

_RESOLUTION = 2**64


def is_held_out(content: str, fraction: float, seed: int) -> bool:
    """Whether the file whose content hashes to ``content`` is a test image.

    Args:
        content: SHA-256 of the file, hexadecimal.
        fraction: Expected share of test images, in (0, 1).
        seed: Another seed draws another split.
    """
    drawn = hashlib.sha256(f"mtlue split {seed} {content}".encode()).digest()
    return int.from_bytes(drawn[:8], "big") < fraction * _RESOLUTION


def split_by_content(contents: Sequence[str], fraction: float, seed: int) -> tuple[list[int], list[int]]:
    """Rows of the training and of the test side, each in the given order; equal files never part."""
    held_out = [is_held_out(content, fraction, seed) for content in contents]
    train = [row for row, held in enumerate(held_out) if not held]
    return train, [row for row, held in enumerate(held_out) if held]
