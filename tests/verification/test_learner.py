"""Learners: every task is learned and tested, by one network or by one a task."""

from collections.abc import Mapping
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from mtlue_cli.choices import BackboneName, LearnerName, TaskKind, WeightingName
from mtlue_cli.errors import InputError
from mtlue_cli.networks.multitask import MultiTaskNetwork
from mtlue_cli.tasks.spec import UNLABELLED, Task, TaskSet
from mtlue_cli.training import multitask_loop
from mtlue_cli.training.intervention import Intervention, Mixture
from mtlue_cli.training.methods import SparseSettings, SparseTraining, TrainingMethod
from mtlue_cli.training.multitask_loop import LearningSettings, predict, train_multitask
from mtlue_cli.verification.learner import LEARNERS, LearnedEpoch, LearnerRun, images_a_network, train_learner
from tests.multitask_sample import TASKS, draw_sample
from tests.tiny_network import build_tiny

CPU = torch.device("cpu")
SETTINGS = LearningSettings(epochs=2, batch_size=12, crop_size=16, backbone=BackboneName.SMALL, seed=2)
IMAGES, LABELS = draw_sample(24, 16)
TEST_IMAGES, _ = draw_sample(9, 16, seed=1)
LEARNER_NAMES = list(LearnerName)


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """Train small networks: what is under test is the learner, not the network."""
    monkeypatch.setattr(multitask_loop, "build_network", build_tiny)


def on_test_images(network: MultiTaskNetwork) -> Mapping[str, Tensor]:
    return predict(network, TEST_IMAGES, 16, CPU)


def learn(learner: LearnerName, labels: Mapping[str, Tensor] = LABELS, tasks: TaskSet = TASKS) -> LearnerRun:
    return train_learner(learner, IMAGES, labels, tasks, SETTINGS, CPU, on_test_images)


def test_every_learner_gives_each_task_to_one_network() -> None:
    assert set(LEARNERS) == set(LearnerName)
    for share_out in LEARNERS.values():
        assert [name for group in share_out(TASKS) for name in group.names] == list(TASKS.names)


@pytest.mark.parametrize("learner", LEARNER_NAMES)
def test_every_task_is_predicted_after_every_epoch(learner: LearnerName) -> None:
    steps: list[int] = []
    epochs: list[LearnedEpoch] = []
    run = train_learner(
        learner,
        IMAGES,
        LABELS,
        TASKS,
        SETTINGS,
        CPU,
        on_test_images,
        on_step=steps.append,
        on_epoch=epochs.append,
    )
    assert sum(steps) == 2 * sum(images_a_network(learner, LABELS, TASKS))
    assert run.epochs == tuple(epochs)
    assert [(epoch.record.epoch, epoch.record.epochs) for epoch in epochs] == [(1, 2), (2, 2)]
    assert all(set(epoch.record.accuracy) == set(TASKS.names) for epoch in epochs)
    predictions = run.predictions()
    for task in TASKS:
        assert predictions[task.name].shape == (2, 9)
        assert predictions[task.name].dtype == torch.int32
        assert run.probabilities[task.name].shape == (9, task.num_classes)
        assert torch.allclose(run.probabilities[task.name].sum(dim=1), torch.ones(9), atol=1e-5)
        assert torch.equal(run.probabilities[task.name].argmax(dim=1), predictions[task.name][-1].long())


@pytest.mark.parametrize("learner", LEARNER_NAMES)
def test_a_seed_repeats_itself(learner: LearnerName) -> None:
    first, second = learn(learner), learn(learner)
    assert all(torch.equal(first.probabilities[name], second.probabilities[name]) for name in TASKS.names)


def test_one_network_for_all_tasks_is_the_plain_training_loop() -> None:
    network = train_multitask(IMAGES, LABELS, TASKS, SETTINGS, CPU)
    run = learn(LearnerName.MTL)
    logits = on_test_images(network)
    assert all(torch.equal(run.probabilities[name], logits[name].softmax(dim=1)) for name in TASKS.names)


def test_a_single_task_is_the_same_for_both_learners() -> None:
    one = TASKS.subset(["colour"])
    mtl, stl = (learn(learner, tasks=one) for learner in (LearnerName.MTL, LearnerName.STL))
    assert torch.equal(mtl.probabilities["colour"], stl.probabilities["colour"])


def test_a_network_of_its_own_does_not_depend_on_the_labels_and_order_of_other_tasks() -> None:
    plain = learn(LearnerName.STL)
    other = learn(LearnerName.STL, {**LABELS, "bright": 1 - LABELS["bright"]}, TaskSet(TASKS.tasks[::-1]))
    assert torch.equal(plain.probabilities["colour"], other.probabilities["colour"])
    assert not torch.equal(plain.probabilities["bright"], other.probabilities["bright"])
    assert list(other.probabilities) == ["bright", "colour"]


def test_networks_of_equal_labels_have_seeds_of_their_own() -> None:
    twin = Task("twin", TaskKind.BINARY, ("0", "1"))
    tasks = TaskSet((TASKS["bright"], twin))
    run = learn(LearnerName.STL, {"bright": LABELS["bright"], "twin": LABELS["bright"]}, tasks)
    assert not torch.equal(run.probabilities["bright"], run.probabilities["twin"])


@pytest.mark.parametrize("weighting", list(WeightingName))
def test_with_one_task_a_network_there_is_nothing_to_weigh(weighting: WeightingName) -> None:
    settings = replace(SETTINGS, weighting=weighting)
    run = train_learner(LearnerName.STL, IMAGES, LABELS, TASKS, settings, CPU, on_test_images)
    assert torch.equal(run.probabilities["colour"], learn(LearnerName.STL).probabilities["colour"])


def test_a_network_of_its_own_sees_only_the_images_that_are_labelled_for_it() -> None:
    labels = {**LABELS, "bright": torch.where(torch.arange(24) < 14, LABELS["bright"], UNLABELLED)}
    assert sum(images_a_network(LearnerName.STL, labels, TASKS)) == 24 + 14
    assert sum(images_a_network(LearnerName.MTL, labels, TASKS)) == 24
    masked = learn(LearnerName.STL, labels).probabilities["bright"]
    disturbed = IMAGES.clone()
    disturbed[14:] = 255 - disturbed[14:]
    run = train_learner(LearnerName.STL, disturbed, labels, TASKS, SETTINGS, CPU, on_test_images)
    assert torch.equal(run.probabilities["bright"], masked)


def test_the_loss_of_an_epoch_is_the_mean_over_the_tasks() -> None:
    # An untrained network guesses: the loss of a task is near the logarithm of its number of classes.
    settings = replace(SETTINGS, epochs=1, learning_rate=0.0)
    run = train_learner(LearnerName.STL, IMAGES, LABELS, TASKS, settings, CPU, on_test_images)
    expected = (torch.tensor(3.0).log() + torch.tensor(2.0).log()) / 2
    assert run.epochs[0].record.loss == pytest.approx(expected.item(), abs=0.25)


def test_a_task_with_too_few_labels_is_found_before_anything_is_trained() -> None:
    steps: list[int] = []
    labels = {**LABELS, "bright": torch.where(torch.arange(24) < 1, LABELS["bright"], UNLABELLED)}
    with pytest.raises(InputError, match="too few images to learn from") as caught:
        train_learner(LearnerName.STL, IMAGES, labels, TASKS, SETTINGS, CPU, on_test_images, on_step=steps.append)
    assert caught.value.faults == ("task bright: 1 labelled training images, expected at least 2",)
    assert "--learner mtl" in str(caught.value.hint)
    assert steps == []
    assert learn(LearnerName.MTL, labels).probabilities["bright"].shape == (9, 2)


class _Darker:
    """An intervention that halves all pixel values, and counts its batches."""

    def __init__(self, tasks: TaskSet, labels: Mapping[str, Tensor]) -> None:
        assert set(labels) == set(tasks.names)
        self.tasks = tasks
        self.batches = 0

    def __call__(
        self, network: nn.Module, images: Tensor, labels: Mapping[str, Tensor], rng: torch.Generator
    ) -> Mixture:
        del network, rng
        assert set(labels) == set(self.tasks.names)
        self.batches += 1
        return Mixture(images / 2, labels)


@pytest.mark.parametrize("learner", LEARNER_NAMES)
def test_each_network_has_an_intervention_and_a_method_of_its_own(learner: LearnerName) -> None:
    made: list[_Darker] = []
    methods: list[TrainingMethod] = []

    def intervention(tasks: TaskSet, labels: Mapping[str, Tensor]) -> Intervention:
        made.append(_Darker(tasks, labels))
        return made[-1]

    def method() -> TrainingMethod:
        methods.append(SparseTraining(SparseSettings()))
        return methods[-1]

    run = train_learner(
        learner,
        IMAGES,
        LABELS,
        TASKS,
        SETTINGS,
        CPU,
        on_test_images,
        intervention_factory=intervention,
        method_factory=method,
    )
    networks = len(LEARNERS[learner](TASKS))
    assert len(made) == len(methods) == networks
    assert all(each.batches == 2 * 2 for each in made)
    assert not torch.equal(run.probabilities["colour"], learn(learner).probabilities["colour"])
