"""Every backbone: any crop size, its declared cost, its parameters; and what was adapted in each."""

import hashlib
from collections.abc import Callable
from functools import cache
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models import densenet121, resnet18, resnet50, vgg16_bn, vit_b_16

from mtlue_cli.choices import BackboneName
from mtlue_cli.networks.backbones import BACKBONES, Backbone, VisionTransformerOfAnySize, patches_a_side
from mtlue_cli.networks.multitask import build_network
from tests.multitask_sample import TASKS
from tests.tiny_network import make_transformer_shallow

EVERY = pytest.mark.parametrize("name", list(BACKBONES), ids=lambda name: name.value)


@cache
def shaped(name: BackboneName) -> Backbone:
    """The backbone without memory behind its weights: shapes only."""
    with torch.device("meta"):
        return BACKBONES[name].build()


def shapes(module: nn.Module) -> dict[str, tuple[int, ...]]:
    return {key: tuple(tensor.shape) for key, tensor in module.state_dict().items()}


@cache
def multiply_adds(name: BackboneName) -> float:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        shaped(name).network(torch.empty(2, 3, 64, 64, device="meta"))
    return float(counter.get_total_flops()) / 2 / 2


def test_every_name_has_a_backbone() -> None:
    assert set(BACKBONES) == set(BackboneName)


@EVERY
@torch.no_grad()
def test_it_takes_images_of_any_size(name: BackboneName) -> None:
    backbone = shaped(name)
    sizes = (57, 224)  # 32: as the gradients are computed, below
    found = {size: backbone.network(torch.empty(2, 3, size, size, device="meta")).shape for size in sizes}
    assert found == dict.fromkeys(sizes, (2, backbone.features))


@EVERY
def test_its_declared_cost_is_what_is_counted(name: BackboneName) -> None:
    counted = multiply_adds(name) / multiply_adds(BackboneName.RESNET18)
    assert BACKBONES[name].relative_cost == pytest.approx(counted, rel=0.01)


@EVERY
def test_a_gradient_reaches_every_parameter_and_the_image(name: BackboneName, monkeypatch: pytest.MonkeyPatch) -> None:
    make_transformer_shallow(monkeypatch)
    backbone = BACKBONES[name].build()
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)).requires_grad_()
    features = backbone.network(images)
    assert features.shape == (2, backbone.features)
    features.square().sum().backward()
    gradients = {key: parameter.grad for key, parameter in backbone.network.named_parameters()}
    assert [key for key, grad in gradients.items() if grad is None or not grad.isfinite().all()] == []
    assert images.grad is not None
    assert images.grad.abs().sum() > 0


@pytest.mark.parametrize("name", [BackboneName.SMALL, BackboneName.VGG16], ids=str)
def test_the_seed_determines_the_weights(name: BackboneName) -> None:
    first, again, other = (build_network(name, TASKS, seed).state_dict() for seed in (3, 3, 4))
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not all(torch.equal(first[key], other[key]) for key in first)


@pytest.mark.parametrize(
    ("name", "published", "classifier"),
    [
        (BackboneName.RESNET18, resnet18, "fc."),
        (BackboneName.RESNET50, resnet50, "fc."),
        (BackboneName.VGG16, vgg16_bn, "classifier."),
        (BackboneName.DENSENET121, densenet121, "classifier."),
        (BackboneName.VIT_B_16, vit_b_16, "heads."),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_published_weights_fit(name: BackboneName, published: Callable[[], nn.Module], classifier: str) -> None:
    with torch.device("meta"):
        theirs = shapes(published())
    assert shapes(shaped(name).network) == {key: shape for key, shape in theirs.items() if classifier not in key}


def test_resnet18_starts_from_the_weights_it_always_had() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        theirs = resnet18(weights=None).state_dict()
    ours = build_network(BackboneName.RESNET18, TASKS, 3).backbone.state_dict()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)


def test_checkpoints_of_the_small_backbone_still_fit() -> None:
    listing = "\n".join(f"{key} {shape}" for key, shape in shapes(shaped(BackboneName.SMALL).network).items())
    assert hashlib.sha256(listing.encode()).hexdigest()[:16] == "4f98081264d52cf6"


def test_every_convolution_of_vgg_is_normalised() -> None:
    layers = list(shaped(BackboneName.VGG16).network.get_submodule("features").children())
    followers = [type(after) for layer, after in pairwise(layers) if isinstance(layer, nn.Conv2d)]
    assert followers == [nn.BatchNorm2d] * 13


def test_the_last_blocks_of_densenet_see_more_than_a_few_positions() -> None:
    features = shaped(BackboneName.DENSENET121).network.get_submodule("features")
    assert features(torch.empty(1, 3, 64, 64, device="meta")).shape == (1, 1024, 4, 4)


@pytest.mark.parametrize(("side", "patches"), [(32, 4), (57, 7), (64, 8), (100, 12), (112, 14), (128, 8), (224, 14)])
def test_patches_of_the_vision_transformer(side: int, patches: int) -> None:
    assert patches_a_side(side) == patches


def test_the_vision_transformer_reads_its_position_table_where_a_patch_lies() -> None:
    seen: list[Tensor] = []

    def first_layer(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        del module
        seen.append(inputs[0].detach())

    network = VisionTransformerOfAnySize(224, 16, num_layers=1, num_heads=1, hidden_dim=4, mlp_dim=4)
    network.get_submodule("encoder.layers").register_forward_pre_hook(first_layer)
    table = network.get_parameter("encoder.pos_embedding")
    with torch.no_grad():
        for key in ("conv_proj.weight", "conv_proj.bias", "class_token", "encoder.pos_embedding"):
            network.get_parameter(key).zero_()
        table[0, 0] = 9.0
        table[0, 1:, 0] = torch.arange(14.0).repeat_interleave(14)  # the row
        table[0, 1:, 1] = torch.arange(14.0).repeat(14)  # the column
        network(torch.rand(1, 3, 224, 224))
        network(torch.rand(1, 3, 56, 56))
    native, halved = seen
    assert torch.equal(native, table)
    grid = halved[0, 1:].view(7, 7, -1)
    assert torch.equal(halved[0, 0], table[0, 0])
    expected = torch.arange(7.0) * 2 + 0.5  # the middle of two neighbours
    assert torch.allclose(grid[:, 3, 0], expected)
    assert torch.allclose(grid[3, :, 1], expected)
