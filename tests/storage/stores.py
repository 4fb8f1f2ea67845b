"""Releases in object stores, and connections that are cut, shared by the tests of storage."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import fsspec
import pytest

import mtlue_cli as mtlue
from mtlue_cli.errors import StorageError
from mtlue_cli.release.check import ReleaseCheck
from mtlue_cli.release.records import FOLDER, LOCK_NAME
from mtlue_cli.storage.objects import Listed, Objects
from mtlue_cli.workflows.protect.run import ProtectResult


def protect(images: str | Path, out: str | Path, **options: Any) -> ProtectResult:  # noqa: ANN401 - any option
    """What ``mtlue.protect`` gives on a CPU."""
    return mtlue.protect(images, out=out, device="cpu", **options)


def faults(release: str | Path, **options: Any) -> tuple[str, ...]:  # noqa: ANN401 - any option
    """What ``mtlue.inspect`` finds wrong with a release."""
    found = mtlue.inspect(release, **options)
    assert isinstance(found, ReleaseCheck)
    return found.faults


def local_content(folder: Path) -> dict[str, bytes]:
    """Every file of a local release but its lock, which a store has not."""
    lock = f"{FOLDER}/{LOCK_NAME}"
    paths = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    return {name: path.read_bytes() for name, path in paths.items() if name != lock}


def content(url: str) -> dict[str, bytes]:
    """Every object below a URL."""
    filesystem, path = fsspec.url_to_fs(url, use_listings_cache=False)
    return {key[len(path) + 1 :]: filesystem.cat_file(key) for key in filesystem.find(path)}


@contextmanager
def watched() -> Iterator[Counter[str]]:
    """Counts what is fetched and put, by name."""
    found: Counter[str] = Counter()
    get_file, put = Objects.get_file, Objects.put

    def got(self: Objects, name: str, to: Path) -> None:
        found[f"get {name}"] += 1
        get_file(self, name, to)

    def was_put(self: Objects, name: str, *words: Any, **more: Any) -> Listed:  # noqa: ANN401 - whatever put takes
        found[f"put {name}"] += 1
        return put(self, name, *words, **more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Objects, "get_file", got)
        patch.setattr(Objects, "put", was_put)
        yield found


@contextmanager
def cut_after(puts: int) -> Iterator[None]:
    """The connection is cut for good after a number of puts: nothing is read, put or removed any more."""
    done = Counter[str]()

    def cut(method: Any) -> Any:  # noqa: ANN401 - any method
        def call(self: Objects, name: str, *words: Any, **more: Any) -> Any:  # noqa: ANN401 - whatever it takes
            done["puts"] += method.__name__.startswith("put")
            if done["puts"] > puts:
                raise StorageError("the connection is cut")
            return method(self, name, *words, **more)

        return call

    with pytest.MonkeyPatch.context() as patch:
        for name in ("put", "put_file", "get", "get_file", "discard", "listed"):
            patch.setattr(Objects, name, cut(getattr(Objects, name)))
        yield
