"""Training state on disk without pickle: tensors in safetensors, structure in its JSON metadata."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from mtlue_cli.errors import CheckpointError
from mtlue_cli.files import write_atomically

KEY = "mtlue-training-state"


def save_state(path: Path, state: Mapping[str, Any]) -> None:
    """Write nested dictionaries and lists of tensors and plain JSON values, atomically."""
    tensors: dict[str, Tensor] = {}
    structure = json.dumps(_encode(state, tensors))
    write_atomically(path, save(tensors, metadata={KEY: structure}))


def load_state(path: Path) -> dict[str, Any]:
    """Read what :func:`save_state` wrote.

    Raises:
        CheckpointError: The file is damaged or something else.
    """
    try:
        with safe_open(path, framework="pt") as stream:
            metadata = stream.metadata() or {}
            tensors = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118  # not a dictionary
        state = _decode(json.loads(metadata[KEY]), tensors)
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise CheckpointError(f"the training state {path} is damaged: {error}", hint=f"delete {path.parent}") from None
    assert isinstance(state, dict)
    return state


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
