"""Generator checkpoints: safetensors whose metadata is one JSON document."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open

from mtlue_cli.budget import budget
from mtlue_cli.choices import CPU_CALL_SIZE, MAX_PATTERN_CELLS
from mtlue_cli.errors import CheckpointError, DivergedError
from mtlue_cli.files import open_regular, write_atomically
from mtlue_cli.tasks.spec import TaskSet

if TYPE_CHECKING:
    from torch import Tensor

    from mtlue_cli.generator.model import PerturbationGenerator
    from mtlue_cli.keys import Key

SCHEMA_VERSION = 3
"""Version 1 had no digest of the card, version 2 no universal generators; both are still read."""
_WITH_TASKS = 2
"""What generators with tasks of their own are written as: nothing about them has changed since."""
METADATA_KEY = "mtlue"
_ANEW = "get a fresh copy, or train one with mtlue train-generator"
_DIGEST_KEY = "card_sha256"
_SUMMARISED = 8
LARGEST = {"epsilon": 255, "image_size": 4096, "label_grid": 1024, "pattern_grid": MAX_PATTERN_CELLS}
"""Of numbers of a generator's shape; widths and depths have limits of their own."""
_TEXTS = ("objective", "data_digest", "licence", "created", "digest")
_OBJECTS = ("settings", "generator", "versions")
_LARGEST_WIDTH, _LARGEST_DEPTH = 2048, 64
_LARGEST_NUMBER = 1e6
_BYTES_A_NUMBER = 4
_PICKLES = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")


@dataclass(frozen=True)
class CheckpointCard:
    """The metadata of a checkpoint.

    Attributes:
        tasks: In the order of the embeddings.
        epsilon: Bound in 255ths.
        image_size: Side in pixels of the squares that the generator sees.
        objective: Base method: em, tap or sep; none if nothing was trained.
        settings: All settings of the training, and the number of steps it took.
        generator: The shape, :class:`~mtlue_cli.generator.model.GeneratorConfig` as a dictionary.
        data_digest, digest: SHA-256 of the training pixels and labels; of the weights, by :func:`save_checkpoint`.
        versions, created: Of mtlue and the libraries that computed them; UTC time, ISO 8601.
        universal: Whether the generator has no tasks of its own and is bound to the codes of a key before use.
        name: File stem.
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
    universal: bool = False
    name: str = field(default="", compare=False)

    @property
    def kept(self) -> tuple[str, ...]:
        """Columns that training kept useful (``train-generator --keep``); they are not protected."""
        return tuple(map(str, self.settings.get("keep") or ()))

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready document."""
        document = asdict(self)
        document["tasks"] = self.tasks.to_json()
        del document["name"]
        if not self.universal:
            del document["universal"]
        return {"schema_version": SCHEMA_VERSION if self.universal else _WITH_TASKS, **document}


@dataclass(frozen=True)
class LoadedGenerator:
    """A generator, on the CPU in evaluation mode, and its card."""

    generator: "PerturbationGenerator"
    card: CheckpointCard

    def bound(
        self, key: "Key | None", tasks: TaskSet, shares: Mapping[str, Sequence[float]] | None = None, cells: int = 0
    ) -> "LoadedGenerator":
        """This generator for ``tasks``: a universal one with the codes of ``key``, any other as it is.

        The weights are shared with this one, which is bound too. Shares are those of
        :func:`~mtlue_cli.generator.code_patterns.shares_for_codes` (None: equal ones); ``cells`` is the side of the
        patterns of codes (0: as many as the tasks ask for).

        Raises:
            ValueError: It is universal and there is no key.
        """
        if not self.card.universal:
            return self
        if key is None:
            raise ValueError("a universal generator needs a key")
        self.generator.bind(self.generator.codes.codebook(key, tasks, cells), shares)
        return replace(self, card=replace(self.card, tasks=tasks))


def save_checkpoint(
    path: Path, generator: "PerturbationGenerator", card: CheckpointCard, *, private: bool = False
) -> CheckpointCard:
    """Write weights and card atomically, for the owner alone if ``private``; returns the card with the weights' digest.

    Raises:
        DivergedError: The weights are not finite: training has diverged.
    """
    from safetensors.torch import save

    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in generator.state_dict().items()}
    if not all(tensor.isfinite().all() for tensor in tensors.values()):
        raise DivergedError("training has diverged: the generator's weights are not finite; lower --learning-rate")
    complete = replace(card, digest=weights_digest(tensors), name=path.stem)
    write_atomically(path, save(tensors, metadata={METADATA_KEY: sealed(complete.to_json())}), private=private)
    return complete


def sealed(document: Mapping[str, Any]) -> str:
    """A card's document as text, with a digest by which later changes are found."""
    return json.dumps({**document, _DIGEST_KEY: _document_digest(document)}, sort_keys=True)


def read_card(path: Path) -> CheckpointCard:
    """The card alone, without loading torch or the weights.

    Raises:
        CheckpointError: Not a safetensors file, not one of ours, of a newer schema, or changed since it was written.
    """
    try:
        with open_regular(path) as file:
            start = file.read(4)
        if start.startswith(_PICKLES):
            raise CheckpointError(
                f"{path} cannot be read as a checkpoint: it is a pickle, which can run code when it is loaded",
                hint="mtlue reads safetensors files only; train one with mtlue train-generator",
            )
        with safe_open(path, framework="np") as stream:
            metadata = stream.metadata() or {}
    except (OSError, SafetensorError) as error:
        raise _unreadable(path, error) from None
    return _card_of(path, metadata)


def _unreadable(path: Path, error: Exception) -> CheckpointError:
    return CheckpointError(
        f"{path} cannot be read as a checkpoint: {getattr(error, 'strerror', None) or error}",
        hint="mtlue reads safetensors files only; if it was one, get a fresh copy",
    )


def _card_of(path: Path, metadata: Mapping[str, str]) -> CheckpointCard:
    """The card that the metadata of a file hold."""
    if METADATA_KEY not in metadata:
        raise CheckpointError(
            f"{path} is a safetensors file but not an mtlue checkpoint (its metadata has no {METADATA_KEY!r} entry)",
            hint="train one with mtlue train-generator",
        )
    try:
        document = json.loads(metadata[METADATA_KEY])
        # Raises where a number is none that can be shown; those of the generator are checked on their own.
        json.dumps({**document, "generator": None}, allow_nan=False)
        version = document["schema_version"]
        if version > SCHEMA_VERSION:
            raise CheckpointError(
                f"{path} has schema version {version}; this mtlue reads up to {SCHEMA_VERSION}", hint="upgrade mtlue"
            )
        digest = document.pop(_DIGEST_KEY, None)
        if digest != _document_digest(document) and (version > 1 or digest is not None):
            raise CheckpointError(
                f"{path} is damaged: its metadata do not match the digest stored with them", hint=_ANEW
            )
        del document["schema_version"]
        if isinstance(document.get("generator"), dict):
            document["generator"].setdefault("chroma", 1.0)  # checkpoints without it keep all colour
        document["tasks"] = TaskSet.from_json(document["tasks"])
        if type(universal := document.get("universal", False)) is not bool or (universal and document["tasks"]):
            raise TypeError("a universal generator has no tasks, every other one has some")
        odd = [name for name in _TEXTS if not isinstance(document.get(name, ""), str)]
        odd += [name for name in _OBJECTS if not isinstance(document.get(name, {}), dict)]
        odd += [f"versions: {name}" for name, number in document["versions"].items() if not isinstance(number, str)]
        odd += [name for name in ("epsilon", "image_size") if type(document[name]) is not int]
        odd += ["pattern_grid"] if universal and type(document["generator"].get("pattern_grid")) is not int else []
        if odd:
            raise TypeError(f"{odd[0]} is of another type")
        return CheckpointCard(**document, name=path.stem)
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} has damaged metadata: {type(error).__name__}: {error}", hint=_ANEW) from None


def load_checkpoint(path: Path) -> LoadedGenerator:
    """Weights and card, checked against each other.

    Raises:
        CheckpointError: Unreadable, foreign, damaged (the digest differs), of other shapes, or not finite.
    """
    from safetensors.torch import load

    from mtlue_cli.generator.model import GeneratorConfig, PerturbationGenerator

    content, card = read_checkpoint(path)
    _check_shape(path, card, {number.name: number.type for number in fields(GeneratorConfig)})
    unlike = f"{path} does not hold the weights that its metadata describe"
    try:
        tensors = load(content)
        generator = PerturbationGenerator(GeneratorConfig(**card.generator), None if card.universal else card.tasks)
    except (OSError, SafetensorError, ArithmeticError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise CheckpointError(unlike, [str(error)], _ANEW) from None
    faults = _differences(generator.state_dict(), tensors)
    if faults:
        raise CheckpointError(unlike, faults, _ANEW)
    if weights_digest(tensors) != card.digest:
        raise CheckpointError(f"{path} is damaged: its weights do not match the digest stored with them", hint=_ANEW)
    broken = [name for name, tensor in tensors.items() if not tensor.isfinite().all()]
    if broken:
        raise CheckpointError(f"{path} holds weights that are not finite", broken, _ANEW)
    generator.load_state_dict(tensors)
    return LoadedGenerator(generator.eval(), card)


def read_checkpoint(path: Path) -> tuple[bytes, CheckpointCard]:
    """All of a file, and its card; the weights are not looked at.

    Raises:
        CheckpointError: As :func:`read_card`.
    """
    read_card(path)  # says what is wrong with the file before all of it is read
    try:
        with open_regular(path) as stream:
            content = stream.readall()  # once: the card and the weights are of the same bytes
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
        return content, _card_of(path, header.get("__metadata__", {}))
    except (OSError, AttributeError, ValueError, RecursionError) as error:
        raise _unreadable(path, error) from None


def weights_digest(tensors: "Mapping[str, Tensor] | Mapping[str, npt.NDArray[Any]]") -> str:
    """SHA-256 over names, shapes and values, in the order of the names."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(f"{name}{tuple(tensors[name].shape)}".encode())
        digest.update(np.ascontiguousarray(tensors[name]).data)
    return digest.hexdigest()


def _document_digest(document: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()


def _check_shape(path: Path, card: CheckpointCard, numbers: Mapping[str, object]) -> None:
    """Refuse a card whose generator is not built here, or that the file cannot hold, before memory is set aside for it.

    ``numbers`` holds name and type, ``int`` or ``float``, of the fields of a generator's shape.
    """
    shape = card.generator if isinstance(card.generator, Mapping) else {}
    faults = [f"generator: {name} is missing" for name in numbers if name not in shape]
    faults += [f"generator: {name} is unknown" for name in shape if name not in numbers]
    if faults:
        raise CheckpointError(f"{path} describes a generator that this version of mtlue cannot build", faults, _ANEW)
    for name, kind in numbers.items():
        value = shape[name]
        if kind is float:
            if type(value) not in (int, float) or not -_LARGEST_NUMBER <= value <= _LARGEST_NUMBER:
                faults.append(f"generator: {name} is {value!r}, expected a number")
            elif name == "chroma" and not 0 <= value <= 1:
                faults.append(f"generator: chroma is {value!r}, expected a number from 0 to 1")
            continue
        largest = LARGEST.get(name, _LARGEST_DEPTH if name.endswith("depth") else _LARGEST_WIDTH)
        if not (type(value) is int and 1 <= value <= largest):
            faults.append(f"generator: {name} is {value!r}, expected a whole number from 1 to {largest}")
    for name, value in (("epsilon", card.epsilon), ("image_size", card.image_size)):
        if value != shape[name]:
            faults.append(f"{name} is {value!r}, that of the generator {shape[name]!r}")
    if not faults:
        classes = sum(task.num_classes for task in card.tasks.image_level)
        least = shape["label_channels"] * shape["label_grid"] ** 2 * classes
        # A code of a dense task has a tile of three colours and 64 pixels at least, and 64 numbers of a kernel.
        least += (3 * 64 + 64) * sum(task.num_classes for task in card.tasks.dense)
        # A block holds two layers of twice its width.
        least += sum(4 * shape[f"{part}_depth"] * shape[f"{part}_width"] ** 2 for part in ("encoder", "decoder"))
        size = path.stat().st_size
        if least * _BYTES_A_NUMBER > size:
            faults.append(f"embeddings and blocks alone take {least * _BYTES_A_NUMBER} bytes, the file has {size}")
    if faults:
        raise CheckpointError(f"{path} describes a generator that is larger than the file", faults, _ANEW)
    memory, most = _memory_of_call(shape), budget().max_network_bytes
    if memory > most:
        raise CheckpointError(
            f"{path} describes a generator that takes about {memory:,} bytes of memory per call, the limit is {most:,}",
            hint="set another one with --max-network-bytes if you trust these weights",
        )


def _memory_of_call(shape: Mapping[str, Any]) -> int:
    """Bytes that a call of the network takes on a CPU, about: the layers that are in memory at once."""
    pixels = shape["image_size"] ** 2
    # A block holds its input, three layers of its width and one of twice that (network.py); 16 pixels are a cell.
    cells = 6 * max(shape["encoder_width"], shape["decoder_width"]) + shape["encoder_width"] + shape["label_channels"]
    # Images, patterns, and the perturbation before and after each step, of three colours.
    numbers: int = pixels * cells // 16 + 3 * 10 * pixels
    return numbers * _BYTES_A_NUMBER * CPU_CALL_SIZE


def _differences(expected: Mapping[str, "Tensor"], found: Mapping[str, "Tensor"]) -> list[str]:
    """What the stored tensors lack, have too many, or have in another shape or type, one per line."""
    faults = [f"{name}: missing" for name in expected if name not in found]
    faults += [f"{name}: unknown" for name in found if name not in expected]
    for name in sorted(expected.keys() & found.keys()):
        wanted, given = expected[name], found[name]
        if (wanted.shape, wanted.dtype) != (given.shape, given.dtype):
            faults.append(f"{name}: {given.dtype} {tuple(given.shape)}, expected {wanted.dtype} {tuple(wanted.shape)}")
    rest = len(faults) - _SUMMARISED
    return faults if rest <= 0 else [*faults[:_SUMMARISED], f"and {rest} more"]
