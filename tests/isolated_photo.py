"""A decoder that ends its process, for :mod:`tests.images.test_limits`."""

import os


def answer(*_: object, **__: object) -> None:
    """End."""
    os.abort()
