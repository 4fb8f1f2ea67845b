"""What every test may rely on."""

import functools
import os
import random
import signal
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import typer.main

if "PYTEST_XDIST_WORKER" in os.environ:  # before torch is imported: processes side by side take one thread each
    os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """What is drawn from a global generator does not depend on the tests before, nor on the run."""
    random.seed(0)
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)


@pytest.fixture(scope="session", autouse=True)
def own_folders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keys and weights of tests are not those of whoever runs them; the key is the same in every run."""
    folders = {name: tmp_path_factory.mktemp(name.lower()) for name in ("CONFIG", "DATA", "CACHE")}
    key = folders["CONFIG"] / "mtlue" / "key"
    key.parent.mkdir(mode=0o700)
    key.touch(mode=0o600)
    key.write_text("5eed" * 16)
    with pytest.MonkeyPatch.context() as patch:
        for name, folder in folders.items():
            patch.setenv(f"XDG_{name}_HOME", str(folder))
        yield


@pytest.fixture(scope="session", autouse=True)
def commands_made_once() -> Iterator[None]:
    """The commands are made of their options once in a process, as for a user, not at every call of one."""
    once = functools.cache(typer.main.get_command)
    with pytest.MonkeyPatch.context() as patch:
        for name in ("typer.main.get_command", "typer.testing._get_command"):
            patch.setattr(name, once)
        yield


@pytest.fixture(scope="session", autouse=True)
def written_at_once() -> Iterator[None]:
    """Nothing waits for the disk: what is written need not outlast the computer."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", os.fstat)  # an error too where the file is closed
        yield


@pytest.fixture(scope="session", autouse=True)
def same_arithmetic() -> Iterator[Callable[..., Any]]:
    """Networks are trained in float32, also on a CPU with bfloat16 instructions: bits and figures are the same.

    Other processes than that of the tests take what their CPU has; the value is what says that.
    """
    import torch

    before = torch.cpu.get_capabilities
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.cpu, "get_capabilities", dict)
        yield before


@pytest.fixture(scope="session", autouse=True)
def interruptible() -> Iterator[None]:
    """Ctrl-C reaches the processes that tests start, also where the test run itself was told to ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="module")
def tiny_small() -> Iterator[None]:
    """The backbone ``small`` is a far smaller network, in a module whose tests train many and need no certain one."""
    from tests.tiny_network import make_small_tiny  # loads torch

    with pytest.MonkeyPatch.context() as patch:
        make_small_tiny(patch)
        yield
