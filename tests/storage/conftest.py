"""An object store in memory."""

from collections.abc import Iterator

import fsspec
import pytest


@pytest.fixture
def store() -> Iterator[fsspec.AbstractFileSystem]:
    """An empty object store."""
    filesystem = fsspec.filesystem("memory")
    filesystem.store.clear()
    filesystem.pseudo_dirs[:] = [""]
    yield filesystem
    filesystem.store.clear()
