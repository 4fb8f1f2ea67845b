"""An object store in memory."""

import os
from collections.abc import Iterator

import fsspec
import pytest

# Without gRPC, which the emulator has not. gcsfs reads it when it is imported.
os.environ["GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT"] = "false"


@pytest.fixture
def store() -> Iterator[fsspec.AbstractFileSystem]:
    """An empty object store."""
    filesystem = fsspec.filesystem("memory")
    filesystem.store.clear()
    filesystem.pseudo_dirs[:] = [""]
    yield filesystem
    filesystem.store.clear()
