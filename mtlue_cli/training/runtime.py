"""Where and how training runs: device, precision, versions of libraries, digests of data."""

import hashlib
import platform
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from importlib.metadata import version
from types import FrameType
from typing import TypeVar

import torch
from torch import Tensor, nn

import mtlue_cli
from mtlue_cli.choices import Precision
from mtlue_cli.errors import InputError

ModuleT = TypeVar("ModuleT", bound=nn.Module)


def choose_device(name: str) -> torch.device:
    """The device called ``name``; ``auto`` takes CUDA, then MPS, then the CPU.

    Raises:
        InputError: No such device here.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise InputError(
            f"device {name!r} is not available here", [str(error).splitlines()[0]], "try --device cpu"
        ) from None
    return device


def describe_device(device: torch.device) -> str:
    """The device in words, for the first line of a run."""
    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    if device.type == "cpu":
        threads = torch.get_num_threads()
        return f"cpu ({threads} thread{'s' if threads > 1 else ''})"
    return str(device)


def choose_precision(requested: Precision, device: torch.device) -> torch.dtype:
    """The arithmetic type to train in; ``auto`` takes bfloat16 where the processor computes in it.

    A CPU without AVX-512 or AMX instructions for bfloat16 emulates it, an order of magnitude slower than float32.
    """
    if requested is not Precision.AUTO:
        return torch.bfloat16 if requested is Precision.BFLOAT16 else torch.float32
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32
    if device.type == "cpu":
        capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
        fast = bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16") or capabilities.get("bf16"))
        return torch.bfloat16 if fast else torch.float32
    return torch.float32


def autocast(device: torch.device, dtype: torch.dtype) -> AbstractContextManager[None]:
    """Mixed precision in ``dtype``; does nothing for float32."""
    return torch.autocast(device.type, dtype=dtype, enabled=dtype is not torch.float32)


@contextmanager
def flush_denormals() -> Iterator[None]:
    """Treat denormal numbers as zero while training on a CPU, where they are slow."""
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


def placed(module: ModuleT, device: torch.device) -> ModuleT:
    """The module on ``device`` with channels-last weights, the faster layout for convolutions."""
    return module.to(device).to(memory_format=torch.channels_last)


@contextmanager
def deferred_interrupt() -> Iterator[Callable[[], bool]]:
    """Hold Ctrl-C (and SIGTERM) back until the caller asks: yields a function that says whether it was pressed.

    A step that is half done cannot be saved. A second Ctrl-C interrupts at once. Outside the main thread, where signals
    cannot be handled, nothing is held back.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    pressed = False

    def remember(signum: int, frame: FrameType | None) -> None:  # noqa: ARG001  # the signature is given
        nonlocal pressed
        if pressed:
            raise KeyboardInterrupt
        pressed = True

    before = {signum: signal.signal(signum, remember) for signum in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: pressed
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


def library_versions() -> dict[str, str]:
    """Versions of everything that computes weights, for a checkpoint's card."""
    return {
        "mtlue": mtlue_cli.__version__,
        "torch": torch.__version__,
        "torchvision": version("torchvision"),
        "python": platform.python_version(),
    }


def data_digest(images: Tensor, labels: Mapping[str, Tensor]) -> str:
    """SHA-256 over pixels and labels: the name of a data set by content, which checkpoints record.

    Args:
        images: uint8, any shape, on any device.
        labels: Task name to int64 indices, in any order; may be empty.
    """
    digest = hashlib.sha256(str(tuple(images.shape)).encode())
    digest.update(images.cpu().contiguous().numpy().data)
    for name in sorted(labels):
        digest.update(name.encode() + b"\0")
        digest.update(labels[name].cpu().contiguous().numpy().data)
    return digest.hexdigest()
