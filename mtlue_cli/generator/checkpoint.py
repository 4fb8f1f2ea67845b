"""Generator checkpoints: safetensors whose metadata is one JSON document."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open

from mtlue_cli.errors import CheckpointError, MtlueError
from mtlue_cli.manifest import write_atomically
from mtlue_cli.tasks.spec import TaskSet

if TYPE_CHECKING:
    from torch import Tensor

    from mtlue_cli.generator.model import PerturbationGenerator

SCHEMA_VERSION = 1
METADATA_KEY = "mtlue"


@dataclass(frozen=True)
class CheckpointCard:
    """What a checkpoint says of itself.

    Attributes:
        tasks: Tasks and classes, in the order of the embeddings.
        epsilon: Bound in 255ths.
        image_size: Side in pixels of the squares that the generator sees.
        objective: Base method: em, tap or sep.
        settings: Everything that training was told, and the number of steps it took.
        generator: The shape, :class:`~mtlue_cli.generator.model.GeneratorConfig` as a dictionary.
        data_digest: SHA-256 of the training pixels and labels.
        licence: Terms of the weights.
        versions: Of mtlue and the libraries that computed them.
        created: UTC time, ISO 8601.
        digest: SHA-256 of the weights; filled in by :func:`save_checkpoint`.
        name: File stem; filled in when reading.
    """

    tasks: TaskSet
    epsilon: int
    image_size: int
    objective: str
    settings: Mapping[str, Any]
    generator: Mapping[str, Any]
    data_digest: str
    licence: str
    versions: Mapping[str, str]
    created: str
    digest: str = ""
    name: str = field(default="", compare=False)

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready document."""
        document = asdict(self)
        document["tasks"] = self.tasks.to_json()
        del document["name"]
        return {"schema_version": SCHEMA_VERSION, **document}


@dataclass(frozen=True)
class LoadedGenerator:
    """A generator ready for use, on the CPU in evaluation mode, and its card."""

    generator: "PerturbationGenerator"
    card: CheckpointCard


def save_checkpoint(path: Path, generator: "PerturbationGenerator", card: CheckpointCard) -> CheckpointCard:
    """Write weights and card atomically; returns the card with the digest of the weights.

    Raises:
        MtlueError: The weights are not finite: training has diverged.
    """
    from safetensors.torch import save

    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in generator.state_dict().items()}
    if not all(tensor.isfinite().all() for tensor in tensors.values()):
        raise MtlueError("training has diverged: the generator's weights are not finite; lower --learning-rate")
    complete = replace(card, digest=weights_digest(tensors), name=path.stem)
    write_atomically(path, save(tensors, metadata={METADATA_KEY: json.dumps(complete.to_json(), sort_keys=True)}))
    return complete


def read_card(path: Path) -> CheckpointCard:
    """The card alone, without loading torch or the weights.

    Raises:
        CheckpointError: Not a safetensors file, not one of ours, or of a newer schema.
    """
    try:
        with safe_open(path, framework="np") as stream:
            metadata = stream.metadata() or {}
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"{path} cannot be read as a checkpoint: {error}", hint="mtlue reads safetensors files only"
        ) from None
    if METADATA_KEY not in metadata:
        raise CheckpointError(
            f"{path} is a safetensors file but not an mtlue checkpoint (its metadata has no {METADATA_KEY!r} entry)",
            hint="train one with mtlue train-generator",
        )
    try:
        document = json.loads(metadata[METADATA_KEY])
        version = document.pop("schema_version")
        if version > SCHEMA_VERSION:
            raise CheckpointError(
                f"{path} has schema version {version}; this mtlue reads up to {SCHEMA_VERSION}", hint="upgrade mtlue"
            )
        document["tasks"] = TaskSet.from_json(document["tasks"])
        return CheckpointCard(**document, name=path.stem)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path} has damaged metadata: {type(error).__name__}: {error}") from None


def load_checkpoint(path: Path) -> LoadedGenerator:
    """Weights and card, checked against each other.

    Raises:
        CheckpointError: Unreadable, foreign, damaged (the digest differs), of other shapes, or not finite.
    """
    from safetensors.torch import load_file

    from mtlue_cli.generator.model import GeneratorConfig, PerturbationGenerator

    card = read_card(path)
    try:
        tensors = load_file(path)
        generator = PerturbationGenerator(GeneratorConfig(**card.generator), card.tasks)
        generator.load_state_dict(tensors)
    except (OSError, SafetensorError, AttributeError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"{path} does not hold the weights that its metadata describes", [str(error)]) from None
    if weights_digest(tensors) != card.digest:
        raise CheckpointError(f"{path} is damaged: its weights do not have the digest in its metadata")
    broken = [name for name, tensor in tensors.items() if not tensor.isfinite().all()]
    if broken:
        raise CheckpointError(f"{path} holds weights that are not finite", broken)
    return LoadedGenerator(generator.eval(), card)


def weights_digest(tensors: Mapping[str, "Tensor"]) -> str:
    """SHA-256 over names, shapes and values, in the order of the names."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(f"{name}{tuple(tensors[name].shape)}".encode())
        digest.update(tensors[name].contiguous().numpy().data)
    return digest.hexdigest()
