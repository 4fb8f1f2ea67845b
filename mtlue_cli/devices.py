"""Where networks run."""

import threading
from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

from mtlue_cli.errors import InputError

if TYPE_CHECKING:
    import torch
    from torch import nn

ModuleT = TypeVar("ModuleT", bound="nn.Module")

_RANDOM = threading.RLock()
"""Held while the global random numbers are seeded: modules within modules seed their own."""
_STARTING = threading.Lock()
"""Held while the number of torch's threads for threads to come is another."""


def choose_device(name: str) -> "torch.device":
    """The device called ``name``; ``auto`` takes CUDA, then MPS, then the CPU.

    Raises:
        InputError: No such device here.
    """
    import torch

    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"device {name!r} is not available here", [str(error).splitlines()[0]], "try cpu") from None
    return device


def describe_device(device: "torch.device") -> str:
    """The device in words, for the first line of a run."""
    import torch

    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    if device.type == "cpu":
        threads = torch.get_num_threads()
        return f"cpu ({threads} thread{'s' if threads > 1 else ''})"
    return str(device)


def on_device(module: ModuleT, device: "torch.device") -> ModuleT:
    """The module on ``device`` with channels-last weights, the faster layout for convolutions."""
    import torch

    return module.to(device).to(memory_format=torch.channels_last)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Within it torch's global random numbers start from ``seed``; then they are as before. One thread at a time."""
    import torch

    with _RANDOM, torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def compute_alone(pool: Executor, workers: int) -> None:
    """Let each of the ``workers`` threads of a fresh pool compute networks on a CPU without threads of torch's own.

    Torch keeps the number for each thread, and one more for threads to come: that one is as before when this returns.
    """
    import torch

    with _STARTING:
        before = torch.get_num_threads()
        started = threading.Barrier(workers)

        def start() -> None:
            torch.get_num_threads()  # the first question sets the thread's number to the common one
            torch.set_num_threads(1)
            started.wait()  # so that no thread takes two of these

        try:
            for future in [pool.submit(start) for _ in range(workers)]:
                future.result()
        finally:
            started.abort()  # an interrupted caller leaves no thread waiting
            torch.set_num_threads(before)
