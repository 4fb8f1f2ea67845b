"""How training runs: precision, interruption, stored state, versions of libraries, digests of data."""

import hashlib
import hmac
import json
import platform
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from importlib.metadata import version
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

import mtlue_cli
from mtlue_cli.choices import Precision
from mtlue_cli.errors import CheckpointError
from mtlue_cli.files import open_regular, write_atomically
from mtlue_cli.keys import Key

STATE_KEY = "mtlue-training-state"
_MAC_KEY = "mtlue-training-state-mac"


def choose_precision(requested: Precision, device: torch.device) -> torch.dtype:
    """The arithmetic type to train in; ``auto`` takes bfloat16 where the processor computes in it.

    A CPU without AVX-512 or AMX instructions for bfloat16 emulates it, an order of magnitude slower than float32.
    """
    if requested is not Precision.AUTO:
        return torch.bfloat16 if requested is Precision.BFLOAT16 else torch.float32
    fast = False
    if device.type == "cuda":
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
    elif device.type == "cpu" and hasattr(torch.cpu, "get_capabilities"):
        capabilities = torch.cpu.get_capabilities()
        fast = any(capabilities.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))
    return torch.bfloat16 if fast else torch.float32


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
    """SHA-256 over uint8 pixels and int64 labels: the identity of a data set, which checkpoints record."""
    digest = hashlib.sha256(str(tuple(images.shape)).encode())
    digest.update(images.cpu().contiguous().numpy().data)
    for name in sorted(labels):
        digest.update(name.encode() + b"\0")
        digest.update(labels[name].cpu().contiguous().numpy().data)
    return digest.hexdigest()


def save_state(path: Path, state: Mapping[str, Any], secret: Key | None = None) -> None:
    """Write nested dictionaries and lists of tensors and plain JSON values, atomically and without pickle.

    ``secret`` authenticates them by an HMAC.
    """
    tensors: dict[str, Tensor] = {}
    structure = json.dumps(_encode(state, tensors))
    metadata = {STATE_KEY: structure}
    if secret is not None:
        metadata[_MAC_KEY] = _state_mac(secret, structure, tensors)
    write_atomically(path, save(tensors, metadata=metadata))


def load_state(path: Path, secret: Key | None = None) -> dict[str, Any]:
    """Read what :func:`save_state` wrote; with a ``secret``, only if that wrote it.

    Raises:
        CheckpointError: The file is damaged or something else, or someone else wrote it.
    """
    with state_faults(path):
        open_regular(path).close()  # a FIFO would be waited for
        with safe_open(path, framework="pt") as stream:
            metadata = stream.metadata() or {}
            tensors = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118  # not a dictionary
        mac = None if secret is None else _state_mac(secret, metadata[STATE_KEY], tensors)
        if mac is not None and not hmac.compare_digest(mac.encode(), metadata.get(_MAC_KEY, "").encode()):
            raise CheckpointError(
                f"the training state {path} was written by an older version, with another key, or by someone else",
                hint=f"delete {path.parent}",
            )
        state = _decode(json.loads(metadata[STATE_KEY]), tensors)
        if not isinstance(state, dict):
            raise ValueError("it is no dictionary")
        return state


@contextmanager
def state_faults(path: Path) -> Iterator[None]:
    """Within it what is wrong with the values of a training state becomes an error that says what to do.

    Raises:
        CheckpointError: For everything that damaged values raise.
    """
    odd = (OSError, SafetensorError, ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)
    try:
        yield
    except odd as error:  # RecursionError is a RuntimeError
        raise CheckpointError(f"the training state {path} is damaged: {error}", hint=f"delete {path.parent}") from None


def _state_mac(secret: Key, structure: str, tensors: Mapping[str, Tensor]) -> str:
    """HMAC of a state, hexadecimal: of its structure, and of names, types, shapes and values of its tensors."""
    digest = hashlib.sha256(structure.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return secret.derive(b"mtlue training state v1\n" + digest.digest()).hex()


def _encode(value: Any, tensors: dict[str, Tensor]) -> Any:  # noqa: ANN401 - JSON
    if isinstance(value, Tensor):
        name = f"t{len(tensors)}"
        tensors[name] = value.detach().cpu().clone(memory_format=torch.contiguous_format)
        return {"tensor": name}
    if isinstance(value, Mapping):
        return {"map": [[key, _encode(entry, tensors)] for key, entry in value.items()]}
    if isinstance(value, list | tuple):
        return {"list": [_encode(entry, tensors) for entry in value]}
    return {"plain": value}


def _decode(node: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Any:  # noqa: ANN401 - JSON
    ((kind, content),) = node.items()
    if kind == "tensor":
        return tensors[content]
    if kind == "map":
        return {key: _decode(entry, tensors) for key, entry in content}
    return [_decode(entry, tensors) for entry in content] if kind == "list" else content
