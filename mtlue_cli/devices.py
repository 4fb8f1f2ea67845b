"""Where networks run."""

from typing import TypeVar

import torch
from torch import nn

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
        raise InputError(f"device {name!r} is not available here", [str(error).splitlines()[0]], "try cpu") from None
    return device


def describe_device(device: torch.device) -> str:
    """The device in words, for the first line of a run."""
    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    if device.type == "cpu":
        threads = torch.get_num_threads()
        return f"cpu ({threads} thread{'s' if threads > 1 else ''})"
    return str(device)


def on_device(module: ModuleT, device: torch.device) -> ModuleT:
    """The module on ``device`` with channels-last weights, the faster layout for convolutions."""
    return module.to(device).to(memory_format=torch.channels_last)
