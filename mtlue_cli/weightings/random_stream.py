"""A random stream for code that draws from torch's global generator."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


class RandomStream:
    """Lends its own state to the global generator of the CPU, and leaves that generator as it was.

    Args:
        seed: What the stream starts from.
    """

    def __init__(self, seed: int) -> None:
        self._state = torch.Generator().manual_seed(seed).get_state()

    @contextmanager
    def drawing(self) -> Iterator[None]:
        """Within, global draws on the CPU come from this stream; each use continues where the last one ended."""
        outside = torch.get_rng_state()
        torch.set_rng_state(self._state)
        try:
            yield
        finally:
            self._state = torch.get_rng_state()
            torch.set_rng_state(outside)
