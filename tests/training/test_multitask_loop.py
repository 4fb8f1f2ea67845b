"""Training a multi-task network: it learns, it masks, it repeats itself."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from mtlue_cli.choices import BackboneName, Precision
from mtlue_cli.networks.multitask import MultiTaskNetwork, build_network
from mtlue_cli.tasks.spec import UNLABELLED
from mtlue_cli.training.multitask_loop import EpochRecord, LearningSettings, predict, steps_an_epoch, train_multitask
from mtlue_cli.training.surrogate import epochs_within, train_surrogate
from tests.multitask_sample import TASKS, draw_sample
from tests.tiny_network import make_small_tiny

CPU = torch.device("cpu")
SETTINGS = LearningSettings(epochs=3, batch_size=16, crop_size=16, backbone=BackboneName.SMALL, seed=4)


def accuracy(network: MultiTaskNetwork, images: Tensor, labels: dict[str, Tensor]) -> dict[str, float]:
    logits = predict(network, images, 16, CPU)
    return {name: (logits[name].argmax(1) == labels[name]).float().mean().item() for name in labels}


def test_it_learns_every_task_and_reports_each_epoch() -> None:
    images, labels = draw_sample(128, 18)
    records: list[EpochRecord] = []
    seen: list[int] = []
    settings = replace(SETTINGS, epochs=6, batch_size=8)
    network = train_multitask(
        images, labels, TASKS, settings, CPU, seen.append, lambda record, _: records.append(record)
    )
    assert [record.epoch for record in records] == [1, 2, 3, 4, 5, 6]
    assert records[-1].loss < records[0].loss
    assert sum(seen) == 6 * 128
    test_images, test_labels = draw_sample(64, 18, seed=1)
    assert min(accuracy(network, test_images, test_labels).values()) > 0.9


def test_the_same_seed_gives_the_same_network_and_another_seed_does_not() -> None:
    images, labels = draw_sample(40, 18)
    settings = LearningSettings(epochs=1, batch_size=16, crop_size=16, backbone=BackboneName.SMALL, seed=4)
    first = train_multitask(images, labels, TASKS, settings, CPU).state_dict()
    torch.rand(3)
    second = train_multitask(images, labels, TASKS, settings, CPU).state_dict()
    other = train_multitask(
        images, labels, TASKS, LearningSettings(1, 16, crop_size=16, backbone=BackboneName.SMALL, seed=5), CPU
    ).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["heads.weight"], other["heads.weight"])


def test_an_unlabelled_task_stays_at_its_initial_head() -> None:
    images, labels = draw_sample(32, 18)
    masked = {**labels, "bright": torch.full_like(labels["bright"], UNLABELLED)}
    records: list[EpochRecord] = []
    settings = LearningSettings(epochs=1, batch_size=16, crop_size=16, backbone=BackboneName.SMALL, seed=4)
    network = train_multitask(images, masked, TASKS, settings, CPU, None, lambda record, _: records.append(record))
    trained = network.get_parameter("heads.weight")
    initial = build_network(BackboneName.SMALL, TASKS, 4).get_parameter("heads.weight")
    assert torch.equal(trained[3:], initial[3:])
    assert not torch.equal(trained[:3], initial[:3])
    assert records[0].accuracy["bright"] != records[0].accuracy["bright"]  # NaN: nothing to be right about


@pytest.mark.parametrize("backbone", list(BackboneName))
def test_every_backbone_gives_logits_a_task(backbone: BackboneName) -> None:
    with torch.device("meta"):  # shapes only
        logits = build_network(backbone, TASKS, 0).eval()(torch.rand(2, 3, 32, 32))
    assert {name: tuple(scores.shape) for name, scores in logits.items()} == {"colour": (2, 3), "bright": (2, 2)}


def test_building_a_network_leaves_the_global_random_state_alone() -> None:
    torch.manual_seed(7)
    expected = torch.rand(1)
    torch.manual_seed(7)
    build_network(BackboneName.SMALL, TASKS, 0)
    assert torch.equal(torch.rand(1), expected)


def test_predictions_do_not_depend_on_the_batch_size() -> None:
    images, _ = draw_sample(7, 18)
    network = build_network(BackboneName.SMALL, TASKS, 0)
    whole, parts = predict(network, images, 16, CPU), predict(network, images, 16, CPU, batch_size=2)
    assert torch.allclose(whole["colour"], parts["colour"], atol=1e-5)


def test_bfloat16_training_gives_another_yet_working_network(monkeypatch: pytest.MonkeyPatch) -> None:
    make_small_tiny(monkeypatch)
    images, labels = draw_sample(64, 18)
    settings = LearningSettings(
        epochs=8, batch_size=8, crop_size=16, backbone=BackboneName.SMALL, seed=4, precision=Precision.BFLOAT16
    )
    network = train_multitask(images, labels, TASKS, settings, CPU)
    assert min(accuracy(network, images, labels).values()) > 0.8


def test_a_surrogate_keeps_its_last_epochs() -> None:
    images, labels = draw_sample(32, 18)
    run = train_surrogate(images, labels, TASKS, SETTINGS, 2, CPU)
    assert len(run.checkpoints) == 2
    assert not torch.equal(run.checkpoints[0]["heads.weight"], run.checkpoints[1]["heads.weight"])
    trained = train_multitask(images, labels, TASKS, SETTINGS, CPU)
    last = run.networks(TASKS, CPU)[-1].eval()
    sample = images[:4, :, :16, :16].float() / 255
    assert torch.allclose(last(sample)["colour"], trained(sample)["colour"], atol=1e-5)


def test_epochs_are_cut_to_the_time_there_is() -> None:
    images, labels = draw_sample(64, 18)
    assert epochs_within(1e6, images, labels, TASKS, SETTINGS, CPU) == SETTINGS.epochs
    assert epochs_within(1e-6, images, labels, TASKS, SETTINGS, CPU) == 1


@pytest.mark.parametrize(("batch_size", "seen"), [(1, [1, 1, 1]), (2, [2]), (3, [3])])
def test_only_a_ragged_last_batch_of_one_is_skipped(batch_size: int, seen: list[int]) -> None:
    images, labels = draw_sample(3, 66)
    settings = LearningSettings(1, batch_size, crop_size=64, backbone=BackboneName.SMALL, seed=4)
    steps: list[int] = []
    train_multitask(images, labels, TASKS, settings, CPU, steps.append)
    assert steps == seen
    assert steps_an_epoch(3, batch_size) == len(seen)


def test_the_steps_of_an_epoch_follow_from_the_images() -> None:
    assert [steps_an_epoch(images, 64) for images in (0, 1, 64, 65, 66, 8000)] == [0, 1, 1, 1, 2, 125]
