"""Networks for tasks of images and of pixels: shapes, one encoder, every backbone of the laboratory."""

import pytest
import torch
from torch import nn

from mtlue_cli.choices import BackboneName, WeightingName
from mtlue_cli.errors import InputError
from mtlue_cli.networks.backbones import BACKBONES, Backbone
from mtlue_cli.networks.multitask import ImageLevelNetwork, MixedNetwork, build_network
from mtlue_cli.tasks.losses import task_losses
from mtlue_cli.tasks.spec import TaskSet
from mtlue_cli.weightings import build_weighting
from tests.dense_sample import BRIGHT, TASKS, draw_scenes
from tests.tiny_network import make_transformer_shallow


@pytest.fixture(autouse=True)
def shallow(monkeypatch: pytest.MonkeyPatch) -> None:
    make_transformer_shallow(monkeypatch)


@pytest.mark.parametrize("name", BackboneName)
def test_every_backbone_predicts_every_pixel(name: BackboneName) -> None:
    network = build_network(name, TASKS, seed=0).eval()
    with torch.no_grad():
        outputs = network(torch.rand(2, 3, 32, 32))
    assert {task: tuple(output.shape) for task, output in outputs.items()} == {
        "bright": (2, 2),
        "parts": (2, 3, 32, 32),
        "depth": (2, 1, 32, 32),
        "normals": (2, 3, 32, 32),
    }
    assert all(bool(output.isfinite().all()) for output in outputs.values())


@pytest.mark.parametrize("name", [BackboneName.SMALL, BackboneName.RESNET18, BackboneName.VGG16, BackboneName.VIT_B_16])
def test_feature_maps_change_neither_vector_nor_names_of_the_weights(name: BackboneName) -> None:
    """What a pretrained start holds fits; the vector that it gives is the same."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        plain = BACKBONES[name].build()
    mixed = build_network(name, TASKS, seed=0).eval()
    mixed.backbone.load_state_dict(plain.network.state_dict())
    images = torch.rand(2, 3, 48, 48)
    with torch.no_grad():
        found = mixed.backbone(images)
        expected = plain.network.eval()(images) if name is not BackboneName.VIT_B_16 else found["vector"]
    assert torch.equal(found["vector"], expected)
    assert plain.maps is not None
    assert tuple(found[f"map{index}"].shape[1] for index in range(len(found) - 1)) == plain.maps.channels


def test_the_small_backbone_keeps_half_of_the_resolution() -> None:
    mixed = build_network(BackboneName.SMALL, TASKS, seed=0)
    sides = [found.shape[-1] for name, found in mixed.backbone(torch.rand(2, 3, 64, 64)).items() if name != "vector"]
    assert sides == [32, 16, 8, 4, 2]


@pytest.mark.parametrize(("name", "width"), [(BackboneName.SMALL, 32), (BackboneName.RESNET18, 64)])
def test_the_decoder_is_no_wider_than_the_finest_map(name: BackboneName, width: int) -> None:
    mixed = build_network(name, TASKS, seed=0)
    assert isinstance(mixed, MixedNetwork)
    assert mixed.shared.decoder.width == width
    assert mixed.dense_heads.state_dict()["heads.0.3.weight"].shape[1] == width


def test_image_level_tasks_alone_build_the_network_without_a_decoder() -> None:
    network = build_network(BackboneName.SMALL, TaskSet((BRIGHT,)), seed=0)
    assert isinstance(network, ImageLevelNetwork)
    assert not any("decoder" in name for name in network.state_dict())


def test_dense_tasks_alone_have_no_image_level_layer() -> None:
    network = build_network(BackboneName.SMALL, TASKS.dense, seed=0)
    assert not any(name.startswith(("heads", "shared.layer")) for name in network.state_dict())
    assert list(network(torch.rand(2, 3, 32, 32))) == list(TASKS.dense.names)


def test_the_span_sets_the_unit_of_the_depth() -> None:
    tasks = TASKS.subset(["depth"])
    metres = build_network(BackboneName.SMALL, tasks, seed=0).eval()
    (task,) = tasks
    scaled = TaskSet((type(task)(task.name, task.kind, (), span=(1000.0, 5000.0)),))
    millimetres = build_network(BackboneName.SMALL, scaled, seed=0).eval()
    images = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(1000 * metres(images)["depth"], millimetres(images)["depth"], rtol=1e-3, atol=1)


@pytest.mark.parametrize("weighting", [WeightingName.LS, WeightingName.MGDA])
def test_every_task_moves_the_one_encoder(weighting: WeightingName) -> None:
    images, labels = draw_scenes(4, 32)
    network = build_network(BackboneName.SMALL, TASKS, seed=0)
    representation, outputs = network.represent(images.float() / 255)
    losses = task_losses(outputs, labels, TASKS)
    first = network.backbone.get_parameter("0.weight")
    for loss in losses.values():
        (reached,) = torch.autograd.grad(loss, representation, retain_graph=True)
        assert float(reached.abs().sum()) > 0
    build_weighting(weighting, len(TASKS), seed=0).backward(losses, representation)
    assert first.grad is not None
    assert float(first.grad.abs().sum()) > 0
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_a_backbone_without_feature_maps_is_refused_with_the_tasks_named() -> None:
    flat = Backbone(nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()), 3)
    with pytest.raises(InputError) as caught:
        MixedNetwork(flat, TASKS)
    assert [fault.split()[1] for fault in caught.value.faults] == ["parts", "depth", "normals"]
    assert isinstance(ImageLevelNetwork(flat, TaskSet((BRIGHT,))), ImageLevelNetwork)
