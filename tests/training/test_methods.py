"""Every way of training: what moves, what stays, and what it needs."""

from dataclasses import replace
from functools import cache

import pytest
import torch
from torch import Tensor

from mtlue_cli.choices import BackboneName, TrainingMethodName
from mtlue_cli.errors import InputError
from mtlue_cli.networks.multitask import MultiTaskNetwork
from mtlue_cli.tasks.losses import mean_loss, task_losses
from mtlue_cli.training import multitask_loop
from mtlue_cli.training.methods import (
    METHODS,
    GradientSelectionSettings,
    ResCbmSettings,
    SparseSettings,
    StagedSettings,
    method_named,
    strongest,
)
from mtlue_cli.training.multitask_loop import EpochRecord, LearningSettings, predict, train_multitask
from mtlue_cli.training.pretrained import PretrainedStart
from tests.multitask_sample import TASKS, draw_sample
from tests.tiny_network import build_tiny

CPU = torch.device("cpu")
IMAGES, LABELS = draw_sample(24, 16)
SETTINGS = LearningSettings(
    epochs=1, batch_size=12, weight_decay=0.1, crop_size=16, backbone=BackboneName.SMALL, seed=4
)
METHOD_NAMES = [name for name in TrainingMethodName if name is not TrainingMethodName.RES_CBM]
"""Those that leave the network's layers as they are."""

STARTED = [name for name in METHOD_NAMES if name is not TrainingMethodName.SCRATCH]


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """Train small networks: what is under test is the way, not the network."""
    monkeypatch.setattr(multitask_loop, "build_network", build_tiny)


def fresh(seed: int = SETTINGS.seed) -> MultiTaskNetwork:
    return build_tiny(SETTINGS.backbone, TASKS, seed)


@cache
def start() -> PretrainedStart:
    return PretrainedStart(SETTINGS.backbone, fresh(seed=9).backbone.state_dict(), "a test")


def train(name: str, settings: LearningSettings = SETTINGS) -> MultiTaskNetwork:
    method = method_named(name).build(start())
    return train_multitask(IMAGES, LABELS, TASKS, settings, CPU, method=method)


def moved(network: MultiTaskNetwork, from_start: bool = True) -> dict[str, Tensor]:
    """Where each parameter differs from what it was before training."""
    before = fresh()
    if from_start:
        start().load_into(before)
    return {
        name: parameter.detach() != old.detach()
        for (name, parameter), old in zip(network.named_parameters(), before.parameters(), strict=True)
    }


def test_every_way_of_training_is_registered() -> None:
    assert set(METHODS) == set(TrainingMethodName)


@pytest.mark.parametrize("name", METHOD_NAMES)
def test_the_head_learns_and_a_seed_repeats_itself(name: TrainingMethodName) -> None:
    first, second = train(name), train(name)
    assert bool(moved(first)["heads.weight"].all())
    assert bool(moved(first)["shared.weight"].any())
    assert all(torch.equal(first.state_dict()[key], value) for key, value in second.state_dict().items())


@pytest.mark.parametrize("name", TrainingMethodName)
def test_every_way_of_training_lowers_the_loss(name: TrainingMethodName) -> None:
    records: list[EpochRecord] = []
    settings = replace(SETTINGS, epochs=5, batch_size=6, learning_rate=3e-3, weight_decay=0.0)
    train_multitask(
        IMAGES,
        LABELS,
        TASKS,
        settings,
        CPU,
        on_epoch=lambda record, _: records.append(record),
        method=method_named(name).build(start()),
    )
    assert records[-1].loss < records[0].loss


@pytest.mark.parametrize("name", STARTED)
def test_a_backbone_that_is_not_moved_is_the_given_start(name: TrainingMethodName) -> None:
    network = train(name, replace(SETTINGS, learning_rate=0.0))
    assert not any(bool(changed.any()) for changed in moved(network).values())


@pytest.mark.parametrize("name", METHOD_NAMES)
def test_whoever_needs_a_start_says_so_and_how_to_give_one(name: TrainingMethodName) -> None:
    if not METHODS[name].needs_start:
        network = train_multitask(IMAGES, LABELS, TASKS, SETTINGS, CPU, method=method_named(name).build())
        assert bool(moved(network, from_start=False)["backbone.0.weight"].any())
        return
    with pytest.raises(InputError, match=f"'{name}' starts from a pretrained backbone") as caught:
        method_named(name).build()
    assert "--start FILE|timm:NAME" in str(caught.value.hint)
    assert "--pretrain-images DIR --pretrain-labels FILE" in str(caught.value.hint)


def test_sparse_training_moves_the_largest_weights_of_each_neuron_only() -> None:
    changed = moved(train("sparse:share=0.25"))
    before = fresh()
    start().load_into(before)
    for name, trained in (("backbone.0.weight", 7), ("backbone.3.weight", 14), ("shared.weight", 8)):  # a quarter
        largest = strongest(before.get_parameter(name).detach().abs(), trained)
        assert not bool(changed[name][~largest].any()), name
        assert changed[name].sum() > 0.9 * largest.sum(), name  # a shared unit that never fires is not moved
    for name in ("backbone.1.weight", "backbone.1.bias", "backbone.3.bias", "heads.weight", "heads.bias"):
        assert bool(changed[name].all()), name


def test_a_neuron_always_keeps_one_trained_weight() -> None:
    changed = moved(train("sparse:share=1e-6"))
    assert changed["backbone.3.weight"].flatten(1).sum(dim=1).tolist() == [1] * 8


def test_gps_moves_the_connections_of_largest_gradient_only() -> None:
    changed = moved(train("gps:connections=2"))
    network = fresh()
    start().load_into(network)
    network.eval()
    images = IMAGES.float() / 255
    # The pass of the selection shuffles and flips; here are the same draws once more.
    rng = torch.Generator().manual_seed(SETTINGS.seed)
    order = torch.randperm(len(images), generator=rng)
    for rows in (order[:12], order[12:]):
        torch.randint(1, (2,), generator=rng)
        flip = (torch.rand(len(rows), generator=rng) < 0.5).view(-1, 1, 1, 1)
        batch = torch.where(flip, images[rows].flip(-1), images[rows])
        losses = task_losses(network(batch), {name: column[rows] for name, column in LABELS.items()}, TASKS)
        mean_loss(losses).backward()  # type: ignore[no-untyped-call]  # untyped in torch
    for name in ("backbone.0.weight", "backbone.3.weight"):
        gradient = network.get_parameter(name).grad
        assert gradient is not None
        assert torch.equal(changed[name], strongest(gradient.abs(), 2)), name


def test_gps_freezes_normalisation_and_tunes_biases_and_the_head() -> None:
    changed = moved(train(TrainingMethodName.GPS))
    assert not bool(changed["backbone.1.weight"].any())
    assert not bool(changed["backbone.1.bias"].any())
    assert all(bool(changed[name].all()) for name in ("backbone.3.bias", "heads.weight", "heads.bias"))


def test_choosing_by_gradient_leaves_statistics_and_gradients_alone() -> None:
    network = fresh()
    batch = IMAGES.float() / 255
    method = method_named(TrainingMethodName.GPS).build(start())
    method.prepare(network, lambda: iter([mean_loss(task_losses(network(batch), LABELS, TASKS))]))
    assert all(torch.equal(start().weights[name], value) for name, value in network.backbone.state_dict().items())
    assert all(parameter.grad is None for parameter in network.parameters())


def test_the_head_alone_leaves_the_backbone_bit_by_bit_with_its_statistics() -> None:
    network = train(TrainingMethodName.HEAD)
    assert all(torch.equal(start().weights[name], value) for name, value in network.backbone.state_dict().items())


def test_staged_training_freezes_the_shallowest_layers_first() -> None:
    settings = replace(SETTINGS, epochs=4, learning_rate=3e-3)
    before: dict[str, Tensor] = {}
    frozen: list[set[str]] = []

    def compare(_: EpochRecord, network: MultiTaskNetwork) -> None:
        now = {name: value.clone() for name, value in network.state_dict().items()}
        frozen.append({name for name, value in now.items() if name in before and torch.equal(value, before[name])})
        before.update(now)

    def backbone(names: set[str]) -> set[str]:
        return {name.split(".")[1] for name in names if name.startswith("backbone")}

    method = method_named("staged:first=0.25,last=0.75").build()
    train_multitask(IMAGES, LABELS, TASKS, settings, CPU, on_epoch=compare, method=method)
    # Layers 0 (convolution), 1 (batch norm) and 3 (convolution) of the backbone, frozen at a quarter, half, three.
    assert backbone(frozen[0]) == set()
    assert backbone(frozen[1]) == {"0"}
    assert backbone(frozen[2]) == {"0", "1"}
    assert "backbone.1.running_mean" in frozen[2]  # statistics too
    assert backbone(frozen[3]) == {"0", "1", "3"}
    assert not any(name.startswith(("shared.weight", "heads")) for name in frozen[3])


@pytest.mark.parametrize(("first", "last"), [(0.5, 0.5), (0.7, 0.1), (-0.1, 0.5), (0.5, 1.1), (float("nan"), 1)])
def test_a_schedule_out_of_order_is_refused(first: float, last: float) -> None:
    with pytest.raises(InputError, match="expected 0 <= first < last <= 1"):
        StagedSettings(first, last)


def test_a_concept_bottleneck_takes_the_place_of_the_heads_and_learns() -> None:
    first, second = train("res-cbm"), train("res-cbm")
    assert all(torch.equal(first.state_dict()[key], value) for key, value in second.state_dict().items())
    network = fresh()
    method_named("res-cbm").build().prepare(network, lambda: iter(()))
    before = network.state_dict()
    moved_ = {name for name, value in first.state_dict().items() if not torch.equal(value, before[name])}
    parts = ("concepts", "base", "residual")
    assert moved_ >= {"heads.vectors", *(f"heads.{part}.weight" for part in parts), "shared.weight"}


@pytest.mark.parametrize("residuals", [0, -1])
def test_a_concept_bottleneck_without_a_vector_is_refused(residuals: int) -> None:
    with pytest.raises(InputError, match=f"{residuals} residual vectors"):
        ResCbmSettings(residuals=residuals)


def test_the_name_of_a_column_is_a_setting() -> None:
    named = method_named("res-cbm:target=v1.0,residuals=3")
    assert named.name == "res-cbm:target=v1.0,residuals=3"
    assert named.settings_to_json() == {"target": "v1.0", "residuals": 3}
    assert method_named("res-cbm:target=none") is METHODS["res-cbm"]


def test_full_fine_tuning_moves_every_parameter() -> None:
    changed = moved(train(TrainingMethodName.FULL))
    assert all(bool(where.any()) for where in changed.values())
    assert bool(changed["backbone.3.weight"].all())


@pytest.mark.parametrize("name", ["sparse:share=0.6", "gps:connections=5"])
def test_each_option_changes_the_result(name: str) -> None:
    usual = name.partition(":")[0]
    plain, other = (predict(train(given), IMAGES, 16, CPU)["colour"] for given in (usual, name))
    assert not torch.equal(plain, other)


@pytest.mark.parametrize("share", [0.0, -0.1, 1.5, float("nan")])
def test_a_share_outside_its_range_is_refused(share: float) -> None:
    with pytest.raises(InputError, match="share of trained weights"):
        SparseSettings(share=share)


def test_gps_without_a_connection_is_refused() -> None:
    with pytest.raises(InputError, match="0 tuned connections"):
        GradientSelectionSettings(connections=0)
