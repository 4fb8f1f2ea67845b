"""A stand-in for Ray: actors in this process that get pickled copies of what they are given, and die when told to."""

import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from mtlue_cli.engines import ray as ray_engine


class RayError(Exception):
    pass


class RayTaskError(RayError):
    pass


class Reference:
    def __init__(self, compute: Callable[[], Any]) -> None:
        self.compute = compute


class FakeRay:
    """The part of Ray that the engine uses.

    Attributes:
        most_pending: Units and starts that were under way at the same time.
        sizes: Bytes of each argument of a call.
    """

    exceptions = SimpleNamespace(RayError=RayError, RayTaskError=RayTaskError)

    def __init__(self, cpus: int = 2) -> None:
        self.cpus = cpus
        self.calls = 0
        self.dies_at: frozenset[int] = frozenset()
        self.most_pending = 0
        self.sizes: list[int] = []
        self.killed = 0
        self.options: list[dict[str, Any]] = []

    def is_initialized(self) -> bool:
        return True

    def nodes(self) -> list[dict[str, Any]]:
        gone = {"Alive": False, "Resources": {"CPU": 64.0}}
        return [{"Alive": True, "Resources": {"CPU": 1.0}} for _ in range(self.cpus)] + [gone]

    def put(self, value: object) -> bytes:
        return pickle.dumps(value)

    def wait(self, references: list[Reference], num_returns: int) -> tuple[list[Reference], list[Reference]]:
        assert num_returns == 1
        self.most_pending = max(self.most_pending, len(references))
        return [references[-1]], references[:-1]

    def get(self, reference: Reference) -> Any:  # noqa: ANN401 - a result
        return pickle.loads(pickle.dumps(reference.compute()))

    def kill(self, _: object) -> None:
        self.killed += 1

    def remote(self, kind: type[Any]) -> Any:  # noqa: ANN401 - as Ray's
        def options(**given: Any) -> Any:  # noqa: ANN401 - as Ray's
            self.options.append(given)
            return SimpleNamespace(remote=lambda start, *rest: self._actor(kind(pickle.loads(start), *rest)))

        return SimpleNamespace(options=options)

    def _actor(self, worker: Any) -> Any:  # noqa: ANN401 - of the class that was given
        return SimpleNamespace(
            **{
                name: SimpleNamespace(remote=lambda *given, name=name: self._call(getattr(worker, name), given))
                for name in ("begin", "run")
            }
        )

    def _call(self, method: Callable[..., Any], given: tuple[Any, ...]) -> Reference:
        self.calls += 1
        dies, sent = self.calls in self.dies_at, pickle.dumps(given)
        self.sizes.append(len(sent))

        def compute() -> object:
            if dies:
                raise RayError("The actor died unexpectedly.\n Its worker process has exited.")
            return method(*pickle.loads(sent))

        return Reference(compute)


@contextmanager
def fake_cluster(cpus: int = 2, dies_at: frozenset[int] = frozenset()) -> Iterator[FakeRay]:
    """Within it ``--engine ray`` uses a fake one, whose calls of these numbers, from 1 on, find their actor dead."""
    fake = FakeRay(cpus)
    fake.dies_at = dies_at
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ray_engine, "ray_module", lambda: fake)
        patch.setattr("mtlue_cli.engines.engine.find_spec", lambda _: fake)
        yield fake
