"""Embeddings of label maps: what is painted where, what is not protected, what a checkpoint keeps."""

from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from mtlue_cli.generator.checkpoint import CheckpointCard, load_checkpoint, save_checkpoint
from mtlue_cli.generator.image_encoder import STRIDE
from mtlue_cli.generator.model import GeneratorConfig, PerturbationGenerator
from mtlue_cli.generator.textures import initial_textures, tile_side, waves
from mtlue_cli.tasks.dense import as_labels, empty_maps
from mtlue_cli.tasks.shares import class_shares
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
    found, other = (model.dense_embeddings(maps, 1, images.shape[-2:], None) for maps in (labels, changed))
    for name, cell, reach in (("pattern", 1, 0), ("latent", STRIDE, 2)):
        difference = (getattr(found, name) - getattr(other, name)).abs().sum(dim=1)[0]
        near = slice(10 // cell - reach, -(-20 // cell) + reach)
        assert float(difference[near, near].max()) > 0.01
        difference[near, near] = 0
        assert float(difference.max()) == 0


def test_the_same_label_has_the_same_texture_wherever_it_lies_and_in_the_mirror() -> None:
    embedding = generator().dense_embeddings.of_task("parts")
    labels = torch.zeros(1, 32, 32, dtype=torch.int64)
    painted = embedding(labels, 1, (32, 32)).pattern
    period = embedding.tiles.shape[-1]
    assert float(painted.detach().std()) > 0.1
    torch.testing.assert_close(painted[..., 4:8, 4:8], painted[..., 4 + period : 8 + period, 4:8])
    torch.testing.assert_close(painted[..., :16], painted[..., :16].flip(-1))


def test_textures_of_all_codes_are_far_apart() -> None:
    embeddings = PerturbationGenerator(CONFIG, TASKS).dense_embeddings
    tiles = torch.cat([embeddings.of_task(name).tiles.flatten(1) for name in TASKS.dense.names])
    unit = torch.nn.functional.normalize(tiles.detach(), dim=1)
    cosine = (unit @ unit.T).fill_diagonal_(-1)
    assert float(cosine.max()) < 1e-4
    assert len(tiles) == 3 + 8 + 6


@pytest.mark.parametrize(("codes", "side"), [(1, 8), (48, 8), (49, 16)])
def test_tiles_grow_with_the_number_of_codes(codes: int, side: int) -> None:
    assert tile_side(codes, 3) == side


@pytest.mark.parametrize("side", [8, 16])
def test_waves_are_orthogonal_mirror_images_of_themselves_within_the_band(side: int) -> None:
    found = waves(side)
    products = found.flatten(1) @ found.flatten(1).T / side**2
    torch.testing.assert_close(products, torch.eye(len(found)), atol=1e-4, rtol=0)
    torch.testing.assert_close(found, found.flip(-1))
    power = torch.fft.fft2(found).abs().square()
    frequency = torch.fft.fftfreq(side)
    outside = (torch.hypot(frequency[:, None], frequency[None]) - 0.3).abs() > 0.1001
    assert float(power[:, outside].max()) < 1e-6 * float(power.max())


def test_textures_of_a_task_cancel_out_over_the_pixels_of_the_data() -> None:
    priors = [[0.5, 0.3, 0.2], [0.25] * 4]
    tiles = initial_textures(priors, 3, torch.Generator().manual_seed(0))
    assert [tuple(tile.shape) for tile in tiles] == [(3, 3, 8, 8), (4, 3, 8, 8)]
    power = 0.0
    for shares, tile in zip(priors, tiles, strict=True):
        share = torch.tensor(shares).view(-1, 1, 1, 1)
        assert float((share * tile).sum(dim=0).abs().max()) < 1e-5
        power += float((share * tile.square()).sum(dim=0).mean())
    assert power == pytest.approx(len(priors), rel=1e-4)
    unit = torch.nn.functional.normalize(tiles[1].flatten(1), dim=1)
    assert float((unit @ unit.T).fill_diagonal_(-1).max()) == pytest.approx(-1 / 3, abs=1e-4)


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


def test_the_seed_decides_the_textures() -> None:
    first, again, other = (generator(seed=seed).dense_embeddings.of_task("parts").tiles for seed in (1, 1, 2))
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
