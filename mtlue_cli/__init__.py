"""mtlue: protect labelled images before you publish them.

What is listed in ``__all__`` is loaded when it is asked for: importing the package alone loads no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mtlue_cli import trace
    from mtlue_cli.api import inspect, protect, train_generator, verify
    from mtlue_cli.errors import InputError, MtlueError
    from mtlue_cli.generator.dataset import ProtectedDataset, ProtectTransform
    from mtlue_cli.generator.generator import Generator
    from mtlue_cli.keys import Key
    from mtlue_cli.release.release import Release

__version__ = "0.1.0"

_MODULES = {
    "Generator": "mtlue_cli.generator.generator",
    "InputError": "mtlue_cli.errors",
    "Key": "mtlue_cli.keys",
    "MtlueError": "mtlue_cli.errors",
    "ProtectTransform": "mtlue_cli.generator.dataset",
    "ProtectedDataset": "mtlue_cli.generator.dataset",
    "Release": "mtlue_cli.release.release",
    "inspect": "mtlue_cli.api",
    "protect": "mtlue_cli.api",
    "train_generator": "mtlue_cli.api",
    "verify": "mtlue_cli.api",
}
"""Where each public name lives."""

__all__ = [
    "Generator",
    "InputError",
    "Key",
    "MtlueError",
    "ProtectTransform",
    "ProtectedDataset",
    "Release",
    "__version__",
    "inspect",
    "protect",
    "trace",
    "train_generator",
    "verify",
]


def __getattr__(name: str) -> Any:  # noqa: ANN401 - the type of the name
    if name == "trace":  # a module of functions
        return import_module("mtlue_cli.trace")
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
