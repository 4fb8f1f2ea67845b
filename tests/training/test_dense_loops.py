"""Victims, surrogates and generators learn tasks of images and of pixels together."""

from dataclasses import replace

import pytest
import torch

from mtlue_cli.choices import BackboneName, ObjectiveName, Precision, WeightingName
from mtlue_cli.generator.model import GeneratorConfig, PerturbationGenerator
from mtlue_cli.networks.multitask import build_network
from mtlue_cli.objectives import OBJECTIVES, Ingredients
from mtlue_cli.tasks.label_tensors import class_shares
from mtlue_cli.tasks.losses import count_correct
from mtlue_cli.tasks.spec import TaskSet
from mtlue_cli.training.augment import centred_labels
from mtlue_cli.training.generator_loop import GeneratorLoop, GeneratorSettings, StepRecord
from mtlue_cli.training.multitask_loop import EpochRecord, LearningSettings, predict, train_multitask
from mtlue_cli.training.surrogate import train_surrogate
from tests.dense_sample import TASKS, draw_scenes

pytestmark = pytest.mark.usefixtures("tiny_small")

CPU = torch.device("cpu")
SETTINGS = LearningSettings(
    epochs=14, batch_size=8, crop_size=32, backbone=BackboneName.SMALL, precision=Precision.FLOAT32
)


@pytest.mark.parametrize("weighting", [WeightingName.LS, WeightingName.ALIGNED_MTL])
def test_a_victim_learns_images_and_pixels_at_once(weighting: WeightingName) -> None:
    images, labels = draw_scenes(64, 36)
    stored = labels | {"parts": labels["parts"].to(torch.int16), "normals": labels["normals"].half()}
    records: list[EpochRecord] = []
    settings = replace(SETTINGS, weighting=weighting)
    network = train_multitask(images, stored, TASKS, settings, CPU, on_epoch=lambda record, _: records.append(record))
    assert records[-1].loss < 0.6 * records[0].loss
    test_images, test_labels = draw_scenes(32, 36, seed=1)
    outputs = predict(network, test_images, 32, CPU)
    counts = count_correct(outputs, centred_labels(test_labels, TASKS, 32), TASKS)
    right = {name: correct / known for name, (correct, known) in counts.items()}
    assert min(right["parts"], right["depth"], right["normals"]) > 0.7, right


def loop(objective: ObjectiveName, tasks: TaskSet, steps: int, seed: int = 0) -> GeneratorLoop:
    images, labels = draw_scenes(32, 36)
    spec = OBJECTIVES[objective]
    clean = []
    if spec.clean_checkpoints:
        run = train_surrogate(images, labels, tasks, replace(SETTINGS, epochs=8), 1, CPU)
        clean = run.networks(tasks, CPU)
    # Quiet at the start: what fills the bound from the first step has no gradient left to move it.
    narrow = {"encoder_width": 8, "decoder_width": 16, "label_channels": 8, "label_grid": 8}
    shape = GeneratorConfig(image_size=36, pattern_gain=0.5, **narrow)
    generator = PerturbationGenerator(shape, tasks, seed, class_shares(labels, tasks))
    made = spec.build(Ingredients(tasks, [clean], lambda own: build_network(BackboneName.SMALL, tasks, own), seed))
    settings = GeneratorSettings(
        steps, batch_size=16, learning_rate=5e-3, view_size=32, precision=Precision.FLOAT32, warmup_steps=2
    )
    return GeneratorLoop(generator, made, images, labels, settings, CPU)


def whole_loss(running: GeneratorLoop) -> float:
    """The objective on all images as they are, without crops and flips."""
    images, labels = draw_scenes(32, 36)
    pixels = images.float() / 255
    protected = (pixels + running.generator(pixels, labels)).clamp(0, 1)
    running.objective.begin_step()
    return float(running.objective.loss(protected, labels)[0].detach())


@pytest.mark.parametrize(
    ("objective", "tasks"),
    [(ObjectiveName.EM, TASKS), (ObjectiveName.TAP, TASKS), (ObjectiveName.SEP, TASKS.subset(["bright", "normals"]))],
    ids=["em", "tap", "sep, two tasks"],
)
def test_a_generator_lowers_its_objective(objective: ObjectiveName, tasks: TaskSet) -> None:
    records: list[StepRecord] = []
    running = loop(objective, tasks, 24)
    before = whole_loss(running)
    running.run(on_step=records.append)
    assert whole_loss(running) < before - 0.01
    assert 0 <= records[-1].agreement <= 1


def test_dense_tasks_alone_have_the_carrier_which_training_leaves_as_it_is() -> None:
    records: list[StepRecord] = []
    running = loop(ObjectiveName.EM, TASKS.dense, 2)
    images, labels = draw_scenes(4, 36)
    before = running.generator.perturb(images.float() / 255, labels)
    running.run(on_step=records.append)
    assert torch.equal(running.generator.perturb(images.float() / 255, labels), before)
    assert (records[0].intra, records[0].inter) == (0, 0)


def test_a_stopped_run_with_dense_tasks_continues_bit_for_bit() -> None:
    whole, first, second = (loop(ObjectiveName.EM, TASKS, 4) for _ in range(3))
    whole.run()
    first.run(until=2)
    second.load_state_dict(first.state_dict())
    second.run()
    for name, weight in whole.generator.state_dict().items():
        assert torch.equal(weight, second.generator.state_dict()[name]), name
