"""Embeddings of label maps: what is painted where, what is not protected, what a checkpoint keeps."""

import math
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from mtlue_cli.generator.checkpoint import CheckpointCard, load_checkpoint, save_checkpoint
from mtlue_cli.generator.code_patterns import STRIDE
from mtlue_cli.generator.inference import PreparedGenerator
from mtlue_cli.generator.model import GeneratorConfig, PerturbationGenerator
from mtlue_cli.generator.painting import QUIET, SOFT, TintVolume
from mtlue_cli.generator.tiles import SIDE, class_tints
from mtlue_cli.tasks.label_tensors import as_labels, class_shares, empty_maps
from mtlue_cli.tasks.spec import Task, TaskSet
from tests.dense_sample import DEPTH, NORMALS, PARTS, TASKS, draw_scenes

CONFIG = GeneratorConfig(image_size=32)


def generator(tasks: TaskSet = TASKS, seed: int = 0) -> PerturbationGenerator:
    _, labels = draw_scenes(16, 32)
    return PerturbationGenerator(CONFIG, tasks, seed, class_shares(labels, tasks)).eval()


def scenes(count: int = 4, size: int = 32, seed: int = 9) -> tuple[Tensor, dict[str, Tensor]]:
    images, labels = draw_scenes(count, size, seed)
    return images.float() / 255, labels


@pytest.mark.parametrize("tasks", [TASKS, TASKS.dense, TASKS.subset(["depth"])], ids=["mixed", "dense", "depth"])
@pytest.mark.parametrize("size", [32, 30])
def test_the_bound_holds_and_the_size_is_that_of_the_images(tasks: TaskSet, size: int) -> None:
    images, labels = scenes(size=size)
    delta = generator(tasks)(images, labels).detach()
    assert delta.shape == images.shape
    assert float(delta.abs().max()) <= 8 / 255
    assert float(delta.abs().mean()) > 2 / 255


@pytest.mark.parametrize("task", [PARTS, DEPTH, NORMALS], ids=lambda task: task.name)
def test_a_label_shows_where_it_stands_and_nowhere_far(task: Task) -> None:
    """A victim of pixels finds the code within a few of them."""
    images, labels = scenes(1)
    changed = {name: column.clone() for name, column in labels.items()}
    region = changed[task.name][..., 10:20, 10:20]
    region.copy_(2 - region if task is PARTS else 6 - region if task is DEPTH else region.flip(1))
    model = generator()
    model.dense_embeddings.requires_grad_(False)
    found, other = (model.painter(maps, None, 1, images.shape[-2:]) for maps in (labels, changed))
    for name, cell, reach in (("pattern", 1, 0), ("embedding", STRIDE, 2)):
        difference = (getattr(found, name) - getattr(other, name)).abs().sum(dim=1)[0]
        near = slice(10 // cell - reach, -(-20 // cell) + reach)
        assert float(difference[near, near].max()) > 0.01
        difference[near, near] = 0
        assert float(difference.max()) == 0


def test_the_same_label_has_the_same_tint_wherever_it_lies_and_in_the_mirror() -> None:
    embedding = generator().dense_embeddings.of_task("parts")
    labels = torch.zeros(1, 32, 32, dtype=torch.int64)
    painted = embedding(labels, 1, (32, 32)).pattern
    assert float(painted.detach().abs().max()) > 0.1
    assert torch.equal(painted, painted[..., :1, :1].expand_as(painted))


def test_a_tile_that_has_become_a_texture_is_repeated() -> None:
    embedding = generator().dense_embeddings.of_task("parts")
    with torch.no_grad():
        embedding.tiles[0, :, 3, 5] = 7.0
    painted = embedding(torch.zeros(1, 32, 32, dtype=torch.int64), 1, (32, 32)).pattern
    found = (painted[0, 0] == 7.0).nonzero().tolist()
    assert found == [[row, column] for row in range(3, 32, SIDE) for column in range(5, 32, SIDE)]


PLAIN = TASKS.subset(["bright", "parts"])


def test_rarer_image_labels_soften_the_tints() -> None:
    volume = TintVolume(PLAIN.image_level, [[0.2, 0.8]])
    cpu = torch.device("cpu")
    assert volume({"bright": torch.tensor([0, 1])}, 2, cpu).tolist() == pytest.approx([SOFT, 1.0])
    mean = (1 + SOFT) / 2
    assert volume({"bright": torch.tensor([-1])}, 1, cpu).tolist() == pytest.approx([mean])
    assert volume({}, 2, cpu).tolist() == pytest.approx([mean] * 2)
    assert TintVolume(TaskSet(()), [])({}, 2, cpu).tolist() == [1.0, 1.0]


def test_beside_one_image_label_nothing_but_tints_is_painted() -> None:
    """A pixel of a class without a tint stays as it was, a label of the image is heard in the others."""
    model = generator(PLAIN)
    images, labels = scenes(2)
    deltas = [model.perturb(images, {"parts": labels["parts"], "bright": torch.full((2,), index)}) for index in (0, 1)]
    tinted = class_tints(class_shares(draw_scenes(16, 32)[1], PLAIN)[1])[:, 1] > 0
    painted = tinted[labels["parts"].clamp_min(0)] & (labels["parts"] >= 0)
    for delta in deltas:
        assert not delta.movedim(1, -1)[~painted].any()
    means = sorted(float(delta.abs().movedim(1, -1)[painted].mean()) for delta in deltas)
    assert means == pytest.approx([8 * math.tanh(3 * SOFT), 8 * math.tanh(3)], rel=1e-3)
    np.testing.assert_allclose(
        PreparedGenerator(model).perturb(images, labels), model.perturb(images, labels), atol=1e-3
    )


def test_whatever_the_decoder_learns_the_tints_stay_as_they_are() -> None:
    model = generator(PLAIN)
    images, labels = scenes(2)
    before = model.perturb(images, labels)
    model(images, labels).square().sum().backward()
    with torch.no_grad():
        for weight in model.decoder.parameters():
            assert weight.grad is not None
            assert not weight.grad.any()
            weight.add_(0.5)
    assert torch.equal(model.perturb(images, labels), before)
    only = {"bright": labels["bright"]}
    assert not torch.equal(model.perturb(images, only), generator(PLAIN).perturb(images, only))


def test_without_its_map_an_image_has_the_patterns_of_its_labels() -> None:
    model = generator(PLAIN)
    images, _ = scenes(2)
    low, high = (model.perturb(images, {"bright": torch.full((2,), index)}) for index in (0, 1))
    assert float((low - high).abs().mean()) > 2


def test_training_leaves_the_tints_of_segmentation_as_they_are() -> None:
    embeddings = generator().dense_embeddings
    trained = {name: embeddings.of_task(name).tiles.requires_grad for name in TASKS.dense.names}
    assert trained == {"parts": False, "depth": True, "normals": True}


def test_patterns_of_image_level_tasks_are_quiet_beside_tints() -> None:
    model = generator()
    images, labels = scenes(2)
    loud = torch.ones(1, CONFIG.label_channels, 16, 16)
    alone, beside = (model.painter(labels, level, 2, images.shape[-2:]) for level in (None, loud))
    torch.testing.assert_close(beside.pattern - alone.pattern, torch.full_like(alone.pattern, QUIET))


def test_the_tints_of_one_task_fill_the_bound_before_any_training() -> None:
    tasks = TASKS.subset(["parts"])
    images, labels = scenes()
    delta = generator(tasks)(0.25 + images / 2, labels).detach() * 255
    labelled = delta.abs().mean(dim=1)[labels["parts"] >= 0]
    assert float(labelled.mean()) > 7


@pytest.mark.parametrize("left_out", ["parts", "depth", "normals"])
def test_a_task_that_is_not_protected_leaves_no_trace_of_its_labels(left_out: str) -> None:
    """Whatever its map, delta is the same to the bit: the map is not asked for, and an unlabelled one says as much."""
    model = train_a_little()
    images, labels = scenes()
    _, other = scenes(seed=77)
    kept = {name: column for name, column in labels.items() if name != left_out}
    delta = model.perturb(images, kept)
    blank = as_labels(empty_maps(TASKS[left_out], 4, 32))
    assert torch.equal(model.perturb(images, {**kept, left_out: blank}), delta)
    protected = [model.perturb(images, {**kept, left_out: maps[left_out]}) for maps in (labels, other)]
    assert float((protected[0] - protected[1]).abs().mean()) > 0.1
    assert float((protected[0] - delta).abs().mean()) > 0.1


def test_what_is_not_protected_has_the_mean_of_training() -> None:
    model = train_a_little()
    embedding = model.dense_embeddings.of_task("parts")
    assert float(embedding.mean.abs().max()) > 0
    neutral = embedding(None, 2, (32, 32))
    assert torch.equal(neutral.latent, embedding.mean.view(1, -1, 1, 1).expand(2, -1, 8, 8))
    assert not neutral.pattern.any()


def train_a_little() -> PerturbationGenerator:
    """A generator whose running means are those of some batches."""
    model = generator().train()
    images, labels = scenes(8)
    for _ in range(5):
        model(images, labels)
    return model.eval()


def test_the_running_mean_moves_in_training_alone() -> None:
    model = generator()
    images, labels = scenes()
    embeddings = [model.dense_embeddings.of_task(name) for name in TASKS.dense.names]
    before = [embedding.mean.clone() for embedding in embeddings]
    model(images, labels)
    assert all(torch.equal(mean, embedding.mean) for mean, embedding in zip(before, embeddings, strict=True))


def test_dense_tasks_leave_the_weights_of_the_others_as_they_were() -> None:
    mixed, alone = generator(), generator(TASKS.image_level)
    for name, weight in alone.state_dict().items():
        assert torch.equal(weight, mixed.state_dict()[name]), name


def test_the_seed_decides_the_tints() -> None:
    first, again, other = (generator(seed=seed).dense_embeddings.of_task("depth").tiles for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def card(model: PerturbationGenerator) -> CheckpointCard:
    return CheckpointCard(
        model.tasks, 8, CONFIG.image_size, "em", {}, asdict(CONFIG), "", "unspecified", {}, "2025-01-01T00:00:00+00:00"
    )


def test_a_checkpoint_keeps_dense_tasks_and_their_perturbation(tmp_path: Path) -> None:
    model = train_a_little()
    save_checkpoint(tmp_path / "made.safetensors", model, card(model))
    loaded = load_checkpoint(tmp_path / "made.safetensors")
    assert loaded.card.tasks == TASKS
    images, labels = scenes()
    np.testing.assert_array_equal(loaded.generator.perturb(images, labels), model.perturb(images, labels))
